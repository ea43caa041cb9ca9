"""One order as an operations team sees it: its money, where each unit is, what of it needs a person. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from pydantic import Field

from ordermill.contracts.capture import OrderLine
from ordermill.contracts.fields import Destination, LineQuantity, Money
from ordermill.contracts.tracking import Milestone, ParcelStatus
from ordermill.money import first_units, goods_of
from services.console.picture import Document

Need = Literal[
    "rejected", "held", "refused", "change-refused", "unroutable", "short-pick", "late", "lost", "came-back",
    "failed-effect",
]  # fmt: skip
NEEDS: tuple[Need, ...] = get_args(Need)
"""What a person should look at first, most pressing first."""
ENDED = frozenset({"delivered", "canceled", "returned"})
_BEFORE_PACKING = frozenset({"asked", "accepted", "picked"})


class Units(Document):
    """Where the units of one line are by inventory's word; of those shipped, how many came and came back."""

    reserved: int = 0
    backordered: int = 0
    allocated: int = 0
    shipped: int = 0
    let_go: int = 0
    delivered: int = 0
    returned: int = 0
    claimed: int = 0
    """Spoken for by returns, from the request on."""
    undelivered: int = 0
    """In parcels that are lost or back at their sender, and were not delivered after all."""
    claimed_undelivered: int = 0
    """Of `claimed`, those that never arrived."""
    made_up: int = 0
    """Of those that never arrived: received again by us, or credited as lost."""


class Package(Document):
    """A packed box of a fulfillment order."""

    weight_g: int = 0
    lines: tuple[LineQuantity, ...] = ()
    carrier: str = ""
    service: str = ""
    tracking_number: str = ""
    failure: str = ""
    """Why the carrier sold no label, until it does."""


class Work(Document):
    """One fulfillment order."""

    location: str = ""
    state: Literal["asked", "accepted", "rejected", "picked", "packed", "labeled", "shipped", "canceled"] = "asked"
    carrier: str = ""
    service: str = ""
    ship_by: datetime | None = None
    deliver_by: datetime | None = None
    shipped_at: datetime | None = None
    lines: dict[str, int] = Field(default_factory=dict)
    """Units still to ship or shipped, by order line."""
    short: dict[str, int] = Field(default_factory=dict)
    packages: dict[int, Package] = Field(default_factory=dict)
    reason: str = ""
    """Why the location turned it down."""
    recalls: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Units called off here that inventory still counts as held, by cancellation, the oldest first, and line."""
    reroutes: dict[str, bool] = Field(default_factory=dict)
    """Requests of people to give units back, by inventory's word."""
    answered: dict[str, bool] = Field(default_factory=dict)
    """The location's answers to whatever was recalled: whether it was in time."""

    @property
    def gives_back(self) -> bool:
        """Whether its units can still be called off: until they are packed, and then if a box gets no label."""
        stuck = any(package.failure for package in self.packages.values())
        return self.state in _BEFORE_PACKING or (self.state == "packed" and stuck and not self.waiting)

    @property
    def refused(self) -> dict[int, Package]:
        """Boxes that got no label and are to leave."""
        found = self.packages.items() if self.state != "canceled" else ()
        return {number: package for number, package in found if package.failure}

    @property
    def waiting(self) -> dict[int, Package]:
        """Boxes for which a carrier is asked for a label."""
        found = self.packages.items() if self.state == "packed" else ()
        return {number: box for number, box in found if not box.failure and not box.tracking_number}

    @property
    def asked_back(self) -> bool:
        """Whether a person wants the units elsewhere and the location has not answered."""
        return any(recall not in self.answered for recall in self.reroutes)

    def called_off(self, line_id: str) -> int:
        return sum(units.get(line_id, 0) for units in self.recalls.values())

    def answer_recalls(self, line_id: str, units: int, of: str | None = None) -> None:
        """So many called off units of a line are called off no longer: those `of` one cancellation, or of any."""
        for recall in [of] if of is not None else list(reversed(self.recalls)):
            lines = self.recalls.get(recall, {})
            less = min(units, lines.get(line_id, 0))
            if less <= 0:
                continue
            units -= less
            lines[line_id] -= less
            if not lines[line_id]:
                del lines[line_id]
            if not lines:
                del self.recalls[recall]


class Refund(Document):
    amount: Money | None = None
    paid: bool = False
    failure: str = ""
    return_id: str = ""


class ReturnOf(Document):
    state: str = "requested"
    rma: str = ""
    reasons: tuple[str, ...] = ()
    lines: tuple[LineQuantity, ...] = ()
    undelivered: bool = False
    """Whether it makes up for what never arrived."""


class Promise(Document):
    """A date told to the customer; `reason` is why another one was."""

    promised_by: datetime
    said_at: datetime
    reason: str = ""


class ShortageOf(Document):
    sku: str
    wanted: int
    available: int


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """So many units of a line in one place. `location` is set while a location has them."""

    state: str
    units: int
    location: str = ""


@dataclass(frozen=True, slots=True)
class Balance:
    """An order's money, in minor units of one currency. charged = kept + refunded."""

    currency: str
    charged: int
    unpaid: int
    """Owed for what is neither canceled nor back, and not paid."""
    canceled: int
    """What goes back, or went, for units that were canceled."""
    returned: int
    """The same for units that came back."""
    refunded: int
    """Paid back, for whatever reason."""
    pending: int
    failed: int

    @property
    def kept(self) -> int:
        return self.charged - self.refunded


class Order(Document):
    """One order after all that was told of it."""

    order_id: str = ""
    channel: str = ""
    external_id: str = ""
    customer_id: str = ""
    placed_at: datetime | None = None
    first_at: datetime | None = None
    """The earliest word of it."""
    service_level: str = ""
    allow_backorder: bool = False
    buyer: str | None = None
    """Sealed."""
    customer: Literal["kept", "forgetting", "forgotten"] = "kept"
    not_forgotten: str = ""
    """Why the customer could not be forgotten."""
    destination: Destination | None = None
    lines: tuple[OrderLine, ...] = ()
    revision: int = -1
    shipping: Money | None = None
    shipping_tax: Money | None = None
    tax_included: bool = False
    total: Money | None = None
    payment: str = ""
    payment_reference: str = ""
    unpaid: Money | None = None
    """What is owed and not paid; where capture did not tell, all while payment is pending."""
    set_off: int = 0
    """What of it came back: it is not owed any more. In minor units, by the word of returns."""
    holds: dict[str, str] = Field(default_factory=dict)
    """By reason, the note."""
    released: bool = False
    rejected: tuple[str, ...] = ()
    shortages: tuple[ShortageOf, ...] = ()
    """Why inventory refused it."""
    refused_changes: dict[str, str] = Field(default_factory=dict)
    """The newest change of the channel that was refused and with which no person has dealt, by reason."""
    settled: list[str] = Field(default_factory=list)
    """Reasons of refused changes with which a person has dealt."""
    canceled: dict[str, int] = Field(default_factory=dict)
    calls_off: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Cancellations that wait for an answer: units by line."""
    units: dict[str, Units] = Field(default_factory=dict)
    allocations: dict[str, dict[str, int]] = Field(default_factory=dict)
    """By fulfillment order, units by line."""
    plan: Literal["", "routed", "deferred", "unroutable"] = ""
    plan_id: str = ""
    plan_reason: str = ""
    plan_cost: Money | None = None
    promises: tuple[Promise, ...] = ()
    promise_version: int = 0
    work: dict[str, Work] = Field(default_factory=dict)
    refunds: dict[str, Refund] = Field(default_factory=dict)
    returns: dict[str, ReturnOf] = Field(default_factory=dict)
    status: str = "received"
    status_version: int = 0
    late: bool = False
    parcels: tuple[ParcelStatus, ...] = ()
    astray: dict[str, bool] = Field(default_factory=dict)
    """Shipments that are lost or back at their sender, by the word of returns."""
    changed_at: datetime | None = None

    @property
    def promised_by(self) -> datetime | None:
        return self.promises[-1].promised_by if self.promises else None

    @property
    def word(self) -> str:
        """The status as the queue shows it."""
        return "rejected" if self.rejected else self.status

    @property
    def ended(self) -> bool:
        """Units may come back while others are still to be sent."""
        return self.status in ENDED or (self.status == "partially_returned" and self._all_arrived())

    def line_units(self, line_id: str) -> Units:
        return self.units.setdefault(line_id, Units())

    def part(self, fulfillment_id: str) -> Work:
        return self.work.setdefault(fulfillment_id, Work())

    def refund(self, refund_id: str) -> Refund:
        return self.refunds.setdefault(refund_id, Refund())

    def returning(self, return_id: str) -> ReturnOf:
        return self.returns.setdefault(return_id, ReturnOf())

    # Where each unit is

    def whereabouts(self, line: OrderLine) -> list[Whereabouts]:
        """Every unit of the line once, in the order of its way; the numbers add up to what was ordered."""
        units = self.units.get(line.line_id, Units())
        canceled = self.canceled.get(line.line_id, 0)
        found = [
            Whereabouts("waits for stock", units.backordered),
            Whereabouts("reserved, no location yet", units.reserved),
        ]
        for fulfillment_id, held in sorted(self.allocations.items()):
            part = self.work.get(fulfillment_id, Work())
            found.append(Whereabouts(_AT_WORK.get(part.state, part.state), held.get(line.line_id, 0), part.location))
        made_up = min(units.made_up, units.undelivered)  # what then arrived after all is delivered
        found += [
            Whereabouts("on its way", units.shipped - units.delivered - units.undelivered),
            Whereabouts("lost or back at its sender", units.undelivered - made_up),
            Whereabouts("delivered", units.delivered - units.returned),
            Whereabouts("returned", units.returned),
            Whereabouts("never arrived, made up for", made_up),
            Whereabouts("canceled", canceled),
        ]
        rest = line.quantity - sum(place.units for place in found)
        waits = "being canceled" if units.let_go else "on hold" if self.holds else "to be reserved"
        if self.rejected:
            waits = "rejected"
        return [place for place in (Whereabouts(waits, rest), *found) if place.units > 0]

    def called_off(self, line_id: str) -> int:
        """Units whose cancellation has no answer yet. Of those that another one got first no answer comes."""
        asked = sum(units.get(line_id, 0) for units in self.calls_off.values())
        return min(asked, self._here(line_id)) if asked else 0

    def _here(self, line_id: str) -> int:
        """Units neither canceled nor shipped."""
        ordered = sum(line.quantity for line in self.lines if line.line_id == line_id)
        return max(0, ordered - self.canceled.get(line_id, 0) - self.units.get(line_id, Units()).shipped)

    def recallable(self, fulfillment_id: str) -> dict[str, int]:
        """Units that a location holds and that no cancellation has called off, by line."""
        part = self.work.get(fulfillment_id, Work())
        held = self.allocations.get(fulfillment_id, {})
        return {line: left for line, units in held.items() if (left := units - part.called_off(line)) > 0}

    def packed(self, line_id: str) -> int:
        """Units in boxes that are about to leave: too late to cancel them, too early to return them."""
        return sum(
            held.get(line_id, 0)
            for fulfillment_id, held in self.allocations.items()
            if (part := self.work.get(fulfillment_id)) and part.state in _PACKED and not part.gives_back
        )

    def cancelable(self, line: OrderLine) -> int:
        """Units that a cancellation may still reach."""
        return max(0, self._here(line.line_id) - self.packed(line.line_id) - self.called_off(line.line_id))

    def returnable(self, line: OrderLine) -> int:
        """Units at the customer's that no return speaks for."""
        units = self.units.get(line.line_id, Units())
        return max(0, units.delivered - (units.claimed - units.claimed_undelivered))

    def astray_units(self, line: OrderLine) -> int:
        """Units that never arrived and that no return speaks for."""
        units = self.units.get(line.line_id, Units())
        return max(0, units.undelivered - units.claimed_undelivered)

    # Money

    def balance(self) -> Balance | None:
        """None for an order without a total."""
        if self.total is None:
            return None
        by_cancellation = [refund for refund in self.refunds.values() if not refund.return_id]
        by_return = [refund for refund in self.refunds.values() if refund.return_id]
        canceled = sum(_minor(refund.amount) for refund in by_cancellation)
        charged = canceled + self._held()
        open_refunds = [refund for refund in self.refunds.values() if not refund.paid]
        return Balance(
            currency=self.total.currency,
            charged=charged,
            unpaid=max(0, self._owed() - self._held() - self.set_off),
            canceled=canceled,
            returned=sum(_minor(refund.amount) for refund in by_return),
            refunded=sum(_minor(refund.amount) for refund in self.refunds.values() if refund.paid),
            pending=sum(_minor(refund.amount) for refund in open_refunds if not refund.failure),
            failed=sum(_minor(refund.amount) for refund in open_refunds if refund.failure),
        )

    def worth(self, units: Mapping[str, int]) -> Money | None:
        """What goes back when so many more units of each line are canceled; None while nothing was charged."""
        if self.total is None or not self._held():
            return None
        return Money(minor=max(0, self._held() - self._owed(units)), currency=self.total.currency)

    def _held(self) -> int:
        """What was paid of what is owed."""
        owed = self._owed()
        if self.unpaid is None:
            return 0 if self.payment == "pending" else owed
        return max(0, owed - self.unpaid.minor)

    def _owed(self, less: Mapping[str, int] | None = None) -> int:
        """The share of what was not canceled: goods and tax by unit; shipping goes with the last unit."""
        owed = still_wanted = 0
        for line in self.lines:
            gone = self.canceled.get(line.line_id, 0) + (less or {}).get(line.line_id, 0)
            wanted = max(0, line.quantity - gone)
            still_wanted += wanted
            owed += first_units(goods_of(line), wanted, line.quantity).minor
            if not self.tax_included:
                owed += first_units(line.tax, wanted, line.quantity).minor
        return owed + (_minor(self.shipping) + _minor(self.shipping_tax) if still_wanted else 0)

    # What a person should look at

    def needs(self) -> list[tuple[Need, str]]:
        """What needs a person and why, most pressing first."""
        reasons: dict[Need, str] = {}
        if self.rejected:
            reasons["rejected"] = "; ".join(self.rejected)
        if not self.ended:
            if self.holds:
                reasons["held"] = "; ".join(_held(reason, note) for reason, note in sorted(self.holds.items()))
            if self.shortages:
                reasons["refused"] = ", ".join(
                    f"{s.sku}: {s.wanted} wanted, {s.available} there" for s in self.shortages
                )
            if self.refused_changes and not self.rejected:
                reasons["change-refused"] = "; ".join(sorted(self.refused_changes))
            if self.plan == "unroutable" and any(units.reserved for units in self.units.values()):
                reasons["unroutable"] = self.plan_reason
            if any(part.short for part in self.work.values()) and not self._all_gone():
                reasons["short-pick"] = self._short()
            if self.late:
                reasons["late"] = self.stuck()
        if not self._made_up_for():
            if lost := [parcel for parcel in self.parcels if parcel.lost]:
                reasons["lost"] = _numbers(lost)
            back = [parcel for parcel in self.parcels if parcel.milestone is Milestone.RETURNED]
            if back and self.status not in ("canceled", "returned"):
                reasons["came-back"] = _numbers(back)
        if failures := self._failures():
            reasons["failed-effect"] = "; ".join(failures)
        return [(need, reasons[need]) for need in NEEDS if need in reasons]

    def stuck(self) -> str:
        """Where the units are that have not arrived, and so what the order waits for."""
        found: dict[str, None] = {}
        for line in self.lines:
            for place in self.whereabouts(line):
                if place.state not in _AT_REST:
                    found[_waits(place)] = None
        moving = [p for p in self.parcels if p.milestone is not Milestone.DELIVERED]
        if _waits(Whereabouts("on its way", 1)) in found and moving:
            found.pop(_waits(Whereabouts("on its way", 1)))
            found |= {f"{p.carrier}: {p.milestone.value.replace('_', ' ')}": None for p in moving}
        return ", ".join(found)

    def _all_arrived(self) -> bool:
        """Or was made up for."""
        counts = ((line, self.units.get(line.line_id, Units())) for line in self.lines)
        return all(
            units.delivered + units.made_up >= line.quantity - self.canceled.get(line.line_id, 0)
            for line, units in counts
        )

    def _made_up_for(self) -> bool:
        """Whether returns speak for all that never arrived."""
        return bool(self.astray) and not any(self.astray_units(line) for line in self.lines)

    def _all_gone(self) -> bool:
        return all(not (units.reserved or units.backordered or units.allocated) for units in self.units.values())

    def _short(self) -> str:
        skus = {line.line_id: line.sku for line in self.lines}
        missing = [
            f"{skus.get(line_id, line_id)} ×{units} at {part.location}"
            for part in self.work.values()
            for line_id, units in part.short.items()
        ]
        return ", ".join(sorted(missing))

    def _failures(self) -> Iterable[str]:
        found = [
            f"label refused at {part.location}: {package.failure}"
            for part in self.work.values()
            for package in part.refused.values()
        ]
        found += [
            f"refund of {refund.amount} not paid: {refund.failure}"
            for refund in self.refunds.values()
            if refund.failure and not refund.paid
        ]
        if self.not_forgotten:
            found.append(f"customer not forgotten: {self.not_forgotten}")
        return sorted(found)


_PACKED = frozenset({"packed", "labeled", "shipped"})
_AT_REST = frozenset({"delivered", "returned", "never arrived, made up for", "canceled"})
_AT_WORK = {
    "asked": "not accepted yet",
    "accepted": "to be picked",
    "picked": "to be packed",
    "packed": "packed, no label yet",
    "labeled": "packed, to be handed over",
    "shipped": "handed over",
    "rejected": "given back",
    "canceled": "given back",
}


def _numbers(parcels: Iterable[ParcelStatus]) -> str:
    return ", ".join(f"{parcel.carrier} {parcel.tracking_number}" for parcel in parcels)


def _waits(place: Whereabouts) -> str:
    return f"{place.location}: {place.state}" if place.location else place.state


def _held(reason: str, note: str) -> str:
    words = reason.replace("-", " ")
    return f"{words}: {note}" if note and note != reason else words


def _minor(amount: Money | None) -> int:
    return amount.minor if amount is not None else 0
