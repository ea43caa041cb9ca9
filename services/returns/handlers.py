"""Messages in, decisions out; decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from ordermill.contracts.base import Fact
from ordermill.contracts.returns import (
    GoodsWaived,
    RefundRequested,
    ReturnAuthorized,
    ReturnClosed,
    ReturnExpired,
    ReturnReceived,
)
from ordermill.decider import Decision
from ordermill.eventlog.store import Timer
from ordermill.payments import PaymentProvider, PaymentRefused
from ordermill.service.declare import EffectOf, Received

from .domain import Command, ExpireReturn, RecordRefundFailed, RecordRefundPaid, command_of, to_decision
from .policy import ReturnPolicy


class Desk:
    """The policy joined to what comes in."""

    def __init__(self, policy: ReturnPolicy) -> None:
        self._policy = policy

    def decision(self, command: Command) -> Decision:
        return to_decision(command, self._policy)

    def record(self, fact: Fact, received: Received) -> Iterable[Decision]:
        command = command_of(fact, received.message_id)
        return [] if command is None else [self.decision(command)]

    def expire(self, timer: Timer) -> Iterable[Decision]:
        return [self.decision(ExpireReturn(timer.stream.partition("-")[2], timer.due_at))]

    def refunds(self, provider: PaymentProvider) -> EffectOf:
        async def perform(event: RefundRequested, key: str, now: datetime) -> Decision:
            try:
                refunded = await provider.refund(event.payment_reference, event.amount, key, now)
            except PaymentRefused as error:
                return give_up(event, error)
            paid = RecordRefundPaid(event.return_id, event.refund_id, refunded.reference, refunded.at)
            return self.decision(paid)

        def give_up(event: RefundRequested, error: Exception) -> Decision:
            return self.decision(RecordRefundFailed(event.return_id, event.refund_id, str(error)[:500]))

        return EffectOf(RefundRequested, lambda event: event.refund_id, perform, give_up)


def deadlines(stream: str, event: Fact) -> Sequence[Timer | tuple[str, str]]:
    """When an authorized return expires if nothing came."""
    match event:
        case ReturnAuthorized():
            return (Timer(stream, "expires", event.expires_at),)
        case ReturnReceived() | GoodsWaived() | ReturnExpired() | ReturnClosed():
            return ((stream, "expires"),)
        case _:
            return ()
