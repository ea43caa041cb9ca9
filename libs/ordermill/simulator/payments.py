"""What the simulated payment provider does: send money back."""

from __future__ import annotations

from hashlib import sha256

from pydantic import AwareDatetime

from ordermill.contracts.fields import Money, Part

from .errors import Declined


class RefundOrder(Part):
    """Money of a payment that is to go back. `requested_at` is the asker's clock, which the demo speeds up."""

    payment: str | None
    amount: Money
    requested_at: AwareDatetime


class SentRefund(Part):
    reference: str
    amount: Money
    refunded_at: AwareDatetime


def refund(order: RefundOrder, key: str) -> SentRefund:
    """Amounts that are not positive are refused, and payments that begin with `refuse`, for trying that way out.

    Raises Declined.
    """
    if order.amount.minor <= 0:
        raise Declined(f"a refund of {order.amount}: expected more than nothing")
    if order.payment is not None and order.payment.startswith("refuse"):
        raise Declined(f"payment {order.payment[:40]!r} can't be refunded: the account is closed")
    reference = f"rf_{sha256(key.encode()).hexdigest()[:20]}"
    return SentRefund(reference=reference, amount=order.amount, refunded_at=order.requested_at)
