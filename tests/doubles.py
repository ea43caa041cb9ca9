"""Providers in memory, for tests that are about something else. They pass the ports' suites too."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from ordermill.contracts.fields import Money
from ordermill.network import Network
from ordermill.payments import PaymentRefused, PaymentUnavailable, Refunded
from ordermill.simulator.carriers import CarrierDesk, LabelOrder
from ordermill.simulator.errors import Declined
from ordermill.simulator.payments import RefundOrder, refund
from services.fulfillment.adapters.base import BoughtLabel, LabelRequest
from services.fulfillment.errors import CarrierRefused, CarrierUnavailable


class MemoryCarrier:
    """Sells what the simulated carrier of that name sells. `reachable = False` shows an outage."""

    def __init__(self, network: Network, name: str) -> None:
        self.name = name
        self.reachable = True
        self._desk = CarrierDesk(network)

    async def buy_label(self, request: LabelRequest, idempotency_key: str) -> BoughtLabel:
        if not self.reachable:
            raise CarrierUnavailable(self.name, "no answer")
        try:
            sold = self._desk.sell(self.name, LabelOrder.model_validate(asdict(request)), idempotency_key)
        except Declined as error:
            raise CarrierRefused(self.name, str(error)) from None
        return BoughtLabel(**sold.model_dump())


def memory_carriers(network: Network) -> dict[str, MemoryCarrier]:
    return {carrier.id: MemoryCarrier(network, carrier.id) for carrier in network.carriers}


class MemoryPayments:
    """Remembers its answers by key."""

    def __init__(self) -> None:
        self.reachable = True
        self._answers: dict[str, Refunded] = {}

    async def refund(self, payment: str | None, amount: Money, idempotency_key: str, at: datetime) -> Refunded:
        if not self.reachable:
            raise PaymentUnavailable("payments: no answer")
        try:
            sent = refund(RefundOrder(payment=payment, amount=amount, requested_at=at), idempotency_key)
        except Declined as error:
            raise PaymentRefused(str(error)) from None
        return self._answers.setdefault(idempotency_key, Refunded(sent.reference, sent.refunded_at))
