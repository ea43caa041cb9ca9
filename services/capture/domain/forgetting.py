"""Whoever bought an order is forgotten: the keys are destroyed that anything personal of it is sealed under."""

from __future__ import annotations

from typing import assert_never

from ordermill.contracts.capture import CustomerForgetFailed, CustomerForgetRequested, CustomerForgotten, Event

from ..errors import StillToShip
from .commands import ForgetCustomer, RecordForgetFailed, RecordForgotten
from .order import Memory, Order


def decide_forgetting(order: Order, command: ForgetCustomer | RecordForgotten | RecordForgetFailed) -> list[Event]:
    """Who was forgotten may be forgotten again: an older backup of the keys may have been restored.

    Raises StillToShip while something of it is to be shipped: nobody would know where to.
    """
    match command:
        case ForgetCustomer():
            if order.customer is Memory.FORGETTING or not order.keys:
                return []
            if order.open_units > order.shipped_units:
                raise StillToShip(order.order_id, order.open_units - order.shipped_units)
            return [CustomerForgetRequested(order_id=order.order_id, keys=order.keys)]
        case RecordForgotten(order_id, keys, forgotten_at):
            if order.customer is not Memory.FORGETTING:
                return []
            return [CustomerForgotten(order_id=order_id, keys=keys, forgotten_at=forgotten_at)]
        case RecordForgetFailed(order_id, reason):
            if order.customer is not Memory.FORGETTING:
                return []
            return [CustomerForgetFailed(order_id=order_id, reason=reason)]
        case _:
            assert_never(command)
