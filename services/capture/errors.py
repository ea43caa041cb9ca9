"""What can go wrong in capture.

OrderUnknown      (NotFound)  no order of this id was captured
RefundUnknown     (NotFound)  the order asked for no such refund
RefundPaidAlready (Refused)   nothing to try again: the money went back
AlreadyReleased   (Refused)   too late to hold: stock is being claimed
OrderEnded        (Refused)   rejected or canceled, nothing more happens to it
KeyUsed           (Refused)   the idempotency key stood for another order
TooManyParked     (Poison)    more changes wait for an order than a channel would send
"""

from __future__ import annotations

from ordermill.errors import NotFound, Poison, Refused


class OrderUnknown(NotFound):
    """A command for an order that capture has not taken in."""

    code = "capture.order-unknown"

    def __init__(self, order_id: str) -> None:
        self.order_id = order_id
        super().__init__(
            f"order {order_id}: expected a captured order, found none. "
            "Look its channel's id up with: oms orders list; if the order is missing there, send it first."
        )


class RefundUnknown(NotFound):
    """Word of a refund that the order never asked for."""

    code = "capture.refund-unknown"

    def __init__(self, order_id: str, refund_id: str) -> None:
        self.order_id, self.refund_id = order_id, refund_id
        super().__init__(
            f"order {order_id}: expected one of its own refunds, found {refund_id}. "
            f"Check what the payment provider did under that id; the order's own: oms log show order-{order_id}"
        )


class RefundPaidAlready(Refused):
    """A refund was to be tried again, and has been paid."""

    code = "capture.refund-paid-already"

    def __init__(self, order_id: str, refund_id: str) -> None:
        self.order_id, self.refund_id = order_id, refund_id
        super().__init__(f"order {order_id}: refund {refund_id} is paid; expected one that failed. Nothing to do.")


class AlreadyReleased(Refused):
    """A hold came after the order was released."""

    code = "capture.already-released"

    def __init__(self, order_id: str) -> None:
        self.order_id = order_id
        super().__init__(
            f"order {order_id}: can be held until it is released, and it is released. "
            "Cancel it instead; units that are not packed yet will not be shipped."
        )


class OrderEnded(Refused):
    """A hold came for an order that is rejected or canceled."""

    code = "capture.order-ended"

    def __init__(self, order_id: str, stage: str) -> None:
        self.order_id, self.stage = order_id, stage
        super().__init__(f"order {order_id}: expected an order still to be released, found it {stage}. Nothing to do.")


class ChangeNotRefused(NotFound):
    """A change was to be settled that was never refused."""

    code = "capture.change-not-refused"

    def __init__(self, order_id: str, change_id: str, waiting: list[str]) -> None:
        told = ", ".join(waiting[:5]) or "none"
        super().__init__(
            f"order {order_id}: no change {change_id} of it was refused; those still to be dealt with: {told}"
        )


class StillToShip(Refused):
    """A customer was to be forgotten whose order is not all shipped or canceled."""

    code = "capture.still-to-ship"

    def __init__(self, order_id: str, units: int) -> None:
        super().__init__(
            f"order {order_id}: {units} units of it are still to be shipped, and nobody would know where to. "
            "Cancel them, or forget the customer once they are on their way."
        )


class TooManyParked(Poison):
    """A channel sent more changes of an order that never came than anyone would make."""

    code = "capture.too-many-parked"

    def __init__(self, order_id: str, limit: int) -> None:
        self.order_id, self.limit = order_id, limit
        super().__init__(
            f"order {order_id}: {limit} changes wait for it already, this one is kept as a dead letter. Once the order "
            f"has come: oms dlq redrive capture --code {self.code}. If it came by a file or webhook, send that again"
        )


class KeyUsed(Refused):
    """A second order under a key that stands for the first."""

    code = "capture.key-used"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"Idempotency-Key {key[:80]!r} was used for another order, so this one was not placed. "
            "Send it under a key of its own."
        )
