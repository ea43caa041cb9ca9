"""The queue: all orders of all channels, and first those that need a person."""

# Only names fixed in code are ever put into SQL text; values are arguments.
# ruff: noqa: S608

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from .described import ELSEWHERE, Csv, EventStream, form
from .filters import HIGHEST, SORT_WORDS, Filters, choices, every, find, names_of
from .live import stream
from .pages import Console, Notice, This, answer, page, render, zone_of
from .pictures.order import NEEDS
from .security import Form, Me, Session

router = APIRouter()
MOST_IN_A_FILE = 100_000
MOST_VIEWS = 50
Wanted = Annotated[Filters, Depends()]
WHAT_NEEDS = {
    "rejected": "a channel sent an order that makes no sense",
    "held": "a person or a rule stopped the order",
    "refused": "the stock is not there",
    "change-refused": "the channel changed or canceled something, and it was too late or made no sense",
    "unroutable": "no location may or can ship it",
    "short-pick": "a picker found less than there should be",
    "late": "the promised day is over",
    "lost": "the carrier has not seen the parcel for long",
    "came-back": "a parcel could not be delivered and is back at its sender",
    "failed-effect": "a label or a refund was refused",
}


@router.get("/", summary="The queue")
async def queue(request: Request, me: Me, this: This, filters: Wanted) -> Response:
    return page(
        request,
        "queue/page.html",
        filters=filters,
        shown=await find(this, filters, zone_of(request)),
        views=await _views(this, me),
        sorts=SORT_WORDS,
        locations=sorted(this.network.location_ids),
        choices=await choices(this),
        **_words(),
    )


@router.get("/orders/live", summary="The queue's rows, as they change", response_class=EventStream)
async def live(request: Request, me: Me, this: This, filters: Wanted) -> Response:
    zone = zone_of(request)

    async def html() -> str:
        shown = await find(this, filters, zone)
        return render(request, "queue/rows.html", filters=filters, shown=shown, **_words())

    return await stream(request, ["orders"], html, this.live, alike=(live, filters, zone.key))


def _words() -> dict[str, Any]:
    return {"all_needs": NEEDS, "what_needs": WHAT_NEEDS}


# Search


@router.get("/find", summary="Look for an order by any id that a person may hold", responses=ELSEWHERE | {404: {}})
async def search(request: Request, me: Me, this: This, q: Annotated[str, Query(max_length=200)] = "") -> Response:
    """One hit opens the order, several are listed. What fits as a whole counts before what only begins so."""
    names = names_of(this.keyring, q)
    for whole in (True, False):
        found = await _named(this, names, whole)
        if len(found) == 1:
            return RedirectResponse(f"/orders/{found[0]}", 303)
        if found:
            return RedirectResponse(Filters(q=q.strip()).but(), 303)
    return page(request, "queue/nothing.html", 404 if names else 200, q=q)


async def _named(this: Console, names: Sequence[str], whole: bool) -> list[str]:
    """Up to two orders of that name."""
    found: set[str] = set()
    for name in names:
        condition = "value = $1" if whole else "value >= $1 AND value < $1 || $2"
        rows = await this.pool.fetch(
            f"SELECT DISTINCT order_id FROM names WHERE {condition} LIMIT 2",
            *((name,) if whole else (name, HIGHEST)),
        )
        found |= {row["order_id"] for row in rows}
    return sorted(found)


# Saved views


async def _views(this: Console, me: Session) -> list[Any]:
    return list(
        await this.pool.fetch(
            "SELECT name, query FROM saved_views WHERE owner = $1 AND NOT removed ORDER BY name", me.name
        )
    )


@router.post(
    "/views",
    summary="Save the filters under a name",
    openapi_extra=form(
        "name",
        form_id=False,
        name={
            "type": "string",
            "minLength": 1,
            "maxLength": 60,
            "pattern": r"[^\s\x00]",
            "description": "What to call it. A view of that name is replaced.",
        },
        query="The filters, as they stand in the queue's address.",
    ),
)
async def save(request: Request, me: Me, this: This, form: Form) -> Response:
    name = form["name"]
    if not 1 <= len(name) <= 60:
        raise HTTPException(422, "a view needs a name of up to 60 characters")
    known = {field: value for field, value in parse_qsl(form["query"]) if field in Filters.__dataclass_fields__}
    filters = Filters(**{field: value[:200] for field, value in known.items()})
    async with this.pool.acquire() as connection, connection.transaction():
        count = await connection.fetchval(
            "SELECT count(*) FROM saved_views WHERE owner = $1 AND NOT removed AND name <> $2", me.name, name
        )
        if count >= MOST_VIEWS:
            raise HTTPException(409, f"you have {MOST_VIEWS} views: remove one first")
        await connection.execute(
            """INSERT INTO saved_views (owner, name, query) VALUES ($1, $2, $3)
               ON CONFLICT (owner, name) DO UPDATE SET query = excluded.query, removed = false""",
            me.name,
            name,
            filters.view,
        )
    return answer(request, Notice("done", f"“{name}” is saved; it stands above the queue"), filters.but())


@router.post("/views/remove", summary="Remove a saved view", openapi_extra=form(form_id=False, name="Which."))
async def remove(request: Request, me: Me, this: This, form: Form) -> Response:
    done = await this.pool.execute(
        "UPDATE saved_views SET removed = true WHERE owner = $1 AND name = $2 AND NOT removed", me.name, form["name"]
    )
    if done == "UPDATE 0":
        return answer(request, Notice("same", f"there is no view “{form['name']}” of yours"), "/")
    return answer(request, Notice("done", f"the view “{form['name']}” is removed; its orders are untouched"), "/")


# A file


@router.get("/orders.csv", summary="The filtered queue as a file for spreadsheets", response_class=Csv)
async def export(request: Request, me: Me, this: This, filters: Wanted) -> Response:
    rows = await every(this, filters, zone_of(request), MOST_IN_A_FILE + 1)
    headers = {"Content-Disposition": 'attachment; filename="orders.csv"'}
    return StreamingResponse(_lines(rows), media_type="text/csv; charset=utf-8", headers=headers)


def _lines(rows: Sequence[Any]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL)
    writer.writerow((
        "order", "channel", "external id", "what", "status", "needs", "why", "placed at", "promised by", "locations",
        "units", "total in minor units", "currency",
    ))  # fmt: skip
    for row in rows[:MOST_IN_A_FILE]:
        writer.writerow([
            harmless(cell)
            for cell in (
                row["key"], row["channel"], row["external_id"], row["what"], row["status"], " ".join(row["attention"]),
                "; ".join(row["why"]), row["placed_at"].isoformat(),
                row["promised_by"].isoformat() if row["promised_by"] else "", " ".join(row["locations"]),
                row["units"], "" if row["total_minor"] is None else row["total_minor"], row["currency"],
            )
        ])  # fmt: skip
        if buffer.tell() > 60_000:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    if len(rows) > MOST_IN_A_FILE:
        told = f"Only the first {MOST_IN_A_FILE:,} orders are in this file: narrow the filters for the others."
        writer.writerow([told])
    yield buffer.getvalue()


def harmless(cell: object) -> str:
    """Text that no spreadsheet takes for a formula: one that could begin one gets a quote before it."""
    text = str(cell)
    if isinstance(cell, int):
        return text
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") or text[:1] in ("\t", "\r", "\n") else text
