"""The queue: all orders of all channels, and first those that need a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from .live import stream
from .pages import Console, This, page, render
from .security import Me

router = APIRouter()
PAGE = 50


@dataclass(frozen=True)
class Filters:
    """What of the queue is shown."""

    need: Annotated[str, Query(max_length=40)] = ""
    status: Annotated[str, Query(max_length=40)] = ""
    channel: Annotated[str, Query(max_length=40)] = ""


async def rows(this: Console, filters: Filters) -> list[Any]:
    """The orders of one page, newest first."""
    return list(
        await this.pool.fetch(
            """SELECT key, channel, external_id, status, attention, locations, placed_at, promised_by, total_minor,
                      currency, units FROM orders
               WHERE ($1 = '' OR $1 = ANY (attention) OR ($1 = 'any' AND attention <> '{}'))
                 AND ($2 = '' OR status = $2) AND ($3 = '' OR channel = $3)
               ORDER BY placed_at DESC NULLS LAST, key LIMIT $4""",
            filters.need,
            filters.status,
            filters.channel,
            PAGE,
        )
    )


@router.get("/", summary="The queue")
async def queue(request: Request, me: Me, this: This, filters: Annotated[Filters, Depends()]) -> Response:
    return page(request, "queue/page.html", filters=filters, orders=await rows(this, filters))


@router.get("/orders/live", summary="The queue's rows, as they change")
async def live(request: Request, me: Me, this: This, filters: Annotated[Filters, Depends()]) -> Response:
    async def html() -> str:
        return render(request, "queue/rows.html", filters=filters, orders=await rows(this, filters))

    return stream(request, ["orders"], html, this.live)
