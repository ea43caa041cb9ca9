"""What can go wrong in inventory beyond its own facts of refusal."""

from ordermill.errors import Poison, Refused, Transient


class OrderNotReserved(Transient):
    """Word of an order whose release inventory has not decided; it may sit in the dead letters."""

    code = "inventory.order-not-reserved"

    def __init__(self, order_id: str) -> None:
        self.order_id = order_id
        super().__init__(
            f"{order_id}: no reservation was made or refused so far. Retried, then kept as a dead letter. "
            "If its OrderReleased is one too, redrive that first: oms dlq list inventory"
        )


class FulfillmentNotAllocated(Poison):
    """Word of a fulfillment order that this order's stock was never allocated to."""

    code = "inventory.fulfillment-not-allocated"

    def __init__(self, order_id: str, fulfillment_id: str) -> None:
        self.order_id = order_id
        self.fulfillment_id = fulfillment_id
        super().__init__(
            f"{fulfillment_id}: order {order_id} has no units allocated to it, now or earlier. "
            f"Compare both with: oms log show reservation-{order_id}"
        )


class NothingToReroute(Refused):
    """A person wants units routed again that a fulfillment order does not have, or not any more."""

    code = "inventory.nothing-to-reroute"

    def __init__(self, fulfillment_id: str, why: str) -> None:
        self.fulfillment_id = fulfillment_id
        super().__init__(f"{fulfillment_id}: nothing to route again: {why}.")
