"""Dead letters: what could not be handled is kept whole, with its reason, until a person redrives or drops it."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from ordermill.contracts.base import Fact
from ordermill.contracts.fields import Part
from ordermill.contracts.service import DeadLettered, Header, LetterDropped, LetterRedriven
from ordermill.decider import Decider, Decision, decision
from ordermill.errors import Refused
from ordermill.eventlog.store import Store
from ordermill.eventlog.views import View

LARGEST_IN_EVENT = 256 * 1024
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class LetterNotWaiting(Refused):
    """A dead letter that was redriven or dropped before, or never was."""

    code = "service.letter-not-waiting"

    def __init__(self, letter_id: str, status: str) -> None:
        super().__init__(f"dead letter {letter_id} is {status}; only waiting ones can be redriven or dropped")


class LetterNeedsCorrecting(Refused):
    """A vendor's payload as a dead letter: what is wrong with it stays wrong, so redriving it does not help."""

    code = "service.letter-needs-correcting"

    def __init__(self, letter_id: str, channel: str, format_name: str) -> None:
        super().__init__(
            f"it is a payload of {channel} in the format {format_name}, which would be rejected again. Write it to a "
            f"file (`oms dlq show {letter_id} --body > FILE`), correct it, send it in (`oms orders submit FILE "
            f"--format {format_name} --channel {channel}`), then drop the letter"
        )


@dataclass(frozen=True, slots=True)
class KeepLetter:
    letter: DeadLettered


@dataclass(frozen=True, slots=True)
class RedriveLetter:
    letter_id: str


@dataclass(frozen=True, slots=True)
class DropLetter:
    letter_id: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Letter:
    letter: DeadLettered | None = None
    status: str = "unknown"


def decide(state: Letter, command: KeepLetter | RedriveLetter | DropLetter) -> list[Fact]:
    if isinstance(command, KeepLetter):
        return [] if state.letter else [command.letter]
    if state.status != "waiting":
        raise LetterNotWaiting(command.letter_id, state.status)
    if isinstance(command, RedriveLetter):
        return [LetterRedriven(letter_id=command.letter_id)]
    return [LetterDropped(letter_id=command.letter_id, note=command.note)]


def evolve(state: Letter, event: Fact) -> Letter:
    match event:
        case DeadLettered():
            return Letter(event, "waiting")
        case LetterRedriven():
            return Letter(state.letter, "redriven")
        case LetterDropped():
            return Letter(state.letter, "dropped")
        case _:
            return state


LETTERS = Decider("letter", Letter(), evolve, shared=True)


def summary(state: Letter) -> dict[str, Any]:
    if state.letter is None:
        return {"status": state.status}
    return {
        "status": state.status,
        **state.letter.model_dump(mode="json", exclude={"value_base64", "headers", "key_base64", "headers_sha256"}),
    }


LETTER_VIEW = View("dead_letters", "letter", summary, indexed=("status",))


class _Envelope(Part):
    """A record's key and headers."""

    key_base64: str | None
    headers: tuple[Header, ...]


def letter_of(
    record: Any, letter_id: str, error: Exception, attempts: int, message_type: str, message_id: str
) -> tuple[DeadLettered, dict[bytes, bytes]]:
    """The letter for a record, and what of it is too large for an event: the body, or key and headers."""
    value: bytes = record.value or b""
    digest = sha256(value).digest()
    envelope = _Envelope(
        key_base64=None if record.key is None else b64encode(record.key).decode(),
        headers=tuple(
            Header(name=name, value_base64=b64encode(value or b"").decode()) for name, value in record.headers
        ),
    )
    beside = {digest: value} if len(value) > LARGEST_IN_EVENT else {}
    headers_sha256 = None
    if len(written := envelope.model_dump_json().encode()) > LARGEST_IN_EVENT:
        of_headers = sha256(written)
        beside[of_headers.digest()] = written
        envelope, headers_sha256 = _Envelope(key_base64=None, headers=()), of_headers.hexdigest()
    letter = DeadLettered(
        letter_id=letter_id,
        source_topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        message_type=_plain(message_type, 200),
        message_id=_plain(message_id, 200),
        code=getattr(error, "code", "ordermill.unexpected"),
        reason=_plain(str(error), 2_000)
        if hasattr(error, "code")
        else f"unexpected {type(error).__name__}: a defect of ours",
        attempts=attempts,
        key_base64=envelope.key_base64,
        headers=envelope.headers,
        size=len(value),
        sha256=digest.hex(),
        value_base64=None if digest in beside else b64encode(value).decode(),
        headers_sha256=headers_sha256,
    )
    return letter, beside


def _plain(text: str, length: int) -> str:
    """What a sender wrote may stand in a reason (an unknown field's name): nothing in it may stop the letter."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text[:length])


def keep(letter: DeadLettered) -> Decision:
    return decision(LETTERS.stream(letter.letter_id), decide, KeepLetter(letter))


def redrive(letter_id: str) -> Decision:
    return decision(LETTERS.stream(letter_id), decide, RedriveLetter(letter_id))


def drop(letter_id: str, note: str) -> Decision:
    return decision(LETTERS.stream(letter_id), decide, DropLetter(letter_id, note))


def check_redrivable(letter: DeadLettered) -> None:
    """Raises LetterNeedsCorrecting."""
    format_name, colon, channel = letter.source_topic.partition(":")
    if letter.code == "capture.not-adapted" and colon:
        raise LetterNeedsCorrecting(letter.letter_id, channel, format_name)


@dataclass(frozen=True, slots=True)
class Redriven:
    """A dead letter's record as it was polled."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]


async def body_of(store: Store, letter: DeadLettered) -> bytes:
    """The body as it came, from the event or from beside the log."""
    if letter.value_base64 is not None:
        return b64decode(letter.value_base64)
    return await store.blob(bytes.fromhex(letter.sha256)) or b""


async def whole(store: Store, letter: DeadLettered) -> DeadLettered:
    """The letter with its key and headers, from the event or from beside the log."""
    if letter.headers_sha256 is None or (written := await store.blob(bytes.fromhex(letter.headers_sha256))) is None:
        return letter
    return letter.model_copy(update=dict(_Envelope.model_validate_json(written)))


def record_of(letter: DeadLettered, body: bytes) -> Redriven:
    headers = [(header.name, b64decode(header.value_base64)) for header in letter.headers]
    key = None if letter.key_base64 is None else b64decode(letter.key_base64)
    return Redriven(letter.source_topic, letter.partition, letter.offset, 0, key, body, headers)
