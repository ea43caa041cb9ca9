"""A return after its events: what of it was received, inspected, refunded."""

from __future__ import annotations

from base64 import b32encode
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, Literal, assert_never

from immutables import Map

from ordermill.contracts.fields import Money
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
    ReturnEvent,
    ReturnExpired,
    ReturnInspected,
    ReturnReason,
    ReturnReceived,
    ReturnRequested,
)
from ordermill.decider import Decider
from ordermill.money import RefundStage
from ordermill.pmap import PMap
from ordermill.replacing import replace


class Stage(StrEnum):
    """How far a return has come."""

    REQUESTED = "requested"
    DECLINED = "declined"
    AUTHORIZED = "authorized"
    RECEIVED = "received"
    """Something has come; it is settled once all has come and been inspected."""
    REFUNDING = "refunding"
    REFUND_FAILED = "refund failed"
    EXPIRED = "expired"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class ReturnLine:
    """One line's units: asked for, received of those, inspected of those, and found missing of those.

    `waived` were asked for, did not come, and are credited all the same.
    """

    line_id: str
    sku: str
    asked: int
    received: int = 0
    inspected: int = 0
    missing: int = 0
    waived: int = 0

    @property
    def to_come(self) -> int:
        return self.asked - self.received

    @property
    def credited(self) -> int:
        return self.inspected - self.missing + self.waived


@dataclass(frozen=True, slots=True)
class Refund:
    asked: RefundRequested
    stage: RefundStage = RefundStage.PENDING
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Return:
    """One return after its events so far; `Return()` is one nobody has asked for."""

    return_id: str = ""
    order_id: str = ""
    stage: Stage | None = None
    lines: tuple[ReturnLine, ...] = ()
    reason: ReturnReason | None = None
    wanted: Literal["refund", "exchange"] = "refund"
    exchange_for: tuple[ExchangeLine, ...] = ()
    note: str = ""
    declined_for: tuple[str, ...] = ()
    rma: str = ""
    expires_at: datetime | None = None
    to_inspect: PMap[str, int] = field(default_factory=Map)
    """Units received and not inspected yet, by `<location>/<line>`."""
    receipts: PMap[str, bool] = field(default_factory=Map)
    inspections: PMap[str, bool] = field(default_factory=Map)
    refunds: PMap[str, Refund] = field(default_factory=Map)
    """What was asked of the payment provider, by refund id."""
    refund_id: str = ""
    """Of the first."""
    credit: Money | None = None
    """What an exchange is paid with."""

    @property
    def undelivered(self) -> bool:
        """Whether it is for units that never reached the customer."""
        return self.reason is ReturnReason.NOT_DELIVERED


def evolve(current: Return, event: ReturnEvent) -> Return:
    """Fold one event in. Never refuses: it happened, whatever today's rules say."""
    match event:
        case ReturnRequested():
            return replace(
                current,
                return_id=event.return_id,
                order_id=event.order_id,
                stage=Stage.REQUESTED,
                lines=tuple(ReturnLine(line.line_id, line.sku, line.quantity) for line in event.lines),
                reason=event.reason,
                wanted=event.wanted,
                exchange_for=event.exchange_for,
                note=event.note,
            )
        case ReturnAuthorized():
            return replace(current, stage=Stage.AUTHORIZED, rma=event.rma, expires_at=event.expires_at)
        case ReturnDeclined():
            return replace(current, stage=Stage.DECLINED, declined_for=event.reasons)
        case ReturnReceived():
            return _with_receipt(current, event)
        case ReturnInspected():
            return _with_inspection(current, event)
        case GoodsWaived():
            waived = {line.line_id: line.quantity for line in event.lines}
            lines = tuple(replace(line, waived=waived.get(line.line_id, 0)) for line in current.lines)
            return replace(current, lines=lines)
        case RefundRequested():
            current = replace(current, refund_id=current.refund_id or event.refund_id)
            return _refunding(current, event.refund_id, Refund(event))
        case RefundFailed():
            if (asked := current.refunds.get(event.refund_id)) is None:
                return current
            failed = replace(asked, stage=RefundStage.FAILED, failure=event.reason)
            return _refunding(current, event.refund_id, failed)
        case RefundPaid():
            if (asked := current.refunds.get(event.refund_id)) is None:
                return current
            return _refunding(current, event.refund_id, replace(asked, stage=RefundStage.PAID, failure=""))
        case ExchangeRequested():
            return replace(current, credit=event.credit)
        case ReturnExpired():
            return replace(current, stage=Stage.EXPIRED)
        case ReturnClosed():
            return current if current.stage is Stage.EXPIRED else replace(current, stage=Stage.CLOSED)
        case _:
            assert_never(event)


def _refunding(current: Return, refund_id: str, refund: Refund) -> Return:
    refunds = current.refunds.set(refund_id, refund)
    stages = {each.stage for each in refunds.values()}
    failed = RefundStage.FAILED in stages and RefundStage.PENDING not in stages
    return replace(current, refunds=refunds, stage=Stage.REFUND_FAILED if failed else Stage.REFUNDING)


def _with_receipt(current: Return, event: ReturnReceived) -> Return:
    came = {line.line_id: line.quantity for line in event.lines}
    to_inspect, receipts = current.to_inspect, current.receipts
    for line_id, units in came.items():
        key = f"{event.location}/{line_id}"
        to_inspect = to_inspect.set(key, to_inspect.get(key, 0) + units)
    if event.receipt_id is not None:
        receipts = receipts.set(event.receipt_id, True)
    lines = tuple(replace(line, received=line.received + came.get(line.line_id, 0)) for line in current.lines)
    return replace(current, stage=Stage.RECEIVED, lines=lines, to_inspect=to_inspect, receipts=receipts)


def _with_inspection(current: Return, event: ReturnInspected) -> Return:
    seen: dict[str, int] = {}
    missing: dict[str, int] = {}
    to_inspect, inspections = current.to_inspect, current.inspections
    for line in event.lines:
        seen[line.line_id] = seen.get(line.line_id, 0) + line.quantity
        if line.disposition is Disposition.MISSING:
            missing[line.line_id] = missing.get(line.line_id, 0) + line.quantity
        key = f"{event.location}/{line.line_id}"
        to_inspect = to_inspect.set(key, to_inspect.get(key, 0) - line.quantity)
    if event.inspection_id is not None:
        inspections = inspections.set(event.inspection_id, True)
    lines = tuple(
        replace(
            line,
            inspected=line.inspected + seen.get(line.line_id, 0),
            missing=line.missing + missing.get(line.line_id, 0),
        )
        for line in current.lines
    )
    return replace(current, lines=lines, to_inspect=to_inspect, inspections=inspections)


RETURN: Decider[Return] = Decider("return", Return(), evolve)


def rma_of(return_id: str) -> str:
    """The number on the return's papers: ten letters and digits that follow from its id, easy to read out."""
    digest = b32encode(sha256(return_id.encode()).digest()).decode()
    return f"R-{digest[:5]}-{digest[5:10]}"


def return_summary(current: Return) -> dict[str, Any]:
    """The return as a view keeps it: JSON values only."""
    amounts = [each.asked.amount for each in current.refunds.values()]
    return {
        "return_id": current.return_id,
        "order_id": current.order_id,
        "status": current.stage.value if current.stage else None,
        "rma": current.rma or None,
        "reason": current.reason.value if current.reason else None,
        "wanted": current.wanted,
        "exchange_for": [line.model_dump() for line in current.exchange_for],
        "note": current.note,
        "declined_for": list(current.declined_for),
        "expires_at": current.expires_at.isoformat() if current.expires_at else None,
        "lines": [
            {
                "line_id": line.line_id,
                "sku": line.sku,
                "asked": line.asked,
                "received": line.received,
                "inspected": line.inspected,
                "missing": line.missing,
                "waived": line.waived,
            }
            for line in current.lines
        ],
        "to_inspect": [
            {"location": key.partition("/")[0], "line_id": key.partition("/")[2], "units": units}
            for key, units in sorted(current.to_inspect.items())
            if units
        ],
        "refund_id": current.refund_id or None,
        "refund": Money.sum(amounts, amounts[0].currency).model_dump() if amounts else None,
        "credit": current.credit.model_dump() if current.credit else None,
        "failure": "; ".join(sorted({each.failure for each in current.refunds.values() if each.failure})) or None,
    }
