"""Refunds for canceled units: asked of the payment provider once, whatever it answers is recorded."""

from __future__ import annotations

from datetime import datetime

from ordermill.contracts.capture import CancellationRefundRequested
from ordermill.decider import Decision
from ordermill.payments import PaymentProvider, PaymentRefused
from ordermill.service.declare import EffectOf

from .domain import RecordRefunded, RecordRefundFailed
from .handlers import order_decision


def refunds(provider: PaymentProvider) -> EffectOf:
    async def perform(event: CancellationRefundRequested, key: str, now: datetime) -> Decision:
        try:
            done = await provider.refund(event.payment_reference, event.amount, key, now)
        except PaymentRefused as error:
            return give_up(event, error)
        return order_decision(RecordRefunded(event.order_id, event.refund_id, event.amount, done.reference, done.at))

    def give_up(event: CancellationRefundRequested, error: Exception) -> Decision:
        return order_decision(RecordRefundFailed(event.order_id, event.refund_id, str(error)[:500]))

    return EffectOf(CancellationRefundRequested, lambda event: event.refund_id, perform, give_up)
