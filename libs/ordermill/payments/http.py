"""A payment provider behind HTTP, as the built-in simulator speaks it.

    POST {OMS_PAYMENTS_URL}/refunds
    Idempotency-Key: <refund id>
    {"payment": "pay-1", "amount": {"minor": 501, "currency": "USD"}, "requested_at": "2026-03-02T09:00:00Z"}
    -> 201 {"reference": "rf_…", "amount": {…}, "refunded_at": "…"}

A provider with an interface of its own gets a file of its own beside this one.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import AwareDatetime, BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ordermill.contracts.fields import ExternalId, Money
from ordermill.service.outbound import Outbound, Provider, ProviderRefused, ProviderUnavailable, ProviderUrl

from .port import PaymentProvider, PaymentRefused, PaymentUnavailable, Refunded

NAME = "payments"


class PaymentsSettings(BaseSettings):
    """Where money is sent back from, from `OMS_PAYMENTS_…`; capture and returns read them."""

    model_config = SettingsConfigDict(env_prefix="OMS_PAYMENTS_", frozen=True, extra="ignore")

    url: ProviderUrl = Field(description="The payment provider: https://host[:port][/path].")
    key: SecretStr | None = Field(None, description="What it knows us by; sent as a bearer token.")


class _Sent(BaseModel):
    reference: ExternalId = Field(min_length=1)
    amount: Money
    refunded_at: AwareDatetime


class HttpPayments:
    """Refunds over HTTP."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def refund(self, payment: str | None, amount: Money, idempotency_key: str, at: datetime) -> Refunded:
        order = {"payment": payment, "amount": amount.model_dump(), "requested_at": at.isoformat()}
        try:
            sent = _Sent.model_validate(await self._provider.post("/refunds", order, idempotency_key))
        except ProviderRefused as error:
            raise PaymentRefused(str(error)) from error
        except ProviderUnavailable as error:
            raise PaymentUnavailable(str(error), error.retry_after_s, error.counts) from error
        except ValidationError as error:
            raise PaymentUnavailable(f"{NAME}: gave an answer that can't be read") from error
        if sent.amount != amount:
            raise PaymentUnavailable(f"{NAME}: says that {sent.amount} went back, asked for {amount}")
        return Refunded(sent.reference, sent.refunded_at)


def http_payments(outbound: Outbound) -> PaymentProvider:
    """The provider that `OMS_PAYMENTS_…` names. Raises pydantic's ValidationError, ProviderInsecure."""
    settings = PaymentsSettings()
    return HttpPayments(outbound.provider(NAME, settings.url, settings.key))
