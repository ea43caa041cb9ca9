"""One order: what was bought, its money, where each unit is, what happened, what may be done now."""

from __future__ import annotations

import re
from base64 import b64decode
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Path, Query, Request
from markupsafe import Markup, escape
from starlette.responses import Response

from ordermill.contracts.personal import Person
from ordermill.customer import customer_token
from ordermill.errors import NotFound
from ordermill.keyring import BadSeal

from .described import PAPER, EventStream
from .live import stream
from .pages import Console, This, address, page, render, zone_of
from .pictures.order import Order
from .possible import actions
from .security import Me
from .timeline import day_in, entries, read, told, who

router = APIRouter()
OrderId = Annotated[str, Path(pattern="^[A-Za-z0-9-]{1,120}$")]
FORGOTTEN = "This customer was forgotten: name and address can't be read any more."
PAPERS = {"label.pdf": "Label", "label.zpl": "Label for a ZPL printer", "slip.pdf": "Packing slip"}


class OrderNotHere(NotFound):
    """The console was told nothing of such an order."""

    code = "console.order-not-here"

    def __init__(self, order_id: str) -> None:
        super().__init__(f"no order {order_id} here. If it was sent just now, it appears in a moment; else look for it")


async def load(this: Console, order_id: str) -> Order:
    """Raises OrderNotHere."""
    doc = await this.pool.fetchval("SELECT doc FROM orders WHERE key = $1", order_id)
    if doc is None:
        raise OrderNotHere(order_id)
    return Order.model_validate_json(doc)


async def _shown(request: Request, this: Console, order_id: str, everything: bool) -> dict[str, Any]:
    order = await load(this, order_id)
    happened = await entries(this.pool, order_id, zone_of(request))
    folded = sum(entry.folded for entry in happened)
    buyer, addressee, forgotten = await _people(this, order)
    return {
        "order": order,
        "balance": order.balance(),
        "needs": order.needs(),
        "actions": actions(order),
        "entries": [entry for entry in happened if everything or not entry.folded],
        "folded": folded,
        "everything": everything,
        "buyer": buyer,
        "addressee": addressee,
        "forgotten": forgotten,
        "papers": PAPERS,
        "packages": _packages(order),
    }


async def _people(this: Console, order: Order) -> tuple[Person | None, Person | None, str]:
    """Who bought and who gets it, opened for people who are logged in; and why not, where they can't be."""
    tokens = [order.buyer, order.destination.addressee if order.destination else None]
    try:
        opened = await this.keyring.open([token for token in tokens if token])
    except BadSeal as error:
        return None, None, str(error)
    buyer, addressee = (opened.get(token) if token else None for token in tokens)
    forgotten = any(token and opened[token] is None for token in tokens)
    return buyer, addressee, FORGOTTEN if forgotten else ""


def _packages(order: Order) -> list[dict[str, Any]]:
    """Every box that was not unpacked again, with its parcel, as far as tracking knows it."""
    parcels = {(parcel.carrier, parcel.tracking_number): parcel for parcel in order.parcels}
    return [
        {
            "fulfillment_id": fulfillment_id,
            "number": number,
            "location": part.location,
            "package": package,
            "deliver_by": part.deliver_by,
            "shipped_at": part.shipped_at,
            "parcel": parcels.get((package.carrier, package.tracking_number)),
        }
        for fulfillment_id, part in order.work.items()
        if part.state != "canceled"
        for number, package in sorted(part.packages.items())
    ]


@router.get("/orders/{order_id}", summary="An order")
async def show(
    request: Request, me: Me, this: This, order_id: OrderId, everything: Annotated[bool, Query(alias="all")] = False
) -> Response:
    link = f"/track/{customer_token(b64decode(this.platform.link_secret.get_secret_value()), order_id)}"
    shown = await _shown(request, this, order_id, everything)
    return page(request, "order/page.html", **shown, link=address(request, this.settings) + link)


@router.get("/orders/{order_id}/live", summary="An order, as it changes", response_class=EventStream)
async def live(
    request: Request, me: Me, this: This, order_id: OrderId, everything: Annotated[bool, Query(alias="all")] = False
) -> Response:
    await load(this, order_id)

    async def html() -> str:
        return render(request, "order/body.html", **await _shown(request, this, order_id, everything))

    return await stream(request, [f"orders:{order_id}", f"events:{order_id}"], html, this.live)


@router.get(
    "/orders/{order_id}/papers/{fulfillment_id}/{package}/{paper}",
    summary="A label or packing slip",
    response_class=Response,
    responses=PAPER,
)
async def paper(
    me: Me,
    this: This,
    order_id: OrderId,
    fulfillment_id: Annotated[str, Path(pattern="^[A-Za-z0-9._:-]{1,120}$")],
    package: Annotated[int, Path(ge=1, le=999)],
    paper: Literal["label.pdf", "label.zpl", "slip.pdf"],
) -> Response:
    if fulfillment_id not in (await load(this, order_id)).work:
        raise OrderNotHere(f"{order_id} with a fulfillment order {fulfillment_id}")
    path = f"/fulfillments/{fulfillment_id}/packages/{package}/{paper}"
    body, media_type = await this.doors.file("fulfillment", path)
    name = f"{fulfillment_id}.{package}-{paper}".replace(":", "-")
    return Response(body, media_type=media_type, headers={"Content-Disposition": f'inline; filename="{name}"'})


# Events

_EVENT = "SELECT * FROM events WHERE message = $1"
_CAUSE = "SELECT * FROM events WHERE message_id = $1 ORDER BY seen_at LIMIT 1"
_CAUSED = "SELECT * FROM events WHERE causation_id = $1 ORDER BY happened_at, seen_at LIMIT 50"
MOST_CAUSES = 20


class EventNotHere(NotFound):
    """The console keeps no such event."""

    code = "console.event-not-here"


@router.get("/events/{message}", summary="An event, its cause, and what it caused")
async def event(request: Request, me: Me, this: This, message: UUID) -> Response:
    row = await this.pool.fetchrow(_EVENT, message)
    if row is None:
        raise EventNotHere(f"no event {message} here")
    chain: list[Any] = []
    while len(chain) < MOST_CAUSES and (
        cause := await this.pool.fetchrow(_CAUSE, (chain[-1] if chain else row)["causation_id"])
    ):
        chain.append(cause)
    caused = await this.pool.fetch(_CAUSED, row["message_id"])
    day = day_in(zone_of(request))
    shown = (row, *chain, *caused)
    texts = {each["message"]: told(each["type"], read(each["type"], each["data"]), day) for each in shown}
    names = {each["message"]: who(each["actor"], each["source"])[0] for each in shown}
    return page(
        request, "order/event.html", row=row, chain=chain[::-1], caused=caused, texts=texts, names=names,
        content=_pretty(row["data"]),
    )  # fmt: skip


_SEALED = re.compile(r"sealed\.v1\.([A-Za-z0-9-]+)\.[A-Za-z0-9_-]+")


def _pretty(data: bytes | None) -> Markup | None:
    """JSON for reading, with sealed text shown as what it is."""
    if data is None:
        return None
    text = orjson.dumps(orjson.loads(data), option=orjson.OPT_INDENT_2).decode()
    parts = _SEALED.split(text)
    shown = Markup()
    for number, part in enumerate(parts):
        shown += Markup('<span class="tag">sealed for {}</span>').format(part) if number % 2 else escape(_seen(part))
    return shown


def _seen(text: str) -> str:
    """Characters that nobody sees, or that turn the writing round, by their numbers."""
    return "".join(char if char.isprintable() or char in "\n" else f"\\u{ord(char):04x}" for char in text)
