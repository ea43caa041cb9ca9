"""The payment port, used by the services that send money back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ordermill.contracts.fields import Money
from ordermill.errors import OrdermillError, Transient


class PaymentRefused(OrdermillError):
    """The provider will never do it: unknown payment, more than was paid."""

    code = "payments.refused"


class PaymentUnavailable(Transient):
    """No answer that says whether the money went back; asked again under the same key."""

    code = "payments.unavailable"

    def __init__(self, reason: str, retry_after_s: float | None = None, counts: bool = True) -> None:
        self.retry_after_s, self.counts = retry_after_s, counts
        super().__init__(f"{reason}. Asked again under the same key, so no money moves twice.")


@dataclass(frozen=True, slots=True)
class Refunded:
    """The provider's word that money went back."""

    reference: str
    at: datetime


class PaymentProvider(Protocol):
    async def refund(self, payment: str | None, amount: Money, idempotency_key: str, at: datetime) -> Refunded:
        """Send `amount` of a payment back, once per key, asked for at `at`.

        Whoever implements it passes `tests/domain/test_payments.py`. The same key gives the same answer, however
        often; a refusal is not remembered under it, since nothing was done: a person may have it asked again.
        Raises PaymentRefused if the provider will not do it, PaymentUnavailable if nobody knows what it did.
        """
        ...
