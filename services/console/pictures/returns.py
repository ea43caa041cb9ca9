"""One return as the desk that takes goods back sees it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pydantic import Field

from ordermill.contracts.base import Message
from ordermill.contracts.fields import LineQuantity, Money
from ordermill.contracts.returns import (
    Disposition,
    ExchangeLine,
    ExchangeRequested,
    GoodsWaived,
    RefundFailed,
    RefundPaid,
    RefundRequested,
    ReturnAuthorized,
    ReturnClosed,
    ReturnDeclined,
    ReturnExpired,
    ReturnFact,
    ReturnInspected,
    ReturnReason,
    ReturnReceived,
    ReturnRequested,
)
from services.console.picture import Document, Picture
from services.console.told import Told

from .steps import Steps

STATES = {
    "asked": "Asked",
    "on-the-way": "On the way",
    "to-inspect": "To inspect",
    "received": "Waiting for the rest",
    "refunding": "Refund on its way",
    "refund-failed": "Refund failed",
    "closed": "Closed",
    "declined": "Declined",
    "expired": "Expired",
}
"""What a return waits for, or how it ended, in the order of the work."""


class Line(Document):
    """One line's units: asked for, received of those, inspected of those, and found missing of those.

    `waived` did not come, and are credited all the same.
    """

    line_id: str
    sku: str
    asked: int = 0
    received: int = 0
    inspected: int = 0
    missing: int = 0
    waived: int = 0

    @property
    def to_come(self) -> int:
        return self.asked - self.received - self.waived


class ToInspect(Document):
    """Units that lie at a location and were not looked at yet."""

    location: str
    line_id: str
    units: int


class Inspected(Document):
    """What somebody found."""

    location: str
    line_id: str
    sku: str
    units: int
    disposition: Disposition
    note: str = ""


class Refund(Document):
    """What one payment is asked for."""

    goods: Money
    tax: Money
    shipping: Money
    amount: Money
    paid_as: str = ""
    failure: str = ""


class Return(Steps):
    """One return after all that was told of it; names are those of the view of returns."""

    return_id: str = ""
    order_id: str = ""
    status: str | None = None
    rma: str | None = None
    reason: str | None = None
    wanted: str = "refund"
    exchange_for: list[ExchangeLine] = Field(default_factory=list)
    note: str = ""
    declined_for: list[str] = Field(default_factory=list)
    expires_at: datetime | None = None
    lines: list[Line] = Field(default_factory=list)
    to_inspect: list[ToInspect] = Field(default_factory=list)
    refund_id: str | None = None
    refund: Money | None = None
    credit: Money | None = None
    failure: str | None = None
    refunds: dict[str, Refund] = Field(default_factory=dict)
    inspected: list[Inspected] = Field(default_factory=list)
    goods: Money | None = None
    tax: Money | None = None
    shipping: Money | None = None
    restocking_fee: Money | None = None
    paid_reference: str = ""
    paid_at: datetime | None = None

    @property
    def state(self) -> str:
        """A key of STATES."""
        match self.status:
            case "requested":
                return "asked"
            case "authorized":
                return "on-the-way"
            case "received":
                return "to-inspect" if self.to_inspect else "received"
            case None:
                return "asked"
            case status:
                return status.replace(" ", "-")

    @property
    def undelivered(self) -> bool:
        """Whether it makes up for what never arrived."""
        return self.reason == ReturnReason.NOT_DELIVERED

    @property
    def to_come(self) -> int:
        return sum(line.to_come for line in self.lines)

    def line(self, line_id: str) -> Line | None:
        return next((line for line in self.lines if line.line_id == line_id), None)


def draw(back: Return, key: str, item: Told) -> None:
    """Fold one fact of a return in; all of one document's come on one stream, in order."""
    fact = item.message
    what = ""
    match fact:
        case ReturnRequested():
            back.return_id, back.order_id, back.status = key, fact.order_id, "requested"
            back.lines = [Line(line_id=line.line_id, sku=line.sku, asked=line.quantity) for line in fact.lines]
            back.reason, back.wanted, back.note = fact.reason.value, fact.wanted, fact.note
            back.exchange_for = list(fact.exchange_for)
            what = _units(fact.lines)
        case ReturnAuthorized():
            back.status, back.rma, back.expires_at = "authorized", fact.rma, fact.expires_at
            what = fact.rma
        case ReturnDeclined():
            back.status, back.declined_for = "declined", list(fact.reasons)
            what = " ".join(fact.reasons)
        case ReturnReceived():
            _receive(back, fact)
            what = f"{_units(fact.lines)} at {fact.location}"
        case ReturnInspected():
            _inspect(back, fact)
            what = (
                ", ".join(f"{x.quantity} × {x.sku} {x.disposition.value}" for x in fact.lines) + f" at {fact.location}"
            )
        case GoodsWaived():
            for each in fact.lines:
                if (line := back.line(each.line_id)) is not None:
                    line.waived = each.quantity
            what = _units(fact.lines)
        case RefundRequested():
            asked = Refund(goods=fact.goods, tax=fact.tax, shipping=fact.shipping, amount=fact.amount)
            back.refunds[fact.refund_id] = asked
            back.restocking_fee = fact.restocking_fee or back.restocking_fee
            what = str(fact.amount)
            _add_up(back)
        case RefundFailed():
            what = fact.reason
            if (refund := back.refunds.get(fact.refund_id)) is not None:
                refund.failure = fact.reason
                _add_up(back)
        case RefundPaid():
            what = f"{fact.amount}, {fact.provider_reference}"
            if (refund := back.refunds.get(fact.refund_id)) is not None:
                refund.paid_as, refund.failure, back.paid_at = fact.provider_reference, "", fact.refunded_at
                _add_up(back)
        case ExchangeRequested():
            back.credit = fact.credit
            what = ", ".join(f"{line.quantity} × {line.sku}" for line in fact.lines)
        case ReturnExpired():
            back.status = "expired"
        case ReturnClosed():
            back.status = back.status if back.status == "expired" else "closed"
    back.note_step(item, what)


def _add_up(back: Return) -> None:
    """What is shown of all refunds together: paid once each is, failed once none is under way."""
    every = list(back.refunds.values())
    currency = every[0].amount.currency
    back.refund_id = back.refund_id or next(iter(back.refunds))
    back.refund = Money.sum((refund.amount for refund in every), currency)
    back.goods = Money.sum((refund.goods for refund in every), currency)
    back.tax = Money.sum((refund.tax for refund in every), currency)
    back.shipping = Money.sum((refund.shipping for refund in every), currency)
    back.failure = "; ".join(sorted({refund.failure for refund in every if refund.failure})) or None
    back.paid_reference = ", ".join(refund.paid_as for refund in every if refund.paid_as)
    if not all(refund.paid_as for refund in every):
        back.paid_at = None
    under_way = any(not refund.paid_as and not refund.failure for refund in every)
    back.status = "refunding" if under_way or not back.failure else "refund failed"


def _receive(back: Return, fact: ReturnReceived) -> None:
    back.status = "received"
    for each in fact.lines:
        if (line := back.line(each.line_id)) is not None:
            line.received += each.quantity
        _at(back, fact.location, each.line_id, each.quantity)


def _inspect(back: Return, fact: ReturnInspected) -> None:
    for each in fact.lines:
        if (line := back.line(each.line_id)) is not None:
            line.inspected += each.quantity
            line.missing += each.quantity if each.disposition is Disposition.MISSING else 0
        _at(back, fact.location, each.line_id, -each.quantity)
        back.inspected.append(
            Inspected(
                location=fact.location,
                line_id=each.line_id,
                sku=each.sku,
                units=each.quantity,
                disposition=each.disposition,
                note=each.note,
            )
        )


def _at(back: Return, location: str, line_id: str, units: int) -> None:
    """So many more units of a line wait at a location to be looked at."""
    here = {(each.location, each.line_id): each.units for each in back.to_inspect}
    here[location, line_id] = here.get((location, line_id), 0) + units
    back.to_inspect = [
        ToInspect(location=place, line_id=line, units=count)
        for (place, line), count in sorted(here.items(), key=lambda each: f"{each[0][0]}/{each[0][1]}")
        if count
    ]


def _units(lines: Iterable[LineQuantity]) -> str:
    return ", ".join(f"{line.quantity} × {line.sku}" for line in lines)


def columns(back: Return) -> Mapping[str, Any]:
    return {
        "order_id": back.order_id,
        "state": back.state,
        "rma": back.rma or "",
        "expires_at": back.expires_at,
        "asked_at": back.steps[0].at if back.steps else None,
        "changed_at": back.steps[-1].at if back.steps else None,
    }


def _keys(item: Told) -> Iterable[str]:
    return (item.message.return_id,) if isinstance(item.message, ReturnFact) else ()


MESSAGES: frozenset[type[Message]] = frozenset({
    ReturnRequested, ReturnAuthorized, ReturnDeclined, ReturnReceived, ReturnInspected, GoodsWaived, RefundRequested,
    RefundPaid, RefundFailed, ExchangeRequested, ReturnExpired, ReturnClosed,
})  # fmt: skip

RETURNS = Picture(table="returns", document=Return, messages=MESSAGES, keys=_keys, draw=draw, columns=columns)
