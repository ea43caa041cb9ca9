"""What may be done to an order now, what each of it will do, and why not where it may not. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ordermill.contracts.base import Message
from ordermill.contracts.capture import (
    CancellationRefundRequested,
    CancellationRequested,
    CustomerForgetRequested,
    HoldReleased,
    OrderChangeSettled,
    OrderHeld,
    OrderLinesCanceled,
)
from ordermill.contracts.fulfillment import LabelRequested
from ordermill.contracts.inventory import AllocationRecalled
from ordermill.contracts.returns import RefundRequested, ReturnRequested

from .pictures.order import Order, Work
from .sentences import hold

Do = Literal["hold", "release", "cancel", "settle", "reroute", "make-up", "return", "label", "refund", "forget"]
TITLES: Mapping[Do, str] = {
    "hold": "Hold",
    "release": "Release",
    "cancel": "Cancel units",
    "settle": "Deal with a refused change",
    "reroute": "Route again",
    "make-up": "Make up for what never arrived",
    "return": "Start a return",
    "label": "Ask for the label again",
    "refund": "Try the refund again",
    "forget": "Forget the customer",
}


@dataclass(frozen=True, slots=True)
class Action:
    """`does`: what pressing it will do. `reason`: why it can't be done now; empty if it can.

    `of` tells several of a kind apart: a hold's reason, a fulfillment order, one of its packages.
    """

    do: Do
    title: str
    does: str
    reason: str = ""
    of: str = ""

    @property
    def possible(self) -> bool:
        return not self.reason


def actions(order: Order) -> list[Action]:
    """All that a person might want: first what is possible, then what is not."""
    found = [
        _hold(order),
        *_release(order),
        *_settle(order),
        *_reroute(order),
        *_labels(order),
        *_refunds(order),
        _make_up(order),
        _cancel(order),
        _return(order),
        _forget(order),
    ]
    return sorted(found, key=lambda each: not each.possible)


def action(order: Order, do: Do, of: str) -> Action:
    """One of them; where there is none such now, one that says so."""
    found = [each for each in actions(order) if each.do == do and of in (each.of, "")]
    return found[0] if found else Action(do, TITLES[do], "", "there is nothing of that kind here any more", of)


def did(do: Do, of: str, fact: Message | None) -> bool:
    """Whether this fact is what comes of that action."""
    match do, fact:
        case ("hold", OrderHeld()) | ("return" | "make-up", ReturnRequested()):
            return True
        case "cancel", CancellationRequested() | OrderLinesCanceled():
            return True
        case "release", HoldReleased(reason=reason):
            return of in (reason.value, "")
        case "settle", OrderChangeSettled(change_id=key):
            return of in (key, "")
        case "reroute", AllocationRecalled(fulfillment_id=key):
            return of in (key, "")
        case "label", LabelRequested(fulfillment_id=key, package=number):
            return of in (f"{key}/{number}", "")
        case "refund", CancellationRefundRequested(refund_id=key) | RefundRequested(refund_id=key):
            return of in (key, "")
        case "forget", CustomerForgetRequested():
            return True
        case _:
            return False


def _over(order: Order) -> str:
    """Why nothing happens to this order any more."""
    if order.rejected:
        return "the order was rejected: its channel must send a sound one"
    if order.status == "canceled":
        return "the order is canceled"
    return ""


def _hold(order: Order) -> Action:
    does = "Nothing is reserved or shipped until a person releases it."
    reason = _over(order)
    if not reason and order.released:
        reason = "stock is claimed for it already: cancel units or route them again instead"
    if not reason and "manual" in order.holds:
        reason = "a person holds it already"
    return Action("hold", "Hold", does, reason)


def _release(order: Order) -> list[Action]:
    if not order.holds:
        reason = _over(order) or "nothing holds the order"
        return [Action("release", "Release", "The order goes on.", reason)]
    found = []
    for held in sorted(order.holds):
        others = [hold(other) for other in sorted(order.holds) if other != held]
        does = "The order goes on: stock is reserved for it, and a location is asked to ship it."
        if others:
            does = f"The order stays on hold for {' and '.join(others)}."
        found.append(Action("release", f"Release: {hold(held)}", does, _over(order), held))
    return found


def _settle(order: Order) -> list[Action]:
    return [
        Action(
            "settle",
            "Done with the refused change",
            f"It was refused: {reason.rstrip('.')}. The order does not wait for a person because of it any more, and "
            "nothing else happens: do first what the channel wants, or tell the customer that it can't be done.",
            "",
            change_id,
        )
        for reason, change_id in sorted(order.refused_changes.items())
    ]


def _reroute(order: Order) -> list[Action]:
    found = [_reroute_part(order, key, part) for key, part in order.work.items() if order.recallable(key)]
    if found:
        return found
    reason = _over(order)
    if not reason and any(units.reserved for units in order.units.values()):
        reason = "no location has its units yet; routing goes on by itself"
    if not reason and any(units.allocated for units in order.units.values()):
        reason = "what its locations have is being canceled"
    return [Action("reroute", "Route again", "", reason or "no location has units of it that could go from elsewhere")]


def _reroute_part(order: Order, fulfillment_id: str, part: Work) -> Action:
    number = sum(order.recallable(fulfillment_id).values())
    does = (
        f"{part.location} is asked to give back {_units_of(number)}; it does so unless they are packed by then "
        f"and get their labels. The cheapest way from elsewhere is taken, and the promise moves if it must. "
        f"Should only {part.location} have the goods, it gets them again."
    )
    reason = ""
    if part.asked_back:
        reason = f"{part.location} was asked already and has not answered"
    elif not part.gives_back:
        reason = f"{part.location} has packed them"
    return Action("reroute", f"Route again: {part.location}", does, reason, fulfillment_id)


def _labels(order: Order) -> list[Action]:
    waiting = [
        Action(
            "label",
            f"Ask another carrier for the label: {part.location}, box {number}",
            f"{package.carrier or part.carrier} has not answered yet and is asked no more. Should it have sold a label "
            "unheard, its invoice shows it.",
            "",
            f"{fulfillment_id}/{number}",
        )
        for fulfillment_id, part in order.work.items()
        for number, package in sorted(part.waiting.items())
    ]
    return waiting + [
        Action(
            "label",
            f"Ask for the label again: {part.location}, box {number}",
            f"{package.carrier or part.carrier} is asked once more, or another carrier if you name one. "
            f"It said: {package.failure}",
            "",
            f"{fulfillment_id}/{number}",
        )
        for fulfillment_id, part in order.work.items()
        for number, package in sorted(part.refused.items())
    ]


def _refunds(order: Order) -> list[Action]:
    return [
        Action(
            "refund",
            f"Try the refund of {refund.amount} again",
            f"The payment provider is asked again under the same key, so it pays once. It said: {refund.failure}",
            "",
            refund_id,
        )
        for refund_id, refund in sorted(order.refunds.items())
        if refund.failure and not refund.paid
    ]


def _cancel(order: Order) -> Action:
    units = {line.line_id: order.cancelable(line) for line in order.lines}
    number = sum(units.values())
    if number:
        return Action("cancel", "Cancel units", cancels(order, units))
    reason = _over(order)
    if not reason and any(order.called_off(line.line_id) for line in order.lines):
        reason = "a cancellation waits for its answer already"
    if not reason:
        reason = "all its units are packed or gone: they can be returned once they are delivered"
    return Action("cancel", "Cancel units", "", reason)


def cancels(order: Order, units: Mapping[str, int]) -> str:
    """What calling off so many units of each line will do."""
    number = sum(units.values())
    places = sorted(
        {part.location for key, part in order.work.items() if any(units.get(each) for each in order.recallable(key))}
    )
    at_once = "What no location holds is canceled at once"
    told = f"{at_once}."
    if places:
        told = f"{at_once}; {' and '.join(places)} put back what is not packed or gets no label."
    back = order.worth(units)
    money = "No money goes back: none was charged." if back is None else f"Up to {back} go back to the customer."
    return f"Up to {_units_of(number)} will not be shipped. {told} {money}"


def _make_up(order: Order) -> Action:
    number = sum(order.astray_units(line) for line in order.lines)
    if number:
        does = (
            f"{_units_of(number)} never reached the customer. Send the same again, or give the money back: at once if "
            "they are lost, or once they are back with us and inspected."
        )
        return Action("make-up", TITLES["make-up"], does)
    reason = _over(order)
    if not reason and order.astray:
        reason = "a return speaks for all of it"
    return Action("make-up", TITLES["make-up"], "", reason or "no parcel of it is lost or back at its sender")


def _return(order: Order) -> Action:
    does = (
        "The customer gets an RMA number if the return policy allows it. "
        "Money goes back once the goods were received and inspected."
    )
    number = sum(order.returnable(line) for line in order.lines)
    reason = "" if number else _over(order) or "nothing of it is at the customer that no return speaks for"
    return Action("return", "Start a return", does, reason)


def _forget(order: Order) -> Action:
    does = (
        "Who bought it can never be read again, here or anywhere: name, address and e-mail of this order and of all "
        "other orders of theirs. What they bought and paid stays. No label can be made for what is still to be sent."
    )
    gone = sum(units.shipped for units in order.units.values()) + sum(order.canceled.values())
    left = sum(line.quantity for line in order.lines) - gone
    reason = ""
    if order.rejected or order.destination is None:
        reason = "nothing of the customer is kept"
    elif order.customer != "kept":
        reason = "the customer was forgotten" if order.customer == "forgotten" else "the customer is being forgotten"
    elif left > 0:
        reason = f"{_units_of(left)} of it {'is' if left == 1 else 'are'} still to be shipped"
    return Action("forget", TITLES["forget"], does, reason)


def _units_of(number: int) -> str:
    return f"{number} unit{'' if number == 1 else 's'}"
