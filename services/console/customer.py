"""The customer's page: one order behind a link that nobody can guess; no login, no script needed.

The link is the key to the page and to its one form, so the form needs no session: a page elsewhere can't know the link.
"""

from __future__ import annotations

from base64 import b64decode
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

import structlog
from fastapi import APIRouter, HTTPException, Request
from starlette.responses import Response

from ordermill.contracts.base import decode
from ordermill.customer import order_of_token
from ordermill.errors import OrdermillError, Refused
from ordermill.geo import locate

from .described import form
from .pages import ZONE_COOKIE, Console, Notice, This, answer, page, zone_of
from .pictures.order import Order
from .security import Fields, Forged
from .story import REASONS, STEPS, TOLD, Story, tell

logger = structlog.get_logger(__name__)
router = APIRouter()
_FACTS_AT_MOST = 2_000
_OUTSIDE_HEADERS = {"X-Robots-Tag": "noindex, nofollow"}
_TYPES = [kind.type for kind in TOLD]
_SHIPMENT_TYPES = [kind.type for kind in TOLD if kind.type.startswith("oms.tracking.")]


class NothingChosen(Refused):
    """A return without goods."""

    code = "console.nothing-chosen"

    def __init__(self) -> None:
        super().__init__("Choose at least one item that you want to send back.")


class NotOffered(Refused):
    """A form that asks for what the page did not offer."""

    code = "console.not-offered"

    def __init__(self) -> None:
        super().__init__("These items can't be sent back as asked. The page shows which can be, and how many.")


async def _order(this: Console, token: str) -> Order | None:
    """None for a link that we never gave out, or whose order is not known here yet."""
    order_id = order_of_token(b64decode(this.platform.link_secret.get_secret_value()), token)
    if order_id is None:
        return None
    doc = await this.pool.fetchval("SELECT doc FROM orders WHERE key = $1", order_id)
    return None if doc is None else Order.model_validate_json(doc)


async def _story(this: Console, order: Order) -> Story:
    shipments = [f"shipment-{parcel.shipment_id}" for parcel in order.parcels]
    rows = await this.pool.fetch(
        """SELECT type, data FROM events
           WHERE ((order_id = $1 AND type = ANY ($2)) OR (stream = ANY ($3) AND type = ANY ($4))) AND data IS NOT NULL
           ORDER BY min(happened_at) OVER (PARTITION BY stream), stream, version LIMIT $5""",
        order.order_id,
        _TYPES,
        shipments,
        _SHIPMENT_TYPES,
        _FACTS_AT_MOST,
    )
    return tell(order, [decode(type_name, data) for type_name, data in rows])


def _zone(request: Request, order: Order) -> ZoneInfo:
    """The reader's as their browser named it; else that of the place the order goes to; else UTC."""
    goes_to = order.destination
    if request.cookies.get(ZONE_COOKIE) is None and goes_to is not None:
        place = locate(goes_to.country, goes_to.region, goes_to.postal_code)
        if place is not None:
            return ZoneInfo(place.zone)
    return zone_of(request)


def _gone(request: Request) -> Response:
    return _outside(page(request, "customer/gone.html", 404))


def _outside(sent: Response) -> Response:
    sent.headers.update(_OUTSIDE_HEADERS)
    return sent


async def _shown(request: Request, this: Console, token: str, order: Order, status: int, **more: Any) -> Response:
    return _outside(
        page(
            request,
            "customer/page.html",
            status,
            in_zone=_zone(request, order),
            token=token,
            story=await _story(this, order),
            steps=STEPS,
            reasons=[(reason.value, text) for reason, text in REASONS.items()],
            carriers={carrier.id: carrier.name for carrier in this.network.carriers},
            **more,
        )
    )


@router.get("/track/{token}", summary="An order as its customer sees it; the link is the key")
async def track(token: str, request: Request, this: This) -> Response:
    order = await _order(this, token)
    if order is None:
        return _gone(request)
    return await _shown(request, this, token, order, 200)


@router.post(
    "/track/{token}/returns",
    summary="The customer wants to send something back",
    openapi_extra=form(
        csrf=False,
        reason=[*REASONS],
        others="`units-<line id>`: how many units of that line.",
    ),
)
async def start_return(token: str, request: Request, this: This) -> Response:
    order = await _order(this, token)
    if order is None:
        return _gone(request)
    try:
        asked = await _asked(request, order, await _story(this, order))
        told = await this.doors.post_for_customer("returns", "/returns", asked)
    except Refused as error:
        return await _shown(request, this, token, order, 409, refusal=str(error))
    except OrdermillError as error:  # it may have been done all the same: sent again, it must be the same form
        same = Fields(await request.form()).form_id
        return await _shown(request, this, token, order, 503, refusal=str(error), same_form=same)
    await _until_heard(this, order.order_id, asked["return_id"])
    if told["status"] == "declined":
        notice = Notice("refused", " ".join(told["declined_for"]))
    else:
        notice = Notice("done", f"Your return is accepted. Write the number {told['rma']} on the parcel you send.")
    return _outside(answer(request, notice, f"/track/{token}"))


async def _asked(request: Request, order: Order, story: Story) -> dict[str, Any]:
    """What the form asks for. Raises Forged, NothingChosen and NotOffered."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Forged
    origin = request.headers.get("origin")
    if origin not in (None, "null") and origin.partition("://")[2] != request.headers.get("host"):
        raise Forged
    fields = Fields(await request.form(max_files=0, max_fields=1_000))
    # Bound to this order, so that no form can name another order's return.
    return_id = "ret-" + sha256(f"{order.order_id} {fields.form_id}".encode()).hexdigest()[:24]
    lines = []
    for item in story.items:
        text = fields[f"units-{item.line_id}"] or "0"
        units = int(text) if text.isascii() and text.isdigit() and len(text) < 8 else -1
        if units < 0:
            raise NotOffered
        if units:
            lines.append({"line_id": item.line_id, "sku": item.sku, "quantity": units})
    if not lines:
        raise NothingChosen
    reason = fields["reason"]
    if reason not in REASONS:
        raise HTTPException(422, "say why it comes back")
    return {"return_id": return_id, "order_id": order.order_id, "lines": lines, "reason": reason, "wanted": "refund"}


async def _until_heard(this: Console, order_id: str, return_id: str) -> None:
    """A moment's wait for the fact of it, so that the page that follows shows it."""
    with this.live.watch(f"orders:{order_id}") as watcher:
        for _ in range(5):
            doc = await this.pool.fetchval("SELECT doc FROM orders WHERE key = $1", order_id)
            known = Order.model_validate_json(doc).returns.get(return_id) if doc else None
            if known is not None and known.state != "requested":
                return
            await watcher.news(0.5)
