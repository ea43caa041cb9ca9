"""Carriers and a payment provider in memory, with the simulator's prices, refusals and ledger; and their bad days."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime

from ordermill.contracts.fields import Money
from ordermill.network import Network
from ordermill.payments import PaymentRefused, PaymentUnavailable, Refunded
from ordermill.simulator.carriers import CarrierDesk, LabelOrder, SoldLabel
from ordermill.simulator.errors import Declined, KeyReused
from ordermill.simulator.ledger import Act, Ledger
from ordermill.simulator.payments import RefundOrder, SentRefund, refund
from services.fulfillment.adapters.base import BoughtLabel, LabelRequest
from services.fulfillment.errors import CarrierRefused, CarrierUnavailable

from .nemesis import Fault, Nemesis
from .process import Process

PAYMENTS = "payments"
NO = "not today"
"""A provider's reason."""


class MemoryCarrier:
    """Sells what the simulated carrier of that name sells. `reachable = False` shows an outage."""

    def __init__(self, network: Network, name: str, ledger: Ledger | None = None) -> None:
        self.name = name
        self.reachable = True
        self._desk = CarrierDesk(network)
        self._ledger = ledger or Ledger()
        self._refuses: dict[str, bool] = {}

    def refuses(self, key: str, now: Callable[[], bool]) -> bool:
        """Whether it says no under `key`, each time it is asked; `now` decides the first time."""
        if key not in self._refuses:
            self._refuses[key] = now()
        return self._refuses[key]

    async def buy_label(self, request: LabelRequest, idempotency_key: str) -> BoughtLabel:
        if not self.reachable:
            raise CarrierUnavailable(self.name, "no answer")
        self._ledger.ask(self.name, idempotency_key)
        order = LabelOrder.model_validate(asdict(request))

        def sell() -> tuple[bytes, Act]:
            sold = self._desk.sell(self.name, order, idempotency_key)
            return sold.model_dump_json().encode(), Act(amount=sold.cost, reference=sold.tracking_number)

        try:
            answer = self._ledger.once(self.name, idempotency_key, order.model_dump_json(), sell)
        except (Declined, KeyReused) as error:
            raise CarrierRefused(self.name, str(error)) from None
        return BoughtLabel(**SoldLabel.model_validate_json(answer).model_dump())


def memory_carriers(network: Network, ledger: Ledger | None = None) -> dict[str, MemoryCarrier]:
    return {carrier.id: MemoryCarrier(network, carrier.id, ledger) for carrier in network.carriers}


class MemoryPayments:
    """Sends back what the simulated payment provider sends back. `reachable = False` shows an outage."""

    def __init__(self, ledger: Ledger | None = None) -> None:
        self.reachable = True
        self._ledger = ledger or Ledger()
        self.paid = set[str]()
        """Keys under which money went back: under no other does it say no."""

    async def refund(self, payment: str | None, amount: Money, idempotency_key: str, at: datetime) -> Refunded:
        if not self.reachable:
            raise PaymentUnavailable("payments: no answer")
        self._ledger.ask(PAYMENTS, idempotency_key)
        order = RefundOrder(payment=payment, amount=amount, requested_at=at)

        def send() -> tuple[bytes, Act]:
            sent = refund(order, idempotency_key)
            return sent.model_dump_json().encode(), Act(amount=sent.amount, reference=sent.reference)

        content = order.model_dump_json(exclude={"requested_at"})
        try:
            answer = self._ledger.once(PAYMENTS, idempotency_key, content, send)
        except (Declined, KeyReused) as error:
            raise PaymentRefused(str(error)) from None
        self.paid.add(idempotency_key)
        sent = SentRefund.model_validate_json(answer)
        return Refunded(sent.reference, sent.refunded_at)


class FaultyCarrier:
    """A carrier as one process reaches it."""

    def __init__(self, carrier: MemoryCarrier, process: Process, nemesis: Nemesis) -> None:
        self.name = carrier.name
        self._carrier = carrier
        self._process = process
        self._nemesis = nemesis

    async def buy_label(self, request: LabelRequest, idempotency_key: str) -> BoughtLabel:
        await self._process.point("buy a label")
        if self._nemesis.strikes(Fault.PROVIDER_AWAY, self.name):
            raise CarrierUnavailable(self.name, "no answer")
        if self._carrier.refuses(idempotency_key, lambda: self._nemesis.strikes(Fault.PROVIDER_REFUSES, self.name)):
            raise CarrierRefused(self.name, NO)
        bought = await self._carrier.buy_label(request, idempotency_key)
        await self._process.point("buy a label, done")
        if self._nemesis.strikes(Fault.PROVIDER_UNANSWERED, self.name):
            raise CarrierUnavailable(self.name, "no answer")
        return bought


class FaultyPayments:
    """The payment provider as one process reaches it."""

    def __init__(self, payments: MemoryPayments, process: Process, nemesis: Nemesis) -> None:
        self._payments = payments
        self._process = process
        self._nemesis = nemesis

    async def refund(self, payment: str | None, amount: Money, idempotency_key: str, at: datetime) -> Refunded:
        await self._process.point("refund")
        if self._nemesis.strikes(Fault.PROVIDER_AWAY, PAYMENTS):
            raise PaymentUnavailable("payments: no answer")
        if idempotency_key not in self._payments.paid and self._nemesis.strikes(Fault.PROVIDER_REFUSES, PAYMENTS):
            raise PaymentRefused(NO)
        refunded = await self._payments.refund(payment, amount, idempotency_key, at)
        await self._process.point("refund, done")
        if self._nemesis.strikes(Fault.PROVIDER_UNANSWERED, PAYMENTS):
            raise PaymentUnavailable("payments: no answer")
        return refunded
