"""Refunds for canceled units, and the keys of forgotten customers: each once, whatever comes of it is recorded."""

from __future__ import annotations

from datetime import datetime

from ordermill.contracts.capture import CancellationRefundRequested, CustomerForgetRequested
from ordermill.decider import Decision
from ordermill.payments import PaymentProvider, PaymentRefused
from ordermill.service.declare import EffectOf

from .domain import RecordForgetFailed, RecordForgotten, RecordRefunded, RecordRefundFailed
from .handlers import Intake, order_decision


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


def forgetting(intake: Intake) -> EffectOf:
    async def perform(event: CustomerForgetRequested, key: str, now: datetime) -> Decision:
        await intake.forget(event.keys)
        return order_decision(RecordForgotten(event.order_id, event.keys, now))

    def give_up(event: CustomerForgetRequested, error: Exception) -> Decision:
        return order_decision(RecordForgetFailed(event.order_id, str(error)[:500]))

    return EffectOf(CustomerForgetRequested, lambda event: f"forget-{event.order_id}", perform, give_up)
