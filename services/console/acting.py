"""What people do to an order: each action on a page that says what it will do, then asked of its service."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, HTTPException, Query, Request
from starlette.responses import Response

from ordermill.contracts.capture import OrderLine
from ordermill.contracts.returns import ReturnReason
from ordermill.errors import Refused
from ordermill.money import goods_of

from .described import form
from .order import OrderId, load
from .pages import Console, Notice, This, answer, page, zone_of
from .pictures.order import Order
from .possible import Action, Do, action, did
from .security import Fields, Me, Once, Session
from .timeline import Act, acts_since, seen_to

router = APIRouter()
Of = Annotated[str, Query(max_length=130)]
AGAIN = "Nothing was done. The page shows the order as it is now: press again if you still want to."


@router.get("/orders/{order_id}/do/{do}", summary="What an action will do")
async def ask(request: Request, me: Me, this: This, order_id: OrderId, do: Do, of: Of = "") -> Response:
    seen = await seen_to(this.pool, order_id)  # first: what happens between the two is news
    order = await load(this, order_id)
    return page(
        request,
        "order/do.html",
        order=order,
        action=action(order, do, of),
        seen=seen.isoformat() if seen else "",
        reasons=[reason.value for reason in ReturnReason if reason is not ReturnReason.NOT_DELIVERED],
        lost=any(parcel.lost for parcel in order.parcels),
        same_carrier=_refused_a_label(order, of),
        carriers=[(carrier.id, service.id) for carrier in this.network.carriers for service in carrier.services],
    )


@router.post(
    "/orders/{order_id}/do/{do}",
    summary="Do it",
    openapi_extra=form(
        "seen",
        seen={"type": "string", "format": "date-time", "description": "Up to when the page's sender knew the order."},
        of="Which hold, refused change, fulfillment order, package or refund is meant.",
        note="Kept with what is done.",
        elsewhere="`no`: the same location may be chosen again.",
        reason="Why goods come back.",
        wanted="`again`: the same goods are sent once more, instead of the money.",
        goods="`awaited`: they are on their way to us, so they are received and inspected first.",
        carrier="`carrier/service` of a label; empty: as before.",
        others="`units-<line id>`: how many units of that line.",
    ),
)
async def act(request: Request, me: Me, this: This, order_id: OrderId, do: Do, form: Once) -> Response:
    back = f"/orders/{order_id}"
    order, wanted = await load(this, order_id), form["of"]
    zone = zone_of(request)
    acts = await acts_since(this.pool, order_id, _time(form["seen"]), me.actor, zone)
    if told := _others(acts, zone):
        return answer(request, Notice("refused", f"{told} {AGAIN}"), back)
    possible = action(order, do, wanted)
    if possible.reason:
        mine = next((done for done in acts if did(do, wanted, done.message)), None)
        if mine is not None:
            return answer(request, Notice("same", f"you did that a moment ago: {mine.text}"), back)
        return answer(request, Notice("refused", f"{possible.title}: {possible.reason}"), back)
    return answer(request, Notice("done", await perform(this, me, order, possible, form)), back)


def _refused_a_label(order: Order, of: str) -> bool:
    """Whether the carrier of this box has answered, so that it may be asked again."""
    fulfillment_id, _, number = of.rpartition("/")
    return fulfillment_id in order.work and number in map(str, order.work[fulfillment_id].refused)


def _time(text: str) -> datetime:
    try:
        seen = datetime.fromisoformat(text)
        if seen.tzinfo is not None:
            return seen.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise HTTPException(422, "the form does not say what it was made from: load the page again")


def _others(acts: list[Act], zone: ZoneInfo) -> str:
    """What another person did first, as a sentence."""
    for done in acts:
        if not done.mine:
            return f"{done.who} was first, at {done.happened_at.astimezone(zone):%H:%M:%S}: {done.text}."
    return ""


async def perform(this: Console, me: Session, order: Order, wanted: Action, form: Fields) -> str:
    """Ask the service; what will happen next, in plain words. Raises its refusal."""
    match wanted.do:
        case "hold":
            return await hold(this, me, order, form["note"])
        case "release":
            return await release(this, me, order, wanted.of, form["note"])
        case "cancel":
            units = {line.line_id: number(form[f"units-{line.line_id}"]) for line in order.lines}
            return await cancel(this, me, order, units, form["note"], form.form_id)
        case "settle":
            return await settle(this, me, order, wanted.of, form["note"])
        case "reroute":
            return await reroute(this, me, order, wanted.of, form["elsewhere"] != "no", form.form_id)
        case "return":
            units = {line.line_id: number(form[f"units-{line.line_id}"]) for line in order.lines}
            return await start_return(this, me, order, units, form)
        case "make-up":
            units = {line.line_id: number(form[f"units-{line.line_id}"]) for line in order.lines}
            return await make_up(this, me, order, units, form)
        case "label":
            return await label(this, me, wanted.of, form["carrier"])
        case "refund":
            return await refund(this, me, order, wanted.of)
        case "forget":
            await this.doors.post("capture", f"/orders/{order.order_id}/forget", {}, me)
            return "the customer is being forgotten; within five minutes nobody can read who it was"


def number(text: str) -> int:
    """Units as a person typed them; nothing is none."""
    if not text:
        return 0
    if not text.isascii() or not text.isdecimal() or len(text) > 7:
        raise HTTPException(422, f"{text[:20]!r} is no number of units")
    return int(text)


async def hold(this: Console, me: Session, order: Order, note: str) -> str:
    body = {"reason": "manual", "note": _text(note)}
    await this.doors.post("capture", f"/orders/{order.order_id}/hold", body, me)
    return "the order is on hold; it goes on when a person releases it"


async def release(this: Console, me: Session, order: Order, reason: str, note: str) -> str:
    body = {"reason": reason, "note": _text(note)}
    await this.doors.post("capture", f"/orders/{order.order_id}/release", body, me)
    if len(order.holds) > 1:
        return "that hold is released; another still stands"
    return "the hold is released; stock is claimed for the order now"


async def settle(this: Console, me: Session, order: Order, change_id: str, note: str) -> str:
    body = {"change_id": change_id, "note": _text(note)}
    await this.doors.post("capture", f"/orders/{order.order_id}/settle", body, me)
    return "the refused change was dealt with; the order waits for nobody because of it"


class NothingChosen(Refused):
    """A form that names no units."""

    code = "console.nothing-chosen"

    def __init__(self) -> None:
        super().__init__("no units were chosen: say how many of which line")


class TooMany(Refused):
    """More units than the action can still reach."""

    code = "console.too-many"

    def __init__(self, sku: str, wanted: int, left: int) -> None:
        super().__init__(f"{sku}: {wanted} wanted, but only {left} can be had for that now")


async def cancel(this: Console, me: Session, order: Order, units: Mapping[str, int], note: str, form_id: str) -> str:
    _check(order, units, {line.line_id: order.cancelable(line) for line in order.lines})
    body = {
        "cancellation_id": f"console-{form_id}",
        "reason": _text(note) or "called off by the team",
        "lines": [{"line_id": line_id, "quantity": count} for line_id, count in units.items() if count],
    }
    await this.doors.post("capture", f"/orders/{order.order_id}/cancel", body, me)
    return (
        f"{sum(units.values())} units are called off; what no location holds is canceled at once, "
        "locations answer whether they are in time"
    )


async def reroute(this: Console, me: Session, order: Order, fulfillment_id: str, elsewhere: bool, form_id: str) -> str:
    body = {"reroute_id": form_id, "fulfillment_id": fulfillment_id, "elsewhere": elsewhere}
    await this.doors.post("inventory", f"/reservations/{order.order_id}/reroute", body, me)
    location = order.part(fulfillment_id).location
    return f"{location} is asked to give back what is not packed; a new plan is made as soon as it has"


async def start_return(this: Console, me: Session, order: Order, units: Mapping[str, int], form: Fields) -> str:
    _check(order, units, {line.line_id: order.returnable(line) for line in order.lines})
    made = await _ask_back(this, me, order, units, form, reason=form["reason"])
    return f"the customer may send {sum(units.values())} units back under {made.get('rma')}"


async def make_up(this: Console, me: Session, order: Order, units: Mapping[str, int], form: Fields) -> str:
    """A return of what never arrived. Lost goods are waived at once, so that it settles without them."""
    _check(order, units, {line.line_id: order.astray_units(line) for line in order.lines})
    asked: dict[str, Any] = {"reason": ReturnReason.NOT_DELIVERED.value}
    again = form["wanted"] == "again"
    if again:
        same = [the_same(order, line, units[line.line_id]) for line in order.lines if units[line.line_id]]
        asked |= {"wanted": "exchange", "exchange_for": same}
    made = await _ask_back(this, me, order, units, form, **asked)
    what = "the same goods are sent again" if again else "the money goes back"
    if form["goods"] == "awaited":
        return f"{what} once the parcel was received and inspected, under {made['rma']}"
    work = [{"do": "waive", "return_id": made["return_id"]}]
    (done,) = await this.doors.post("returns", "/returns/work", work, me)
    if done["code"]:
        raise WorkRefused(done["detail"])
    return f"{sum(units.values())} units count as lost: {what}"


async def _ask_back(
    this: Console, me: Session, order: Order, units: Mapping[str, int], form: Fields, **asked: Any
) -> dict[str, Any]:
    """The return that was asked for, named by the form, so once. Raises Declined."""
    body = {
        "return_id": f"r-{form.form_id}",
        "order_id": order.order_id,
        "lines": [
            {"line_id": line.line_id, "sku": line.sku, "quantity": units[line.line_id]}
            for line in order.lines
            if units[line.line_id]
        ],
        "by": "agent",
        "note": _text(form["note"]),
        **asked,
    }
    made: dict[str, Any] = await this.doors.post("returns", "/returns", body, me)
    if made["status"] == "declined":
        raise Declined("; ".join(made["declined_for"]))
    return made


def the_same(order: Order, line: OrderLine, units: int) -> dict[str, Any]:
    """At the price that the lost ones were paid with, tax included, so that nothing is left to pay: goods and tax are
    each rounded down, as they are credited."""
    paid = (goods_of(line),) if order.tax_included else (goods_of(line), line.tax)
    minor = sum(amount.minor // line.quantity for amount in paid)
    price = {"minor": minor, "currency": line.unit_price.currency}
    return {"sku": line.sku, "title": line.title, "quantity": units, "unit_price": price}


class Declined(Refused):
    """The return policy says no."""

    code = "console.declined"

    def __init__(self, reasons: str) -> None:
        super().__init__(f"the return policy declines it: {reasons}")


async def label(this: Console, me: Session, of: str, by: str) -> str:
    fulfillment_id, _, package = of.rpartition("/")
    carrier, _, service = by.partition("/")
    work: dict[str, Any] = {"do": "retry-label", "fulfillment_id": fulfillment_id, "package": int(package)}
    if carrier and service:
        work |= {"carrier": carrier, "service": service}
    (done,) = await this.doors.post("fulfillment", "/work", [work], me)
    if done["code"]:
        raise WorkRefused(done["detail"])
    return "the carrier is asked for the label again; the box shows it once it is there"


async def refund(this: Console, me: Session, order: Order, refund_id: str) -> str:
    failed = order.refunds[refund_id]
    if failed.return_id:
        work = [{"do": "retry-refund", "return_id": failed.return_id}]
        (done,) = await this.doors.post("returns", "/returns/work", work, me)
        if done["code"]:
            raise WorkRefused(done["detail"])
    else:
        await this.doors.post("capture", f"/orders/{order.order_id}/refunds/{refund_id}/retry", {}, me)
    return f"the payment provider is asked for {failed.amount} again; the page shows what it says"


class WorkRefused(Refused):
    """The service's own word on one piece of work."""

    code = "console.work-refused"


def _check(order: Order, units: Mapping[str, int], most: Mapping[str, int]) -> None:
    if not any(units.values()):
        raise NothingChosen
    for line in order.lines:
        if units[line.line_id] > most[line.line_id]:
            raise TooMany(line.sku, units[line.line_id], most[line.line_id])


def _text(note: str) -> str:
    """A note as facts may hold it: one line of up to 500 characters."""
    return "".join(char if char.isprintable() else " " for char in note).strip()[:500]
