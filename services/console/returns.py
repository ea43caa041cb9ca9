"""Returns: what may come back, what came, what it is fit for, and the money for it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import RedirectResponse, Response

from ordermill.contracts.fields import MINOR_DIGITS
from ordermill.contracts.returns import Disposition, ReturnReason
from ordermill.errors import NotFound, Refused
from ordermill.ids import order_id_of
from ordermill.service.http import WITHOUT_NUL

from .described import ELSEWHERE, REFUSES, EventStream, form
from .doors import NotThere
from .live import stream
from .pages import Console, Notice, This, answer, page, render
from .pictures.order import Order
from .pictures.returns import RETURNS, STATES, Return
from .reading import document, document_when
from .security import Fields, Me, Once, Session

router = APIRouter()
PAGE = 100
REASONS = {
    ReturnReason.UNWANTED: "Doesn't want it",
    ReturnReason.DAMAGED: "Arrived damaged",
    ReturnReason.WRONG_ITEM: "Wrong item came",
    ReturnReason.NOT_AS_DESCRIBED: "Not as described",
    ReturnReason.LATE: "Came too late",
    ReturnReason.NOT_DELIVERED: "Never arrived: lost, or back at its sender",
    ReturnReason.OTHER: "Another reason",
}
DISPOSITIONS = {
    Disposition.RESTOCK: "Sell again: back on the shelf",
    Disposition.WRITE_OFF: "Write off: not fit for sale",
    Disposition.MISSING: "Missing: not in the box, no credit",
}
ReturnId = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$", max_length=120)]
OrderId = ReturnId


class NoSuchReturn(NotFound):
    """No return under that id."""

    code = "console.no-such-return"

    def __init__(self, return_id: str) -> None:
        super().__init__(f"{return_id}: no such return. Look for it by its RMA, order or tracking number.")


class NotSaid(Refused):
    """A form that does not say enough, or says it in no number."""

    code = "console.not-said"


# Lists


async def _rows(this: Console, state: str, code: str) -> dict[str, Any]:
    """`code` narrows to the returns of what it names."""
    orders = await _orders_of(this, code) if code else []
    counts = await this.pool.fetch("SELECT state, count(*) AS many FROM returns GROUP BY state")
    rows = await this.pool.fetch(
        """SELECT returns.key, returns.doc, returns.asked_at, orders.external_id, orders.channel
           FROM returns LEFT JOIN orders ON orders.key = returns.order_id
           WHERE ($1 = '' OR returns.state = $1)
             AND ($2 = '' OR returns.key = $2 OR returns.rma = upper($2) OR returns.order_id = ANY ($3))
           ORDER BY returns.asked_at DESC NULLS LAST, returns.key LIMIT $4""",
        state if state in STATES else "",
        code,
        orders,
        PAGE,
    )
    return {
        "state": state if state in STATES else "",
        "code": code,
        "states": STATES,
        "counts": {row["state"]: row["many"] for row in counts},
        "returns": [(row, Return.model_validate_json(row["doc"])) for row in rows],
        "orders": orders,
        "reasons": REASONS,
        "most": PAGE,
    }


async def _orders_of(this: Console, code: str) -> list[str]:
    rows = await this.pool.fetch("SELECT DISTINCT order_id FROM names WHERE value = $1 LIMIT 50", code.lower())
    return [row["order_id"] for row in rows]


State = Annotated[str, Query(max_length=20)]
SEEN = "The return's version that the page showed."
Code = Annotated[str, Query(max_length=200, pattern=WITHOUT_NUL)]


def _code(text: str) -> str:
    return text.replace("\0", "").strip()


@router.get("/returns", summary="Returns, by what they wait for", responses=ELSEWHERE)
async def returns(request: Request, me: Me, this: This, state: State = "", q: Code = "") -> Response:
    """A number that names one return opens it."""
    found = await _rows(this, state, _code(q))
    if found["code"] and len(found["returns"]) == 1 and not state:
        return RedirectResponse(f"/returns/{found['returns'][0][0]['key']}", 303)
    return page(request, "returns/list.html", **found)


@router.get("/returns/live", summary="Returns, as they change", response_class=EventStream)
async def live_list(request: Request, me: Me, this: This, state: State = "", q: Code = "") -> Response:
    async def html() -> str:
        return render(request, "returns/rows.html", **await _rows(this, state, _code(q)))

    return await stream(request, ["returns"], html, this.live)


# One return


async def _shown(this: Console, return_id: str) -> dict[str, Any]:
    """Raises NoSuchReturn."""
    back = await _known(this, return_id)
    order = await this.pool.fetchrow("SELECT external_id, channel, doc FROM orders WHERE key = $1", back.order_id)
    titles: dict[str, str] = {}
    if order is not None:
        titles = {line.line_id: line.title for line in Order.model_validate_json(order["doc"]).lines}
    exchange = order_id_of("exchange", return_id) if back.credit is not None else ""
    here = await this.pool.fetchval("SELECT external_id FROM orders WHERE key = $1", exchange) if exchange else None
    return {
        "back": back,
        "order": order,
        "titles": titles,
        "states": STATES,
        "reasons": REASONS,
        "dispositions": DISPOSITIONS,
        "places": this.network.locations,
        "names": {location.id: location.name for location in this.network.locations},
        "exchange": exchange,
        "exchange_here": here is not None,
    }


@router.get("/returns/{return_id}", summary="One return")
async def one(request: Request, me: Me, this: This, return_id: ReturnId) -> Response:
    return page(request, "returns/page.html", **await _shown(this, return_id))


@router.get("/returns/{return_id}/live", summary="One return, as it changes", response_class=EventStream)
async def live_one(request: Request, me: Me, this: This, return_id: ReturnId) -> Response:
    await _known(this, return_id)
    orders = f"orders:{order_id_of('exchange', return_id)}"

    async def html() -> str:
        return render(request, "returns/parts.html", **await _shown(this, return_id))

    return await stream(request, [f"returns:{return_id}", orders], html, this.live)


# What people do with it


def _units(form: Fields, name: str) -> int:
    """Raises NotSaid."""
    text = form[name]
    if not re.fullmatch(r"[0-9]{0,7}", text):
        raise NotSaid(f"{text[:20]} is no number of units.")
    return int(text or 0)


async def _work(this: Console, me: Session, form: Fields, back: Return, body: dict[str, Any], done: str) -> Notice:
    told = (await this.doors.post("returns", "/returns/work", [{**body, "return_id": back.return_id}], me))[0]
    if told["code"] is None:
        if not told["events"]:
            return Notice("same", _since(back, back.version - 1) or "It was so already.")
        await document_when(this, RETURNS, back.return_id, lambda now: now.version > back.version)
        return Notice("done", done)
    seen = int(form["seen"]) if re.fullmatch(r"[0-9]{1,8}", form["seen"]) else back.version
    now = await document_when(this, RETURNS, back.return_id, lambda it: it.version > seen, 1.0) or back
    return Notice("refused", " ".join(filter(None, (_since(now, seen), str(told["detail"])))))


def _since(back: Return, seen: int) -> str:
    """Who did what after the page that a form was on had been shown."""
    if back.version <= seen:
        return ""
    step = back.steps[-1]
    what = f": {step.what}" if step.what else ""
    return f"Meanwhile {step.who}, {step.did.replace('-', ' ')} at {step.at:%H:%M} UTC{what}."


async def _known(this: Console, return_id: str) -> Return:
    """Raises NoSuchReturn."""
    back = await document(this, RETURNS, return_id)
    if back is None or not back.steps:
        raise NoSuchReturn(return_id)
    return back


@router.post(
    "/returns/{return_id}/receive",
    summary="Goods came in",
    openapi_extra=form(seen=SEEN, location="Where.", others="`units:<line id>`: how many units of that line."),
)
async def receive(request: Request, me: Me, form: Once, this: This, return_id: ReturnId) -> Response:
    back = await _known(this, return_id)
    counts = [(line, _units(form, f"units:{line.line_id}")) for line in back.lines]
    lines = [{"line_id": line.line_id, "sku": line.sku, "quantity": units} for line, units in counts if units]
    if not lines:
        raise NotSaid("Say how many units came.")
    body = {"do": "receive", "receipt_id": form.form_id, "location": form["location"], "lines": lines}
    units = sum(count for _, count in counts)
    done = f"{units} unit{'s' if units != 1 else ''} booked in. Inspect them next."
    return answer(request, await _work(this, me, form, back, body, done), f"/returns/{return_id}")


@router.post(
    "/returns/{return_id}/inspect",
    summary="What the goods are fit for",
    openapi_extra=form(
        seen=SEEN,
        location="Where.",
        others="`<disposition>:<line id>`: how many units of that line; `note:<line id>`: what is the matter.",
    ),
)
async def inspect(request: Request, me: Me, form: Once, this: This, return_id: ReturnId) -> Response:
    back = await _known(this, return_id)
    location = form["location"]
    lines = [
        {
            "line_id": line.line_id,
            "sku": line.sku,
            "quantity": units,
            "disposition": disposition.value,
            "note": form[f"note:{line.line_id}"][:500],
        }
        for line in back.lines
        for disposition in Disposition
        if (units := _units(form, f"{disposition.value}:{line.line_id}"))
    ]
    if not lines:
        raise NotSaid("Say for each unit what it is fit for.")
    body = {"do": "inspect", "inspection_id": form.form_id, "location": location, "lines": lines}
    last = sum(line.asked - line.inspected for line in back.lines) <= sum(line["quantity"] for line in lines)  # type: ignore[misc]
    done = "Inspected. That was all of it: it is settled now." if last else "Inspected. The rest is still to come."
    return answer(request, await _work(this, me, form, back, body, done), f"/returns/{return_id}")


@router.post(
    "/returns/{return_id}/waive", summary="What has not come need not: credit it", openapi_extra=form(seen=SEEN)
)
async def waive(request: Request, me: Me, form: Once, this: This, return_id: ReturnId) -> Response:
    back = await _known(this, return_id)
    units = f"{back.to_come} unit{'s' if back.to_come != 1 else ''}"
    done = f"{units} {'are' if back.to_come != 1 else 'is'} credited without coming back."
    notice = await _work(this, me, form, back, {"do": "waive"}, done)
    return answer(request, notice, f"/returns/{return_id}")


def settled(back: Return) -> str:
    """What settling it with what came does."""
    if not any(line.received > line.missing for line in back.lines):
        return "The return is closed without money."
    rest = "may be asked for again" if back.undelivered else "stays with the customer"
    return f"Nothing more is expected: what came is credited, the rest {rest}."


@router.post("/returns/{return_id}/close", summary="Nothing more will come", openapi_extra=form(seen=SEEN))
async def close(request: Request, me: Me, form: Once, this: This, return_id: ReturnId) -> Response:
    back = await _known(this, return_id)
    notice = await _work(this, me, form, back, {"do": "close"}, settled(back))
    return answer(request, notice, f"/returns/{return_id}")


@router.post(
    "/returns/{return_id}/retry-refund", summary="Ask the payment provider again", openapi_extra=form(seen=SEEN)
)
async def retry_refund(request: Request, me: Me, form: Once, this: This, return_id: ReturnId) -> Response:
    back = await _known(this, return_id)
    done = "The payment provider is asked again, under the same number: it pays once."
    notice = await _work(this, me, form, back, {"do": "retry-refund"}, done)
    return answer(request, notice, f"/returns/{return_id}")


# A new return


async def _purchase(this: Console, order_id: str) -> dict[str, Any]:
    """What was bought and what of it may come back. Raises NotThere."""
    try:
        purchase: dict[str, Any] = await this.doors.get("returns", f"/purchases/{order_id}")
    except NotThere:
        raise NotThere(
            f"{order_id}: no such order, or nothing of it is bought yet. The queue has all orders."
        ) from None
    return purchase


@router.get("/returns/new/{order_id}", summary="Start a return", responses=REFUSES)
async def new(request: Request, me: Me, this: This, order_id: OrderId) -> Response:
    purchase = await _purchase(this, order_id)
    order = await this.pool.fetchrow("SELECT external_id, channel FROM orders WHERE key = $1", order_id)
    others = await this.pool.fetch(
        "SELECT key, rma, state FROM returns WHERE order_id = $1 ORDER BY asked_at", order_id
    )
    return page(
        request,
        "returns/new.html",
        order_id=order_id,
        order=order,
        purchase=purchase,
        others=others,
        states=STATES,
        reasons=REASONS,
        at=datetime.fromisoformat,
    )


@router.post(
    "/returns/new/{order_id}",
    summary="Ask for a return, for the customer",
    openapi_extra=form(
        reason="Why it comes back.",
        wanted="`exchange`: other goods; else the money.",
        exchange_sku="What other goods.",
        exchange_title="Their title.",
        exchange_units="How many units of them.",
        exchange_price="The price of one, like 12.99, in the order's currency.",
        note="More of why.",
        others="`units:<line id>`: how many units of that line.",
    ),
)
async def ask(request: Request, me: Me, form: Once, this: This, order_id: OrderId) -> Response:
    """Recorded and answered by the policy at once. The form's id names the return, so it is asked for once."""
    purchase = await _purchase(this, order_id)
    lines = [
        {"line_id": line["line_id"], "sku": line["sku"], "quantity": units}
        for line in purchase["lines"]
        if (units := _units(form, f"units:{line['line_id']}"))
    ]
    if not lines:
        raise NotSaid("Say which units come back.")
    if form["reason"] not in set(ReturnReason):
        raise NotSaid("Say why it comes back.")
    exchange = _exchange(form, str(purchase["currency"])) if form["wanted"] == "exchange" else []
    return_id = f"return-{form.form_id}"
    body = {
        "return_id": return_id,
        "order_id": order_id,
        "lines": lines,
        "reason": form["reason"],
        "wanted": "exchange" if exchange else "refund",
        "exchange_for": exchange,
        "by": "agent",
        "note": " ".join(form["note"].split())[:500],
    }
    made = await this.doors.post("returns", "/returns", body, me)
    await document_when(this, RETURNS, return_id, lambda back: back.state != "asked")
    if made["status"] == "declined":
        notice = Notice("refused", " ".join(made["declined_for"]))
    else:
        notice = Notice("done", f"Authorized: RMA {made['rma']}. Tell the customer to write it on the parcel.")
    return answer(request, notice, f"/returns/{return_id}")


def _exchange(form: Fields, currency: str) -> list[dict[str, Any]]:
    """Raises NotSaid."""
    sku, units = form["exchange_sku"], _units(form, "exchange_units")
    minor = _minor(form["exchange_price"], currency)
    if not sku or not units or minor is None:
        raise NotSaid(f"For an exchange say which SKU, how many, and the price of one in {currency}, like 12.99.")
    title = form["exchange_title"][:500]
    return [{"sku": sku, "title": title, "quantity": units, "unit_price": {"minor": minor, "currency": currency}}]


def _minor(price: str, currency: str) -> int | None:
    """`12.99` in minor units of the currency; None where it is no such price."""
    digits = MINOR_DIGITS.get(currency, 2)
    match = re.fullmatch(r"(\d{1,10})(?:\.(\d{1,4}))?", price, re.ASCII)
    if match is None or len(match[2] or "") > digits:
        return None
    return int(match[1] + (match[2] or "").ljust(digits, "0"))
