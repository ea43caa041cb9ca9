"""What channels publish on `oms.channel.orders`: orders as they were bought, changed, canceled."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from .base import Message
from .fields import (
    PERSONAL,
    ChannelId,
    Country,
    ExternalId,
    Flag,
    Grams,
    Id,
    Instant,
    Money,
    Part,
    Quantity,
    Sku,
    Text,
)
from .personal import Person

TOPIC = "oms.channel.orders"


class ServiceLevel(StrEnum):
    STANDARD = "standard"
    EXPEDITED = "expedited"


class Address(Part):
    """Where to ship to, in the clear, as only a channel may send it."""

    person: Person = Field(json_schema_extra=PERSONAL)
    country: Country
    region: Annotated[str, StringConstraints(max_length=40)] = ""
    postal_code: Annotated[str, StringConstraints(max_length=16)] = ""


class Customer(Part):
    """Who bought. `external_id` is the channel's; the e-mail address joins one person's orders over channels."""

    external_id: Annotated[str, StringConstraints(max_length=120)] = ""
    email: Text = Field("", json_schema_extra=PERSONAL)


class ChannelLine(Part):
    """One SKU and quantity of it. Amounts are for the whole line; `tax` is on top unless `tax_included`."""

    line_id: Id
    sku: Sku
    title: Text = ""
    quantity: Quantity
    unit_price: Money
    discount: Money = Field(description="Taken off the whole line, this line's share of order discounts included.")
    tax: Money
    weight_g: Grams | None = None
    final_sale: Flag = False


class Payment(Part):
    """How it is paid. `invoice` orders go out on credit; `pending` ones are held until paid."""

    status: Literal["paid", "authorized", "pending", "invoice"]
    reference: ExternalId | None = None
    paid: Money | None = Field(None, description="While it is `pending`: how much of it is paid.")


class ChannelMessage(Message):
    """Names the order by its channel and the channel's own id, which together are unique."""

    topic: ClassVar[str] = TOPIC
    channel: ChannelId
    external_id: ExternalId


class OrderPlaced(ChannelMessage):
    """A customer bought something. total = sum(unit_price * quantity - discount + tax) + shipping + shipping_tax.

    With `tax_included` the lines' prices hold their tax, and it is not added again. `shipping` never holds its tax.
    """

    type: ClassVar[str] = "oms.channel.order-placed.v1"
    topic: ClassVar[str] = TOPIC

    placed_at: Instant
    customer: Customer | None = None
    ship_to: Address
    lines: Annotated[tuple[ChannelLine, ...], Field(min_length=1, max_length=1_000)]
    shipping: Money
    shipping_tax: Money
    tax_included: Flag = False
    total: Money
    payment: Payment
    service_level: ServiceLevel = ServiceLevel.STANDARD
    allow_backorder: Flag = False
    risk: Literal["low", "medium", "high"] = "low"
    hold: Text = Field("", description="Why a person has to look at it before it goes on; empty: nobody has to.")


class LineChange(Part):
    """The line's quantity from now on, without what the channel canceled; 0 drops it. Said again, it is no news."""

    line_id: Id
    quantity: Annotated[int, Field(ge=0, le=1_000_000, strict=True)]


class OrderChanged(ChannelMessage):
    """The customer or the channel changed the order. `revision` grows with each change; older ones are ignored."""

    type: ClassVar[str] = "oms.channel.order-changed.v1"
    topic: ClassVar[str] = TOPIC

    revision: Annotated[int, Field(ge=1, le=2**53, strict=True)]
    changed_at: Instant
    lines: Annotated[tuple[LineChange, ...], Field(max_length=1_000)] = ()
    customer: Customer | None = Field(
        None, description="Who bought, as the order said it: a new address is sealed under the same key as the first."
    )
    ship_to: Address | None = None
    payment: Payment | None = None


class OrderCanceled(ChannelMessage):
    """The customer or the channel calls the order off: these lines, or all of it if none is named."""

    type: ClassVar[str] = "oms.channel.order-canceled.v1"
    topic: ClassVar[str] = TOPIC

    cancellation_id: ExternalId
    canceled_at: Instant
    lines: Annotated[tuple[LineChange, ...], Field(max_length=1_000, description="Units to cancel, by line.")] = ()
    reason: Text = ""
    refunded: Money | None = Field(
        None, description="What the channel has given back for it by itself; nobody else is asked to do so again."
    )


ChannelOrder = OrderPlaced | OrderChanged | OrderCanceled
