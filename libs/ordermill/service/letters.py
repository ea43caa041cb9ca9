"""Dead letters over HTTP: listed, shown whole, handled after all or dropped in a person's name."""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime
from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel

from ordermill.contracts.base import decode
from ordermill.contracts.fields import Id, Part, Text
from ordermill.contracts.service import Header, LetterDropped
from ordermill.errors import OrdermillError
from ordermill.eventlog.engine import Outcome
from ordermill.eventlog.records import Row

from . import deadletters
from .deadletters import LETTER_VIEW, LETTERS
from .http import WITHOUT_NUL, Actor, Document, Done, NotHere, Page, Running, done
from .running import RunningService

logger = structlog.get_logger(__name__)

router = APIRouter()
LetterId = Annotated[str, Path(max_length=120, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")]
LETTER_BYTES_SHOWN = 64 * 1024


class LetterEnd(BaseModel):
    """Who ended a dead letter's wait, when, and with which words."""

    by: str
    at: datetime
    note: str = ""


class LetterContent(Part):
    """What was kept, with key and headers wherever they rest; `value_base64` is left out."""

    letter_id: Id
    source_topic: str
    partition: int
    offset: int
    message_type: str
    message_id: str
    code: str
    reason: str
    attempts: int
    key_base64: str | None
    headers: tuple[Header, ...]
    size: int
    sha256: str
    value_base64: str | None


class LetterShown(BaseModel):
    """One dead letter, the reason and the headers whole, of its body the first 64 KiB."""

    status: Literal["waiting", "redriven", "dropped"]
    kept_at: datetime
    letter: LetterContent
    body_base64: str
    end: LetterEnd | None = None


class DropRequest(BaseModel):
    """Why it needs no handling, for those who look at it later."""

    note: Text


class LetterDocument(Document):
    """A dead letter as lists show it; `key` is its id."""

    status: Literal["waiting", "redriven", "dropped"]
    letter_id: str
    source_topic: str
    partition: int
    offset: int
    message_type: str
    message_id: str
    code: str
    reason: str
    attempts: int
    size: int
    sha256: str


@router.get("/letters", summary="List dead letters")
async def list_letters(
    service: Running,
    _: Actor,
    status: Literal["waiting", "redriven", "dropped", "all"] = "waiting",
    after: Annotated[str, Query(max_length=200, pattern=WITHOUT_NUL)] = "",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> Page[LetterDocument]:
    where = {} if status == "all" else {"status": status}
    found = await service.engine.store.documents(LETTER_VIEW.name, where, after, limit)
    items = [LetterDocument(key=key, **document) for key, document in found]
    return Page(items=items, next=found[-1][0] if len(found) == limit else None)


@router.get("/letters/{letter_id}", summary="Show a dead letter")
async def show_letter(letter_id: LetterId, service: Running, _: Actor) -> LetterShown:
    rows, state = await _letter(service, letter_id)
    assert state.letter is not None
    letter = await deadletters.whole(service.engine.store, state.letter)
    body = await deadletters.body_of(service.engine.store, letter)
    end = None
    if state.status != "waiting":
        ended = decode(rows[-1].type, rows[-1].data)
        note = ended.note if isinstance(ended, LetterDropped) else ""
        end = LetterEnd(by=rows[-1].actor, at=rows[-1].recorded_at, note=note)
    return LetterShown(
        status=state.status,
        kept_at=rows[0].recorded_at,
        letter=LetterContent(**letter.model_dump(exclude={"headers_sha256"}) | {"value_base64": None}),
        body_base64=b64encode(body[:LETTER_BYTES_SHOWN]).decode(),
        end=end,
    )


@router.get("/letters/{letter_id}/body", summary="A dead letter's body, byte for byte", response_class=Response)
async def letter_body(letter_id: LetterId, service: Running, _: Actor) -> Response:
    _rows, state = await _letter(service, letter_id)
    assert state.letter is not None
    body = await deadletters.body_of(service.engine.store, state.letter)
    return Response(body, media_type="application/octet-stream")


@router.post("/letters/{letter_id}/redrive", summary="Handle a dead letter after all")
async def redrive_letter(letter_id: LetterId, service: Running, actor: Actor) -> Done:
    """By the service's own rules, in one transaction with the note of it. What fails again stays, and says why."""
    await _letter(service, letter_id)
    try:
        return done(await service.redrive(letter_id, actor))
    except Exception as error:
        if not isinstance(error, OrdermillError):
            logger.exception("a letter could not be redriven", letter_id=letter_id)
        return done(Outcome(error=error))


@router.post("/letters/{letter_id}/drop", summary="Decide that a dead letter needs no handling")
async def drop_letter(letter_id: LetterId, request: DropRequest, service: Running, actor: Actor) -> Done:
    """It stays in the log, with the note."""
    await _letter(service, letter_id)
    (outcome,) = await service.execute_many([((deadletters.drop(letter_id, request.note),), None)], actor)
    return done(outcome)


async def _letter(service: RunningService, letter_id: str) -> tuple[list[Row], deadletters.Letter]:
    rows = await service.engine.store.read_stream(LETTERS.stream(letter_id))
    state = LETTERS.fold(decode(row.type, row.data) for row in rows)
    if state.letter is None:
        raise NotHere("dead letter", letter_id)
    return rows, state
