"""What can go wrong in returns, one class each."""

from __future__ import annotations

from collections.abc import Iterable

from ordermill.errors import NotFound, OrdermillError, Refused, Transient


class PolicyInvalid(OrdermillError):
    """The return policy can't be used as it stands."""

    code = "returns.policy-invalid"

    def __init__(self, source: str, fault: str) -> None:
        super().__init__(f"{source}: {fault}. services/returns/policy.toml shows every key with its meaning.")


class PurchaseNotRecorded(Transient):
    """A change of an order came before the order; usually the next poll brings that."""

    code = "returns.purchase-not-recorded"

    def __init__(self, order_id: str) -> None:
        super().__init__(f"{order_id}: changed before it was captured here. Retried, then kept as a dead letter.")


class PurchaseNotFound(NotFound):
    """A return was asked for an order that returns does not know."""

    code = "returns.purchase-not-found"

    def __init__(self, order_id: str) -> None:
        super().__init__(f"{order_id}: no such order here. Look its id up with: oms orders list")


class ReturnNotFound(NotFound):
    """There is no return under this id."""

    code = "returns.return-not-found"

    def __init__(self, return_id: str) -> None:
        super().__init__(f"{return_id}: no such return. Look its id up with: oms returns list")


class RequestUnclear(Refused):
    """What is asked for makes no sense, whatever the policy."""

    code = "returns.request-unclear"

    def __init__(self, return_id: str, fault: str) -> None:
        super().__init__(f"{return_id}: {fault}")


class ReturnNotOpen(Refused):
    """Goods came for a return that expects none: it was declined, has expired, or is settled."""

    code = "returns.return-not-open"

    def __init__(self, return_id: str, stage: str) -> None:
        super().__init__(
            f"{return_id}: is {stage}, so takes no goods in and gives no credit any more. "
            "Ask for a new return for goods that came all the same."
        )


class UnexpectedGoods(Refused):
    """Other goods, or more of them, than the return is for."""

    code = "returns.unexpected-goods"

    def __init__(self, return_id: str, faults: Iterable[str], expected: Iterable[str]) -> None:
        due = ", ".join(expected) or "nothing more"
        super().__init__(
            f"{return_id}: {'; '.join(faults)}. Expected still: {due}. Book in what fits; ask for a return "
            "of its own for the rest."
        )


class UnknownLocation(Refused):
    """Goods were booked in at a place that the network has not: no order could ever be shipped from there."""

    code = "returns.unknown-location"

    def __init__(self, return_id: str, location: str, known: Iterable[str]) -> None:
        super().__init__(
            f"{return_id}: {location!r} is no location of ours. Name one of these: {', '.join(sorted(known))}"
        )


class NotReceived(Refused):
    """Goods were inspected that this location has not received, or has inspected before."""

    code = "returns.not-received"

    def __init__(self, return_id: str, faults: Iterable[str]) -> None:
        super().__init__(f"{return_id}: {'; '.join(faults)}. Book the receipt first, at the same location.")


class NotInspected(Refused):
    """A return was to be closed with goods that nobody has looked at."""

    code = "returns.not-inspected"

    def __init__(self, return_id: str, units: int) -> None:
        super().__init__(f"{return_id}: {units} received units are not inspected yet. Inspect them, then close it.")


class ArrivedAfterAll(Refused):
    """Units were to be credited as lost, and their parcel was delivered meanwhile."""

    code = "returns.arrived-after-all"

    def __init__(self, return_id: str, skus: Iterable[str]) -> None:
        super().__init__(
            f"{return_id}: {', '.join(skus)} was delivered meanwhile, so is not credited as lost. Close this return; "
            "the customer may ask for one if it shall come back."
        )


class NoFailedRefund(Refused):
    """A refund was to be tried again, and none has failed."""

    code = "returns.no-failed-refund"

    def __init__(self, return_id: str, stage: str) -> None:
        super().__init__(f"{return_id}: is {stage}; expected one whose refund failed. Nothing to try again.")


class RefundUnknown(Refused):
    """Word came of a refund that this return never asked for."""

    code = "returns.refund-unknown"

    def __init__(self, return_id: str, refund_id: str, asked: str) -> None:
        super().__init__(
            f"{return_id}: word of refund {refund_id}, but it asked for {asked or 'none'}. Nothing changed."
        )
