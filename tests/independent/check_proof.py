"""Checks a proof that `oms prove` wrote, with hashlib and Ed25519 alone. Shares no code with Ordermill.

    python check_proof.py PROOF.json PUBLIC_KEY

Written from the descriptions in libs/ordermill/eventlog/records.py, merkle.py and checkpoints.py. Prints one line a
fault and, last, how many events are signed for; exit status 1 if there was a fault.
"""

import base64
import hashlib
import json
import sys
from datetime import datetime, timezone

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 (runs on Python 3.9 too)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def micros(text: str) -> int:
    passed = datetime.fromisoformat(text.replace("Z", "+00:00")) - EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def event_hash(event: dict) -> bytes:
    head = [event[name] for name in ("stream", "version", "event_id", "type")]
    head += [event[name] for name in ("correlation_id", "causation_id", "actor")]
    head += [micros(event["happened_at"]), micros(event["recorded_at"])]
    text = "".join(f"{field}\n" for field in head)
    return sha256(bytes.fromhex(event["previous"]) + text.encode() + event["data"].encode())


def root_of(event: dict) -> str:
    node = sha256(b"\0" + event["seq"].to_bytes(8, "big") + event_hash(event))
    for step in event["path"]:
        sibling = bytes.fromhex(step["hash"])
        node = sha256(b"\1" + (sibling + node if step["side"] == "left" else node + sibling))
    return node.hex()


def signed(checkpoint: dict, key: Ed25519PublicKey) -> bool:
    fields = [checkpoint[name] for name in ("service", "number", "first", "last", "root", "previous")]
    text = "".join(f"{field}\n" for field in ("ordermill checkpoint", *fields, micros(checkpoint["made_at"])))
    try:
        key.verify(base64.b64decode(checkpoint["signature"]), text.encode())
    except InvalidSignature:
        return False
    return True


def faults(proof: dict, key: Ed25519PublicKey) -> tuple[list[str], int]:
    found: list[str] = []
    roots: dict[tuple[str, int], str] = {}
    for each in proof["checkpoints"]:
        if signed(each, key):
            roots[each["service"], each["number"]] = each["root"]
        else:
            found.append(f"{each['service']}: checkpoint {each['number']} is not signed by this key")
    ends: dict[tuple[str, str], tuple[int, str]] = {}
    closed = 0
    for event in proof["events"]:
        stream = (event["service"], event["stream"])
        version, before = ends.get(stream, (0, "0" * 64))
        if (event["version"], event["previous"]) != (version + 1, before):
            found.append(f"{event['stream']}: version {event['version']} does not follow version {version}")
        ends[stream] = (event["version"], event_hash(event).hex())
        if event["checkpoint"] is not None:
            closed += 1
            if roots.get((event["service"], event["checkpoint"])) != root_of(event):
                found.append(f"{event['stream']}: version {event['version']} is not in its checkpoint")
    return found, closed


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        wrong, count = faults(json.load(file), Ed25519PublicKey.from_public_bytes(base64.b64decode(sys.argv[2])))
    print(*wrong, f"{count} events signed for, {len(wrong)} faults", sep="\n")
    sys.exit(1 if wrong else 0)
