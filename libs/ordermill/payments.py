"""The payment port, used by the services that send money back, and the provider that is built in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Protocol

from ordermill.contracts.fields import Money
from ordermill.errors import OrdermillError, Transient


class PaymentRefused(OrdermillError):
    """The provider will never do it: unknown payment, more than was paid."""

    code = "payments.refused"


class PaymentUnavailable(Transient):
    """The provider does not answer; asked again under the same key."""

    code = "payments.unavailable"


@dataclass(frozen=True, slots=True)
class Refunded:
    """The provider's word that money went back."""

    reference: str
    at: datetime


class PaymentProvider(Protocol):
    async def refund(self, payment: str | None, amount: Money, idempotency_key: str, at: datetime) -> Refunded:
        """Send `amount` of a payment back, once per key. Raises PaymentRefused, PaymentUnavailable."""
        ...


class SimulatedPayments:
    """The built-in provider: the same key gives the same answer, as a real one's idempotency keys do.

    It refuses amounts that are not positive and payments that begin with `refuse`, for trying that way out.
    """

    def __init__(self, latency_s: float = 0.0) -> None:
        self._latency_s = latency_s

    async def refund(self, payment: str | None, amount: Money, idempotency_key: str, at: datetime) -> Refunded:
        await asyncio.sleep(self._latency_s)
        if amount.minor <= 0:
            raise PaymentRefused(f"a refund of {amount}: expected more than nothing")
        if payment is not None and payment.startswith("refuse"):
            raise PaymentRefused(f"payment {payment!r} can't be refunded: the account is closed")
        return Refunded(f"rf_{sha256(idempotency_key.encode()).hexdigest()[:20]}", at)
