"""Stock: every SKU with its states by location, what moved each number, and how it was over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from ordermill.errors import NotFound
from ordermill.service.http import WITHOUT_NUL, Key

from . import movements
from .charts import step_chart, thinned
from .described import EventStream
from .live import stream
from .pages import Console, This, page, render, zone_of
from .pictures.stock import Number, Shelf, Sku
from .security import Me

router = APIRouter()
PAGE = 50
LOW = 5
"""Units available to promise that count as low where nobody says otherwise."""

LABELS: dict[Number, str] = {
    "on_hand": "On hand",
    "set_aside": "Set aside",
    "reserved": "Reserved",
    "allocated": "Allocated",
    "unallocated": "Unallocated",
    "available": "ATP",
    "backordered": "Backordered",
    "shipped_out": "Shipped out",
    "written_off": "Written off",
}
MEANINGS: dict[Number, str] = {
    "on_hand": "units present",
    "set_aside": "on hand where nothing ships from: not for sale",
    "reserved": "claimed by orders, no location yet",
    "allocated": "claimed by orders at a location",
    "unallocated": "on hand − allocated",
    "available": "available to promise: on hand − set aside − reserved − allocated",
    "backordered": "waited for by orders",
    "shipped_out": "left in parcels",
    "written_off": "came back unfit for sale",
}
AT_LOCATION: tuple[Number, ...] = ("on_hand", "set_aside", "allocated", "unallocated", "shipped_out", "written_off")
_SPANS = {"day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=30), "all": None}
_ORDERS = {
    "sku": "key",
    "atp": "available, key",
    "changed": "changed_at DESC NULLS LAST, key",
}


class NoSuchSku(NotFound):
    """Nobody received it, counted it or asked for it."""

    code = "console.no-such-sku"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"no SKU {key[:64]!r} was ever received or ordered here. To begin with it, receive some of it."
        )


@dataclass(frozen=True)
class Filters:
    """What of the stock is listed."""

    q: Annotated[str, Query(max_length=64, pattern=WITHOUT_NUL)] = ""
    show: Literal["", "low", "negative", "backordered"] = ""
    at: Annotated[str, Query(max_length=40, pattern=WITHOUT_NUL)] = ""
    low: Annotated[int, Query(ge=0, le=1_000_000)] = LOW
    sort: Literal["sku", "atp", "changed"] = "sku"
    page: Annotated[int, Query(ge=1, le=10_000)] = 1

    def query(self, **changes: Any) -> dict[str, Any]:
        """As it stands in an address, with these changes; what is as by default is left out."""
        plain = {"q": "", "show": "", "at": "", "low": LOW, "sort": "sku", "page": 1}
        now = {name: getattr(self, name) for name in plain} | {"page": 1} | changes
        return {name: value for name, value in now.items() if value != plain[name]}


@dataclass(frozen=True, slots=True)
class Row:
    """One SKU in the list; `numbers` are over all locations, or at the one asked for."""

    key: str
    sku: Sku
    shelves: Sequence[tuple[str, Shelf]]
    numbers: dict[Number, int]


_WHERE = """($1 = '' OR key ILIKE $2 OR title ILIKE $2) AND ($3 = '' OR $3 = ANY (locations))"""


async def listed(this: Console, filters: Filters) -> dict[str, Any]:
    """One page of SKUs, and how many there are by filter."""
    like = "%" + filters.q.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    counts = await this.pool.fetchrow(
        f"""SELECT count(*) AS every, count(*) FILTER (WHERE available <= $4) AS low,
                   count(*) FILTER (WHERE negative) AS negative,
                   count(*) FILTER (WHERE backordered > 0) AS backordered
            FROM stock WHERE {_WHERE}""",  # noqa: S608 - only names fixed here
        filters.q,
        like,
        filters.at,
        filters.low,
    )
    found = await this.pool.fetch(
        f"""SELECT key, doc FROM stock WHERE {_WHERE}
              AND ($5 = '' OR ($5 = 'low' AND available <= $4) OR ($5 = 'negative' AND negative)
                   OR ($5 = 'backordered' AND backordered > 0))
            ORDER BY {_ORDERS[filters.sort]} LIMIT $6 OFFSET $7""",  # noqa: S608 - only names fixed here
        filters.q,
        like,
        filters.at,
        filters.low,
        filters.show,
        PAGE + 1,
        (filters.page - 1) * PAGE,
    )
    skus = {key: Sku.model_validate_json(doc) for key, doc in found[:PAGE]}
    names = columns(AT_LOCATION if filters.at else tuple(LABELS), skus.values())
    rows = []
    for key, sku in skus.items():
        numbers: dict[Number, int] = {name: sku.number(name, filters.at or None) for name in names}
        rows.append(Row(key, sku, sorted(sku.locations.items()), numbers))
    labels = {name: LABELS[name] for name in names}
    return {"filters": filters, "rows": rows, "more": len(found) > PAGE, "counts": counts, "labels": labels}


def columns(names: tuple[Number, ...], skus: Iterable[Sku]) -> tuple[Number, ...]:
    """Of a table: that of what is set aside only where something is."""
    set_aside = any(sku.set_aside for sku in skus)
    return tuple(name for name in names if name != "set_aside" or set_aside)


@router.get("/stock", summary="Stock")
async def stock(request: Request, me: Me, this: This, filters: Annotated[Filters, Depends()]) -> Response:
    found = await listed(this, filters)
    return page(request, "stock/page.html", locations=this.network.locations, **found)


@router.get("/live/stock", summary="The list of SKUs, as it changes", response_class=EventStream)
async def live(request: Request, me: Me, this: This, filters: Annotated[Filters, Depends()]) -> Response:
    async def html() -> str:
        return render(request, "stock/rows.html", **await listed(this, filters))

    return await stream(request, ["stock"], html, this.live)


@dataclass(frozen=True)
class View:
    """What of one SKU is shown: which number's movements, at which location, over which time."""

    show: Number | None = None
    at: Annotated[str, Query(max_length=40, pattern=WITHOUT_NUL)] = ""
    span: Literal["day", "week", "month", "all"] = "all"
    page: Annotated[int, Query(ge=1, le=1_000)] = 1

    def query(self, **changes: Any) -> dict[str, Any]:
        now = {"show": self.show, "at": self.at, "span": self.span, "page": 1} | changes
        return {
            name: value for name, value in now.items() if value and (name, value) not in (("page", 1), ("span", "all"))
        }


async def shown(request: Request, this: Console, key: str, view: View) -> dict[str, Any]:
    """Raises NoSuchSku."""
    found = await movements.movements(this.pool, key, view.show, view.at or None, view.page)
    if found is None:
        raise NoSuchSku(key)
    sku, moved, older = found
    now = this.clock()
    span = _SPANS[view.span]
    points = await movements.history(this.pool, key, None if span is None else now - span)
    chart = step_chart(points, points[0][0], max(now, points[-1][0]), zone_of(request)) if points else None
    names = {location.id: location.name for location in this.network.locations}
    return {
        "key": key, "sku": sku, "view": view, "movements": moved, "older": older, "chart": chart,
        "points": thinned(points)[-40:][::-1], "labels": LABELS, "meanings": MEANINGS,
        "at_location": columns(AT_LOCATION, [sku]),
        "names": names, "spans": tuple(_SPANS),
    }  # fmt: skip


@router.get("/stock/{key:path}", summary="One SKU")
async def one(request: Request, key: Key, me: Me, this: This, view: Annotated[View, Depends()]) -> Response:
    found = await shown(request, this, key, view)
    return page(request, "stock/sku.html", locations=this.network.locations, **found)


@router.get("/live/stock/{key:path}", summary="One SKU, as it changes", response_class=EventStream)
async def one_live(request: Request, key: Key, me: Me, this: This, view: Annotated[View, Depends()]) -> Response:
    async def html() -> str:
        return render(request, "stock/sku_live.html", **await shown(request, this, key, view))

    return await stream(request, [f"stock:{key}"], html, this.live)
