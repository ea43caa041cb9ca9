"""Every parser that meets what strangers wrote: what it is fed with, and what it promises whatever comes."""

from __future__ import annotations

import asyncio
import importlib
import json
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import ordermill.contracts
from ordermill.contracts.base import Malformed, UnknownType, UnknownVersion, decode
from ordermill.contracts.tracking import Milestone
from ordermill.eventlog.checkpoints import NotHeld, Signer, is_signed, read_held
from ordermill.eventlog.engine import Engine
from ordermill.eventlog.memory import MemoryStore
from ordermill.eventlog.proofs import NoProof, Proof, check, prove, read_proof
from ordermill.network import NetworkInvalid, default_network_text, read_network
from ordermill.service.checkpointing import make_checkpoint
from ordermill.service.declare import Service
from ordermill.service.messages import NotACloudEvent, envelope_of, record_key
from ordermill.service.metrics import Metrics
from ordermill.service.running import RunningService
from services.capture.adapters import ADAPTERS, AdapterContext, adapt, verify_shopify_hmac
from services.returns.errors import PolicyInvalid as ReturnPolicyInvalid
from services.returns.policy import BUILT_IN, parse_policy
from services.routing.errors import PolicyInvalid
from services.routing.policy import default_policy_text
from services.routing.rules import read_rules
from services.tracking.adapters import milestone_of
from services.tracking.adapters.easypost import scans_of
from services.tracking.errors import TrackerUnreadable
from tests.domain.test_tracking_adapters import TRACKER
from tests.integration.shelves import SHELVES, receive, take, task

ROOT = Path(__file__).parents[2]
MONDAY = datetime(2026, 3, 2, 14, 15, 30, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")

for module in pkgutil.iter_modules(ordermill.contracts.__path__):
    importlib.import_module(f"ordermill.contracts.{module.name}")


@dataclass(frozen=True)
class Target:
    """`check` raises over whatever the parser may not do with the bytes."""

    name: str
    seeds: tuple[bytes, ...]
    check: Callable[[bytes], None]


def _sound(complaint: object, longest: int = 5_000) -> None:
    """Fit for a log and for HTTP: no half characters, and no longer than people read."""
    assert 0 < len(str(complaint).encode()) < 4 * longest
    assert len(str(complaint)) < longest


def _adapter(name: str, payload: bytes) -> None:
    """Never an error; always messages or reasons; what it makes is sound on the wire."""
    for topic, trusted in (("orders/create", True), (None, False)):
        context = AdapterContext("sample", MONDAY, topic=topic, zone=NEW_YORK, honors_extension=trusted)
        adapted = adapt(name, payload, context)
        assert adapted.messages or adapted.rejections or adapted.notes
        for message in adapted.messages:
            assert decode(message.type, message.to_json()) == message
            assert message.channel == "sample"
        for reason in (*adapted.rejections, *adapted.notes):
            assert reason.code.startswith(f"{name}.") and reason.text
            _sound(reason)


def _signature(payload: bytes) -> None:
    header, _, body = payload.decode("latin-1").partition("\n")
    assert not verify_shopify_hmac("a secret that nobody guesses", body.encode(), header)


def _tracker(payload: bytes) -> None:
    try:
        tracker = json.loads(payload)
    except (ValueError, RecursionError):
        return  # whoever has it by HTTP has it parsed
    try:
        scans = scans_of(tracker)
    except TrackerUnreadable as error:
        _sound(error)
        return
    for scan in scans:
        assert decode(scan.type, scan.to_json()) == scan
        assert isinstance(milestone_of(scan.carrier, scan.code), Milestone)


def _codes(payload: bytes) -> None:
    carrier, _, code = payload.decode(errors="replace").partition("\n")
    assert isinstance(milestone_of(carrier, code), Milestone)


@dataclass(frozen=True)
class _Record:
    topic: str
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def _headers(payload: bytes) -> None:
    """A header a line, `name=value`; without an equals sign it has no value."""
    headers: list[tuple[str, bytes | None]] = []
    for line in payload.split(b"\n"):
        name, equals, value = line.partition(b"=")
        headers.append((name.decode(errors="replace"), value if equals else None))
    record_key(_Record("oms.channel.orders", 0, None, None, headers))
    try:
        found = envelope_of(headers)
    except NotACloudEvent as error:
        _sound(error)
        return
    assert found.id and found.source and found.correlation_id
    assert found.inbox_key == envelope_of(headers).inbox_key
    assert found.happened_at is None or found.happened_at.tzinfo is UTC


def _body(payload: bytes) -> None:
    """The type's name, then the body."""
    name, _, body = payload.partition(b"\n")
    try:
        message = decode(name.decode(errors="replace"), body)
    except (UnknownType, UnknownVersion, Malformed) as error:
        _sound(error)
        return
    assert decode(message.type, message.to_json()) == message


_EVERY_KEY = 100_000
"""A settings file is our own merchant's: each faulty key is named."""


def _network(payload: bytes) -> None:
    try:
        read_network.__wrapped__(payload.decode(errors="replace"))
    except NetworkInvalid as error:
        _sound(error, _EVERY_KEY)


def _rules(network: str, payload: bytes) -> None:
    """A policy over the network that comes with Ordermill."""
    try:
        rules = read_rules.__wrapped__(payload.decode(errors="replace"), network)
    except PolicyInvalid as error:
        _sound(error, _EVERY_KEY)
    else:
        assert len(rules.hash) == 64


def _both(payload: bytes) -> None:
    """A network, under the policy that comes with Ordermill."""
    try:
        rules = read_rules.__wrapped__(default_policy_text(), payload.decode(errors="replace"))
    except (PolicyInvalid, NetworkInvalid) as error:
        _sound(error, _EVERY_KEY)
    else:
        assert len(rules.hash) == 64
        for site in rules.sites:
            site.hands_over(MONDAY)


def _return_policy(payload: bytes) -> None:
    try:
        parse_policy(payload.decode(errors="replace"), "policy.toml")
    except ReturnPolicyInvalid as error:
        _sound(error, _EVERY_KEY)


def _proof(payload: bytes) -> None:
    """Whatever it says, there is an answer; and what was not signed is never said to hold."""
    try:
        proof = read_proof(payload)
    except NoProof as error:
        _sound(error)
        return
    assert read_proof(proof.model_dump_json()) == proof
    found = check(proof, [SIGNER.key])
    closed = {event for event in proof.events if event.checkpoint is not None}
    assert found.faults or closed <= set(PROOF.events)


def _held(payload: bytes) -> None:
    try:
        held = read_held(payload)
    except NotHeld as error:
        _sound(error)
        return
    assert all(each in PROOF.checkpoints for each in held if is_signed(each))


SIGNER = Signer(bytes(32))


async def _proof_of_a_shelf() -> Proof:
    store = MemoryStore()
    running = RunningService(
        Service("inventory", (SHELVES,)), Engine(store, Service("inventory", (SHELVES,)).rules(), lambda: MONDAY),
        Metrics(),
    )  # fmt: skip
    for _ in range(2):
        await running.engine.run([task(receive("shelf-a", 2)), task(receive("shelf-b", 3)), task(take("shelf-a", 1))])
        await store.sequence()
        await make_checkpoint(running, SIGNER)
    return await prove({"inventory": store}, {"inventory": ["shelf-a", "shelf-b"]}, "two shelves", MONDAY)


PROOF = asyncio.run(_proof_of_a_shelf())


def _files(folder: Path) -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix != ".md")


def _wire() -> tuple[bytes, ...]:
    """Each published example of a message, as `_body` takes it."""
    found = []
    for path in sorted((ROOT / "schemas" / "examples").glob("*.json")):
        found.append(path.stem.encode() + b"\n" + json.dumps(_data(json.loads(path.read_bytes()))).encode())
    return tuple(found)


def _data(example: Any) -> Any:
    return example["data"] if isinstance(example, dict) and "data" in example else example


HEADERS = (
    b"ce_specversion=1.0\ncontent-type=application/json\nce_id=placed-1001\nce_source=/channels/web\n"
    b"ce_type=oms.channel.order-placed.v1\nce_time=2026-03-02T09:00:00+01:00\nce_correlationid=order-1001\n"
    b"traceparent=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n"
    b"ce_traceparent=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\nce_dataschema"
)
TARGETS = (
    *(Target(name, _files(ROOT / "samples" / name), partial(_adapter, name)) for name in ADAPTERS),
    Target("shopify-signature", (b"dGhlIHNpZ25hdHVyZSBvZiBzb21ldGhpbmcgZWxzZS4=\n{}",), _signature),
    Target("easypost", (json.dumps({"object": "Tracker", **TRACKER}).encode(),), _tracker),
    Target("carrier-codes", (b"cedar\nhub.arrived", b"swift\n300", b"easypost\ndelivered"), _codes),
    Target("headers", (HEADERS,), _headers),
    Target("bodies", _wire(), _body),
    Target("network", (default_network_text().encode(),), _network),
    Target("routing-policy", (default_policy_text().encode(),), partial(_rules, default_network_text())),
    Target("routing-network", (default_network_text().encode(),), _both),
    Target("return-policy", (BUILT_IN.read_bytes(),), _return_policy),
    Target("proof", (PROOF.model_dump_json().encode(),), _proof),
    Target("held", (b"\n".join(each.to_json() for each in PROOF.checkpoints),), _held),
)
