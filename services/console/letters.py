"""Dead letters of all services: listed, looked at whole, redriven or dropped, one or many at once."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from ordermill.contracts.service import DeadLettered
from ordermill.errors import OrdermillError, Refused
from ordermill.names import SERVICES
from ordermill.service.http import WITHOUT_NUL

from .described import REFUSES, Bytes, EventStream, form, several
from .live import stream
from .pages import Console, Notice, This, answer, page, render
from .pictures.letters import Letter
from .security import Form, Me, Session

router = APIRouter()
PATH = "/machine/letters"
PAGE = 100
_BYTES_SHOWN = 4_096
_A_ROW = 16
ServiceName = Annotated[str, Path(pattern=f"^({'|'.join(SERVICES)})$")]
LETTERS = several("Dead letters, as `service:id`.")
BACK = "The page to go back to."
LetterId = Annotated[str, Path(max_length=120, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")]


class NothingTicked(Refused):
    """An action on letters without letters."""

    code = "console.nothing-ticked"

    def __init__(self) -> None:
        super().__init__("tick the letters first")


class NoteMissing(Refused):
    """Letters may only be dropped with a reason."""

    code = "console.note-missing"

    def __init__(self) -> None:
        super().__init__("say why they need no handling: others will read it in the log")


@dataclass(frozen=True)
class Filters:
    """Which letters are listed."""

    status: Annotated[Literal["waiting", "redriven", "dropped", "all"], Query()] = "waiting"
    service: Annotated[str, Query(max_length=40, pattern=WITHOUT_NUL)] = ""
    code: Annotated[str, Query(max_length=120, pattern=WITHOUT_NUL)] = ""

    def href(self, **changes: str) -> str:
        return f"{PATH}?{urlencode({'status': self.status, 'service': self.service, 'code': self.code} | changes)}"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A service's dead letters that wait: how many, since when."""

    count: int
    since: datetime | None


async def waiting_by_service(this: Console) -> dict[str, Waiting]:
    rows = await this.pool.fetch(
        """SELECT service, count(*), min(kept_at) FROM letters WHERE status = 'waiting'
           GROUP BY service ORDER BY service"""
    )
    return {service: Waiting(count, since) for service, count, since in rows}


async def _listed(this: Console, filters: Filters) -> dict[str, Any]:
    where = """($1 = 'all' OR status = $1) AND ($2 = '' OR service = $2) AND ($3 = '' OR code = $3)"""
    arguments = (filters.status, filters.service, filters.code)
    rows = await this.pool.fetch(
        f"SELECT doc FROM letters WHERE {where} ORDER BY kept_at, key LIMIT {PAGE}",  # noqa: S608  # fixed text
        *arguments,
    )
    kinds = await this.pool.fetch(
        """SELECT service, code, count(*) AS count FROM letters WHERE ($1 = 'all' OR status = $1)
           GROUP BY service, code ORDER BY count DESC, service, code LIMIT 50""",
        filters.status,
    )
    return {
        "letters": [Letter.model_validate_json(row[0]) for row in rows],
        "kinds": kinds,
        "count": sum(
            kind["count"]
            for kind in kinds
            if filters.service in ("", kind["service"]) and filters.code in ("", kind["code"])
        ),
        "filters": filters,
    }


@router.get(PATH, summary="Dead letters of all services")
async def letters(request: Request, me: Me, this: This, filters: Annotated[Filters, Depends()]) -> Response:
    return page(request, "machine/letters.html", **await _listed(this, filters))


@router.get(f"{PATH}/live", summary="The list of dead letters, as it changes", response_class=EventStream)
async def live(request: Request, me: Me, this: This, filters: Annotated[Filters, Depends()]) -> Response:
    async def html() -> str:
        return render(request, "machine/letters_rows.html", **await _listed(this, filters))

    return await stream(request, ["letters"], html, this.live)


@router.post(
    f"{PATH}/redrive",
    summary="Have dead letters handled after all",
    openapi_extra=form(form_id=False, letter=LETTERS, back=BACK),
)
async def redrive(request: Request, form: Form, me: Me, this: This) -> Response:
    return await _each(request, this, me, form.all("letter"), "redrive", {}, form["back"])


@router.post(
    f"{PATH}/drop",
    summary="Decide that dead letters need no handling",
    openapi_extra=form(form_id=False, letter=LETTERS, note="Why, kept with each.", back=BACK),
)
async def drop(request: Request, form: Form, me: Me, this: This) -> Response:
    if not form["note"]:
        raise NoteMissing
    return await _each(request, this, me, form.all("letter"), "drop", {"note": form["note"][:500]}, form["back"])


async def _each(
    request: Request, this: Console, me: Session, keys: Sequence[str], do: str, body: Any, back: str
) -> Response:
    """One after the other, oldest first: messages of one key must keep their order."""
    wanted = [key for key in keys if re.fullmatch(r"[a-z]+:[A-Za-z0-9][A-Za-z0-9._:-]{0,119}", key)][:PAGE]
    rows = await this.pool.fetch("SELECT doc FROM letters WHERE key = ANY ($1)", wanted)
    if not rows:
        raise NothingTicked
    done, stays = 0, []
    for letter in sorted((Letter.model_validate_json(row[0]) for row in rows), key=lambda letter: letter.turn):
        try:
            told = await this.doors.post(letter.service, f"/letters/{quote(letter.letter_id)}/{do}", body, me)
            fault = None if told["code"] is None else f"{told['detail']} [{told['code']}]"
        except OrdermillError as error:
            fault = f"{error} [{error.code}]"
        if fault is None:
            done += 1
        elif "service.letter-not-waiting" in fault:
            stays.append(await _who_was_first(this, letter))
        else:
            stays.append(f"{letter.service} {letter.letter_id[:13]} stays: {fault}")
    word = "Handled after all" if do == "redrive" else "Dropped"
    parts = [f"{word}: {done}."] if done else []
    parts += stays[:3] + ([f"And {len(stays) - 3} more stay."] if len(stays) > 3 else [])
    return answer(request, Notice("done" if not stays else "refused", " ".join(parts)), back or PATH)


async def _who_was_first(this: Console, letter: Letter) -> str:
    """Somebody else has acted meanwhile: who, what, when."""
    shown = await this.doors.get(letter.service, f"/letters/{quote(letter.letter_id)}")
    end = shown["end"] or {"by": "somebody", "at": "", "note": ""}
    at = f" at {datetime.fromisoformat(end['at']):%H:%M:%S} UTC" if end["at"] else ""
    note = f", saying “{end['note']}”" if end["note"] else ""
    by = end["by"].removeprefix("user:")
    return f"{letter.service} {letter.letter_id[:13]} was {shown['status']} by {by}{at}{note}."


@router.get(f"{PATH}/{{service}}/{{letter_id}}", summary="One dead letter, whole", responses=REFUSES)
async def letter(service: ServiceName, letter_id: LetterId, request: Request, me: Me, this: This) -> Response:
    shown = await this.doors.get(service, f"/letters/{quote(letter_id)}")
    kept = DeadLettered.model_validate(shown["letter"])
    body = b64decode(shown["body_base64"])
    return page(
        request,
        "machine/letter.html",
        service=service,
        state=shown["status"],
        kept=kept,
        kept_at=datetime.fromisoformat(shown["kept_at"]),
        end=shown["end"] and shown["end"] | {"at": datetime.fromisoformat(shown["end"]["at"])},
        key=None if kept.key_base64 is None else as_text(b64decode(kept.key_base64)),
        headers=[(header.name, as_text(b64decode(header.value_base64))) for header in kept.headers],
        text=as_text(body[:_BYTES_SHOWN]),
        dump=hex_dump(body[:_BYTES_SHOWN]),
        shown_bytes=min(len(body), _BYTES_SHOWN),
    )


@router.get(
    f"{PATH}/{{service}}/{{letter_id}}/body",
    summary="A dead letter's body, byte for byte, as a file",
    response_class=Bytes,
    responses=REFUSES,
)
async def letter_body(service: ServiceName, letter_id: LetterId, me: Me, this: This) -> Response:
    content, _ = await this.doors.file(service, f"/letters/{quote(letter_id)}/body")
    name = re.sub(r"[^A-Za-z0-9.-]", "-", letter_id)
    disposition = f'attachment; filename="letter-{service}-{name}.bin"'
    return Response(content, media_type="application/octet-stream", headers={"Content-Disposition": disposition})


def as_text(content: bytes) -> str:
    """Bytes as text. What is no text, and what would change how other text is shown, is written as an escape."""
    text = content.decode(errors="backslashreplace")
    return "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text)


def hex_dump(content: bytes) -> str:
    """Sixteen bytes a row: where they stand, their values, and those that are printable ASCII."""
    rows = []
    for start in range(0, len(content), _A_ROW):
        part = content[start : start + _A_ROW]
        plain = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        rows.append(f"{start:06x}  {part.hex(' '):<{3 * _A_ROW - 1}}  {plain}")
    return "\n".join(rows)
