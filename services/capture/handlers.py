"""Messages in, decisions out; decides nothing. Personal data is sealed here, before anything is decided or kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from ordermill.contracts.base import Message
from ordermill.contracts.channel import Address, ChannelMessage, ChannelOrder, OrderCanceled, OrderChanged, OrderPlaced
from ordermill.contracts.fields import Destination, LineQuantity
from ordermill.contracts.fulfillment import FulfillmentCancellationDeclined
from ordermill.contracts.inventory import CancellationTooLate, OrderLetGo, OrderRefused, OrderShippedOut
from ordermill.contracts.personal import Person
from ordermill.contracts.returns import ExchangeRequested
from ordermill.contracts.routing import OrderUnroutable
from ordermill.decider import Decision, decision
from ordermill.ids import order_id_of
from ordermill.keyring import Keyring
from ordermill.service.declare import Received

from .domain import (
    CancelOrder,
    CaptureExchange,
    CaptureOrder,
    ChangeOrder,
    Command,
    RecordCancellationDeclined,
    RecordLetGo,
    RecordRefusal,
    RecordShipped,
    RecordUnroutable,
    address_faults,
    decide,
    kept,
    orders,
)

EXCHANGE_CHANNEL = "exchange"
FORGOTTEN = "the customer was forgotten: nobody knows where this goes. Cancel it, and its credit goes back"


def order_decision(command: Command) -> Decision:
    return decision(orders.stream(command.order_id), decide, command)


class Intake:
    """Channels' messages as commands, with whatever is personal in them sealed under its customer's key."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def prepare(self, messages: Sequence[Message]) -> None:
        """Have the customers' keys at hand, one look-up a batch."""
        await self._keyring.ensure({self._customer(m) for m in messages if isinstance(m, OrderPlaced | OrderChanged)})
        addressees = (m.destination.addressee for m in messages if isinstance(m, ExchangeRequested))
        await self._keyring.look_up({token for token in addressees if token})

    async def forget(self, keys: Sequence[str]) -> None:
        """Destroy these keys, for good; those that are destroyed already stay so."""
        for key in keys:
            await self._keyring.forget(key)

    def handle(self, message: ChannelOrder, received: Received) -> Iterable[Decision]:
        return [order_decision(self.command(message, received.now))]

    def command(self, message: ChannelOrder, now: datetime) -> Command:
        order_id = order_id_of(message.channel, message.external_id)
        match message:
            case OrderPlaced():
                customer_id = self._customer(message)
                buyer = Person(email=message.customer.email) if message.customer and message.customer.email else None
                return CaptureOrder(
                    order_id=order_id,
                    channel=message.channel,
                    external_id=message.external_id,
                    placed_at=message.placed_at,
                    destination=self._destination(customer_id, message.ship_to),
                    lines=message.lines,
                    shipping=message.shipping,
                    shipping_tax=message.shipping_tax,
                    tax_included=message.tax_included,
                    total=message.total,
                    payment=message.payment,
                    customer_id=customer_id,
                    buyer=self._keyring.seal(customer_id, buyer) if buyer else None,
                    service_level=message.service_level,
                    allow_backorder=message.allow_backorder,
                    risk=message.risk,
                    hold=message.hold,
                    address_faults=address_faults(message.ship_to),
                )
            case OrderChanged():
                ship_to = message.ship_to
                return ChangeOrder(
                    order_id=order_id,
                    revision=message.revision,
                    changed_at=message.changed_at,
                    lines=message.lines,
                    destination=self._destination(self._customer(message), ship_to) if ship_to else None,
                    address_faults=address_faults(ship_to) if ship_to else (),
                    payment=message.payment,
                )
            case OrderCanceled():
                return CancelOrder(
                    order_id=order_id,
                    cancellation_id=message.cancellation_id,
                    canceled_at=message.canceled_at,
                    lines=message.lines,
                    reason=message.reason,
                    refunded=message.refunded,
                    by_channel=True,
                )

    def exchange(self, fact: ExchangeRequested, received: Received) -> Iterable[Decision]:
        """It goes where the first order went, unless the customer was forgotten since."""
        addressee = fact.destination.addressee
        forgotten = addressee is not None and self._keyring.forgotten(addressee)
        return [
            order_decision(
                CaptureExchange(
                    order_id=order_id_of(EXCHANGE_CHANNEL, fact.return_id),
                    return_id=fact.return_id,
                    placed_at=fact.requested_at,
                    destination=fact.destination,
                    lines=fact.lines,
                    credit=fact.credit,
                    customer_id=fact.customer_id,
                    payment_reference=fact.payment_reference,
                    funds=fact.funds,
                    address_faults=(FORGOTTEN,) if forgotten else (),
                )
            )
        ]

    def _destination(self, customer_id: str, address: Address) -> Destination:
        return Destination(
            country=address.country,
            region=address.region,
            postal_code=address.postal_code,
            addressee=self._keyring.seal(customer_id, kept(address.person)),
            fingerprint=self._keyring.fingerprint(address.person),
        )

    def _customer(self, message: ChannelMessage) -> str:
        """One person's orders over all channels share a key if they share an e-mail address."""
        ship_to: Address | None = getattr(message, "ship_to", None)
        customer = message.customer if isinstance(message, OrderPlaced | OrderChanged) else None
        email = (customer.email if customer else "") or (ship_to.person.email if ship_to else "")
        if email:
            return self._keyring.customer_id("email", email)
        if customer and customer.external_id:
            return self._keyring.customer_id("customer", message.channel, customer.external_id)
        return self._keyring.customer_id("order", message.channel, message.external_id)


def let_go(fact: OrderLetGo, received: Received) -> Iterable[Decision]:
    return [
        order_decision(RecordLetGo(fact.order_id, received.message_id, fact.lines, fact.cause, fact.cancellation_id))
    ]


def refused(fact: OrderRefused, received: Received) -> Iterable[Decision]:
    return [order_decision(RecordRefusal(fact.order_id))]


def shipped_out(fact: OrderShippedOut, received: Received) -> Iterable[Decision]:
    return [order_decision(RecordShipped(fact.order_id, received.message_id, fact.fulfillment_id, fact.lines))]


def unroutable(fact: OrderUnroutable, received: Received) -> Iterable[Decision]:
    lines = tuple(
        LineQuantity(line_id=line.line_id, sku=line.sku, quantity=line.quantity) for line in fact.inputs.lines
    )
    return [order_decision(RecordUnroutable(fact.order_id, fact.plan_id, lines))]


def declined(fact: FulfillmentCancellationDeclined | CancellationTooLate, received: Received) -> Iterable[Decision]:
    other = fact.taken_over_by if isinstance(fact, CancellationTooLate) else None
    command = RecordCancellationDeclined(fact.order_id, received.message_id, fact.cancellation_id, fact.lines, other)
    return [order_decision(command)]
