"""What capture makes of what channels send: adapted, sealed, decided, one message after the other."""

from __future__ import annotations

import asyncio
from typing import Any

from ordermill.contracts.capture import Event, OrderCaptured
from ordermill.contracts.channel import ChannelOrder
from ordermill.keyring import Keyring, MemoryKeyStore
from services.capture.domain import decide
from services.capture.domain.order import Order, fold
from services.capture.handlers import Intake
from tests.domain.test_adapters import MONDAY, ONE_MUG, SHIP_TO, edi, shopify, till

INTAKE = Intake(Keyring(MemoryKeyStore(), b"k" * 32))


def taken(*messages: ChannelOrder) -> tuple[Order, list[Event]]:
    """The order after these messages, and all events on the way."""
    asyncio.run(INTAKE.prepare(messages))
    order, events = Order(), list[Event]()
    for message in messages:
        more = decide(order, INTAKE.command(message, MONDAY))
        order = fold(order, more)
        events += more
    return order, events


# Tax in the prices

SHIPPING_LINE: dict[str, Any] = {"price": "14.90", "discounted_price": "14.90", "tax_lines": [{"price": "2.48"}]}


def test_orders_whose_prices_hold_the_tax_are_captured_with_taxed_shipping() -> None:
    for adapted in (
        shopify(taxes_included=True, shipping_lines=[SHIPPING_LINE], total_price="92.75"),
        edi(
            "SAC*C*D240***500",
            "TXI*VA*0.83*****I***SHIPPING",
            *SHIP_TO,
            ONE_MUG,
            "TXI*VA*1.40*****I",
            "CTT*1",
            "AMT*TT*13.75",
        ),
        till({"tax": "1.67", "tax_included": "yes", "shipping": "5.00", "shipping_tax": "0.83", "total": "15.00"}),
    ):
        assert not adapted.notes
        assert isinstance(taken(*adapted.messages)[1][0], OrderCaptured)


# Voids at the till


def test_a_line_can_be_voided_twice_and_each_void_sent_twice_counts_once() -> None:
    def void(hour: int) -> dict[str, str]:
        return {"kind": "void", "line": "1", "qty": "1", "sold_at": f"2026-03-02T{hour}:00:00Z"}

    sale, first, second = till({"line": "1", "qty": "3"}), till(void(11)), till(void(15))
    both = till(void(11), void(15))
    order, _ = taken(*sale.messages, *first.messages, *second.messages, *both.messages, *first.messages)
    assert order.requested["1"] == 2
