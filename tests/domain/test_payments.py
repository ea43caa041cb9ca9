"""What every payment provider's adapter must do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from ordermill.contracts.fields import Money
from ordermill.errors import Transient
from ordermill.payments import PaymentProvider, PaymentRefused, PaymentUnavailable
from ordermill.simulation.providers import MemoryPayments

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
FIVE = Money(minor=501, currency="USD")


class PaymentConformance:
    """Subclass it and give the fixtures: the suite that a provider's adapter must pass before it may move money."""

    @pytest.fixture
    def key(self) -> str:
        """One that the provider has not seen before."""
        return str(uuid4())

    @pytest.fixture
    def payments(self) -> PaymentProvider:
        raise NotImplementedError

    @pytest.fixture
    def cut_off(self) -> Callable[[bool], None]:
        """Called with True, the provider can't be reached; with False, it can again."""
        raise NotImplementedError

    async def test_a_refund_has_a_reference_and_a_time(self, key: str, payments: PaymentProvider) -> None:
        refunded = await payments.refund("pay-1", FIVE, key, MONDAY)
        assert refunded.reference
        assert refunded.at == MONDAY

    async def test_the_same_key_is_the_same_refund_also_when_asked_later(
        self, key: str, payments: PaymentProvider
    ) -> None:
        first = await payments.refund("pay-1", FIVE, key, MONDAY)
        assert await payments.refund("pay-1", FIVE, key, MONDAY + timedelta(days=1)) == first

    async def test_the_same_key_at_the_same_time_is_the_same_refund(self, key: str, payments: PaymentProvider) -> None:
        refunds = await asyncio.gather(*(payments.refund("pay-1", FIVE, key, MONDAY) for _ in range(10)))
        assert len(set(refunds)) == 1

    async def test_another_key_is_another_refund(self, key: str, payments: PaymentProvider) -> None:
        references = {(await payments.refund("pay-1", FIVE, f"{key}.{n}", MONDAY)).reference for n in range(50)}
        assert len(references) == 50

    async def test_a_payment_is_not_needed_where_the_key_says_it(self, key: str, payments: PaymentProvider) -> None:
        assert (await payments.refund(None, FIVE, key, MONDAY)).reference

    async def test_nothing_is_refused_for_good(self, key: str, payments: PaymentProvider) -> None:
        with pytest.raises(PaymentRefused, match="more than nothing"):
            await payments.refund("pay-1", Money.zero("USD"), key, MONDAY)

    async def test_a_closed_account_is_refused_for_good(self, key: str, payments: PaymentProvider) -> None:
        with pytest.raises(PaymentRefused, match="the account is closed"):
            await payments.refund("refuse-1", FIVE, key, MONDAY)

    async def test_after_an_outage_the_same_key_moves_money_once(
        self, key: str, payments: PaymentProvider, cut_off: Callable[[bool], None]
    ) -> None:
        before = await payments.refund("pay-1", FIVE, key, MONDAY)
        cut_off(True)
        with pytest.raises(PaymentUnavailable) as unavailable:
            await payments.refund("pay-1", FIVE, key, MONDAY)
        assert isinstance(unavailable.value, Transient)
        cut_off(False)
        assert await payments.refund("pay-1", FIVE, key, MONDAY) == before


class TestPaymentsInMemory(PaymentConformance):
    @pytest.fixture
    def payments(self) -> MemoryPayments:
        return MemoryPayments()

    @pytest.fixture
    def cut_off(self, payments: MemoryPayments) -> Callable[[bool], None]:
        return lambda away: setattr(payments, "reachable", not away)
