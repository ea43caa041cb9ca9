"""Shopify's order webhooks and REST Admin orders (2024-04 and older), and refunds.

The topic decides what a payload means; without one it is a snapshot: the order as placed, then the change and the
cancellations that it shows. Repeats do no harm, capture knows orders and cancellations by their ids.

* Money is what the customer was charged: presentment currency where it differs from the shop's, because only those
  amounts add up exactly and only they can be refunded.
* Discounts: `discount_allocations` where there are any, else `total_discount`. What `total_discounts` holds beyond
  the lines is shared over the lines by their goods' price, if the order's total says that it was taken off.
* Gift cards, tips and lines that need no shipping are left out with their money: the shop fulfills those itself.
  An order of nothing else becomes no message, nor does one that the shop handed over as it was bought.
* Duties and fees are added to the shipping.
* Where `taxes_included`, Shopify's shipping holds its tax as the lines do; ours is without it.
* Units go in three ways. A refund with restock type `cancel` calls them off; one of goods that were shipped
  (`return`) is the returns' affair; what an order edit took away shows in `current_quantity` alone. A refund without
  restock may be of either kind: it calls off what is neither in the `fulfillments` nor in `fulfillable_quantity`.
* What a refund's `transactions` gave back is told with what it calls off, or with the cancellation of the whole order.
* A canceled order says first how it was paid: an authorization that was voided with it brought nothing to give back.
* `updated_at` counts seconds: of two updates in one the later is the one whose payment has come further. If it is the
  same, so is their revision, and the second is taken for a repeat.
* Of an order that is partly paid, what `total_outstanding` leaves of its total is paid.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Literal
from uuid import UUID

from ordermill.contracts.channel import (
    Address,
    ChannelLine,
    ChannelOrder,
    Customer,
    LineChange,
    OrderCanceled,
    OrderChanged,
    OrderPlaced,
    Payment,
    ServiceLevel,
)
from ordermill.contracts.fields import Money
from ordermill.contracts.personal import Person
from ordermill.ids import derived_id

from .amounts import decimal_of, money_of, share_out
from .base import (
    MEGABYTE,
    Adapted,
    AdapterContext,
    Findings,
    Unfit,
    as_test,
    check_size,
    note_wrong_total,
)
from .extension import NAME, carry, restore
from .reading import Number, clean, instant_of, line_id_of, parse_json, sku_of, utf8

_CREATED = frozenset({"orders/create"})
_UPDATED = frozenset({"orders/updated", "orders/paid", "orders/fulfilled", "orders/partially_fulfilled"})
_CANCELED = "orders/cancelled"
_REFUNDED = "refunds/create"
_PAYMENT: dict[str, Literal["paid", "authorized", "pending"]] = {
    "paid": "paid",
    "partially_refunded": "paid",
    "refunded": "paid",
    "authorized": "authorized",
    "pending": "pending",
    "partially_paid": "pending",
    "voided": "pending",
    "expired": "pending",
}
_PROGRESS = ("pending", "authorized", "partially_paid", "paid", "partially_refunded", "refunded", "voided", "expired")
"""A payment goes this way only."""
_FAST = re.compile(
    r"expedit|express|overnight|(next|same|one|two|second|(?<![0-9])([12]|1st|2nd))[ -]?day", re.IGNORECASE
)
_ID = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)

Json = dict[str, Any]


def verify_shopify_hmac(secret: str, body: bytes, header: str) -> bool:
    """Whether X-Shopify-Hmac-SHA256 is the signature of the raw `body`, in constant time.

    Compare before parsing, over the bytes as they came: JSON written again is other bytes.
    """
    try:
        given = base64.b64decode(header, validate=True)
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.digest(secret.encode(), body, hashlib.sha256), given)


class ShopifyAdapter:
    """A Shopify shop's orders, by webhook or REST."""

    name = "shopify"
    media_type = "application/json"
    extension = "json"
    max_bytes = 8 * MEGABYTE
    """A shop's largest orders are of 500 lines, each told again with its fulfillment and with its refund."""

    def adapt(self, payload: bytes, context: AdapterContext) -> Adapted:
        found = Findings(self.name)
        with found.payload():
            check_size(payload, self.max_bytes)
            for number, resource in enumerate(_resources(parse_json(utf8(payload)), context.topic), 1):
                with found.item(_named(resource, number)) as messages:
                    messages.extend(_messages(resource, context, found))
        return found.result()

    def render(self, order: OrderPlaced) -> bytes:
        context = AdapterContext(order.channel, order.placed_at, topic="orders/create")
        return carry(self, order, lambda lost: _write(order, lost), context)


def _resources(document: Any, topic: str | None) -> list[Json]:
    """The orders or refunds in a payload, bare or wrapped as REST answers them. Raises Unfit if it holds neither."""
    if topic is not None and topic not in _CREATED | _UPDATED | {_CANCELED, _REFUNDED}:
        taken = ", ".join(sorted(_CREATED | _UPDATED | {_CANCELED, _REFUNDED}))
        advice = (
            "orders/updated says the same with the whole order" if topic == "orders/edited" else f"Taken are {taken}"
        )
        raise Unfit("other-topic", f"topic {topic[:60]!r} carries no order as it stands. {advice}: subscribe to those")
    found: Any = document
    if isinstance(document, dict) and not document.keys() & {"line_items", "refund_line_items"}:
        found = next((document[key] for key in ("order", "orders", "refund", "refunds") if key in document), document)
    resources = found if isinstance(found, list) else [found]
    for resource in resources:
        if not isinstance(resource, dict) or not ("line_items" in resource or "refund_line_items" in resource):
            keys = ", ".join(sorted(map(str, document))[:5]) if isinstance(document, dict) else "none"
            raise Unfit(
                "not-an-order", f"expected a Shopify order or refund and found the keys {keys[:120]}. Send orders only"
            )
    if not resources:
        raise Unfit("empty", "expected orders and found an empty list. Send at least one")
    return resources


def _named(resource: Json, number: int) -> str:
    kind = "refund" if "refund_line_items" in resource else "order"
    return f"{kind} {resource['id']}" if isinstance(resource.get("id"), int) else f"{kind} number {number}"


def _messages(resource: Json, context: AdapterContext, found: Findings) -> Iterator[ChannelOrder]:
    if "refund_line_items" in resource:
        yield from _refunded_alone(resource, context, found)
        return
    topic = context.topic
    if topic == _REFUNDED:
        raise Unfit("not-a-refund", "topic refunds/create, and it is an order. Send it as orders/updated")
    reader = _Order(resource, context, found)
    whole = resource.get("cancelled_at") is not None
    if not reader.ships():
        note = "no line is to be shipped: the shop fulfills it itself"
        found.note("nothing-to-ship", f"order {reader.external_id}", note)
        return
    if topic not in (None, *_CREATED) and reader.handed_over():
        text = "the shop handed all of it over as it was bought, so it was no order here: nothing to change"
        found.note("already-fulfilled", f"order {reader.external_id}", text)
        return
    if topic is None or topic in _CREATED:
        placed = reader.placed()
        if placed is None:
            return
        yield placed
    if topic == _CANCELED and not whole:
        raise Unfit("not-canceled", "topic orders/cancelled, and cancelled_at is empty. Send the order as it is now")
    if whole:
        if topic not in _CREATED:
            yield reader.payment_when_canceled()
        canceled = list(reader.partly_canceled())
        yield from canceled
        yield reader.canceled({each.cancellation_id for each in canceled})
    elif topic not in _CREATED:
        canceled = list(reader.partly_canceled())
        yield from canceled
        if topic in _UPDATED or reader.edited():
            yield from reader.changed(canceled)


class _Order:
    """One order resource, read in the currency that the customer was charged in."""

    def __init__(self, order: Json, context: AdapterContext, found: Findings) -> None:
        self._order, self._context, self._found = order, context, found
        self.external_id = _id_of(order.get("id"), "the order's id")
        self._where = f"order {self.external_id}"
        shop = order.get("currency")
        self.currency: str = shop if isinstance(shop, str) and shop else context.currency
        presentment = order.get("presentment_currency")
        self._presentment = isinstance(presentment, str) and presentment not in ("", self.currency)
        if self._presentment:
            self.currency = str(presentment)
        self._lines = _objects(order, "line_items")
        self._ids = [_line_id(line, number) for number, line in enumerate(self._lines, 1)]
        if twice := [line_id for line_id, count in Counter(self._ids).items() if count > 1]:
            raise Unfit("line-twice", f"line id {twice[0]} stands twice. Each line needs its own", "line_items")

    def ships(self) -> bool:
        return any(map(_ships, self._lines))

    def handed_over(self) -> bool:
        """Whether all was fulfilled within a minute of being bought, as at a counter: nobody packs that fast."""
        done = [one for one in _objects(self._order, "fulfillments") if one.get("status") == "success"]
        times = [one.get("created_at") for one in (self._order, *done)]
        if self._order.get("fulfillment_status") != "fulfilled" or not done or None in times:
            return False
        bought, *fulfilled = (instant_of(time, "created_at") for time in times)
        return all(time - bought < timedelta(minutes=1) for time in fulfilled)

    def placed(self) -> OrderPlaced | None:
        """The order as it was bought, or None with a note if the shop has shipped it already."""
        order = self._order
        kept = [index for index, line in enumerate(self._lines) if _ships(line)]
        if len(kept) < len(self._lines):
            left = ", ".join(self._ids[index] for index, line in enumerate(self._lines) if not _ships(line))
            note = f"lines {left[:200]} are gift cards, tips or need no shipping: left out, with their money"
            self._found.note("not-shipped", self._where, note)
        if order.get("fulfillment_status") == "fulfilled":
            self._found.note(
                "already-fulfilled", self._where, "the shop has shipped all of it: nothing is left to ship"
            )
            return None
        if order.get("fulfillment_status") == "partial":
            raise Unfit("partly-fulfilled", "the shop has shipped a part of it already. Let the shop ship the rest")
        lines, shipping, shipping_tax = self._priced()
        total = self._money(order, "total_price")
        if total is None:
            raise Unfit("no-total", "total_price is missing. Send the whole order")
        total = total - self._tips()
        for index, line in enumerate(lines):
            if index not in kept:
                goods = line.unit_price * line.quantity - line.discount
                total = total - (goods if self._tax_included else goods + line.tax)
        placed = OrderPlaced(
            channel=self._context.channel,
            external_id=self.external_id,
            placed_at=instant_of(order.get("processed_at") or order.get("created_at"), "processed_at or created_at"),
            customer=self._customer(),
            ship_to=self._address(),
            lines=tuple(lines[index] for index in kept),
            shipping=shipping,
            shipping_tax=shipping_tax,
            tax_included=self._tax_included,
            total=total,
            payment=self._payment(),
            service_level=self._service_level(),
        )
        if self._context.honors_extension and (lost := _attribute(order)) is not None:
            placed = restore(placed, lost)
        if order.get("test") is True:
            placed = as_test(placed, self._found, self._where, "the shop")
        note_wrong_total(self._found, placed, self._where)
        return placed

    def changed(self, canceled: Iterable[OrderCanceled]) -> Iterator[OrderChanged]:
        """The update in parts: units, payment, address. If one is refused or comes too late, the others still count.

        Money that came is told after the units it was paid for, money that did not come before they are taken off:
        nothing is refunded that was not charged.
        """
        changed_at = instant_of(self._order.get("updated_at"), "updated_at")
        payment = self._payment()
        parts: list[Json] = [{"lines": self._wanted(canceled)}, {"payment": payment}]
        if payment.status == "pending":
            parts.reverse()
        if isinstance(self._order.get("shipping_address"), dict) and not self._order.get("fulfillment_status"):
            parts.append({"customer": self._customer(), "ship_to": self._address()})
        revision = self._revision(changed_at)
        for number, part in enumerate(parts):
            yield OrderChanged(
                channel=self._context.channel,
                external_id=self.external_id,
                revision=revision + number,
                changed_at=changed_at,
                **part,
            )

    def payment_when_canceled(self) -> OrderChanged:
        """Whether the order was paid when it was canceled, told before that: what was never charged is not refunded."""
        canceled_at = instant_of(self._order.get("cancelled_at"), "cancelled_at")
        updated_at = instant_of(self._order.get("updated_at") or self._order.get("cancelled_at"), "updated_at")
        return OrderChanged(
            channel=self._context.channel,
            external_id=self.external_id,
            revision=self._revision(updated_at),
            changed_at=canceled_at - timedelta(microseconds=1),
            payment=self._payment(),
        )

    def _revision(self, updated_at: datetime) -> int:
        return _microseconds(updated_at) + 3 * _PROGRESS.index(self._financial_status)

    def edited(self) -> bool:
        """Whether an edit took units away."""
        return any(
            self._after_edits(line, line_id) < _count(line, "quantity", line_id)
            for line_id, line in zip(self._ids, self._lines, strict=True)
            if _ships(line)
        )

    def _wanted(self, canceled: Iterable[OrderCanceled]) -> tuple[LineChange, ...]:
        """Each line's units without those edited away or called off; returned ones were wanted, and came."""
        off: Counter[str] = Counter()
        for cancellation in canceled:
            for part in cancellation.lines:
                off[part.line_id] += part.quantity
        return tuple(
            LineChange(line_id=line_id, quantity=max(self._after_edits(line, line_id) - off[line_id], 0))
            for line_id, line in zip(self._ids, self._lines, strict=True)
            if _ships(line)
        )

    def _after_edits(self, line: Json, line_id: str) -> int:
        """Units bought less those that an edit took away."""
        bought = _count(line, "quantity", line_id)
        if line.get("current_quantity") is None:
            return bought
        return min(_count(line, "current_quantity", line_id) + self._refunded[line_id], bought)

    def canceled(self, told: Collection[str]) -> OrderCanceled:
        """All of it; with what was given back by refunds of which no cancellation has `told`."""
        order = self._order
        refunds = [each for each in _objects(order, "refunds") if _cancellation_id(each) not in told]
        return OrderCanceled(
            channel=self._context.channel,
            external_id=self.external_id,
            cancellation_id=f"cancel-{self.external_id}",
            canceled_at=instant_of(order.get("cancelled_at"), "cancelled_at"),
            reason=clean(order.get("cancel_reason")),
            refunded=_given_back(refunds, self.currency),
        )

    def partly_canceled(self) -> Iterator[OrderCanceled]:
        off = {
            line_id: self._off_unsaid(line, line_id)
            for line_id, line in zip(self._ids, self._lines, strict=True)
            if _ships(line)
        }
        for refund in sorted(_objects(self._order, "refunds"), key=lambda refund: str(refund.get("created_at") or "")):
            yield from _canceled_by(refund, self.external_id, off, self._context, self.currency)

    def _off_unsaid(self, line: Json, line_id: str) -> int:
        """How many of the units that were refunded without saying whether they had shipped are called off.

        Those that the shop has neither shipped nor still to ship. Where it does not say what it has shipped, all of
        them: capture knows what has left, and calls none of that off.
        """
        unsaid, canceled = self._refunded_as[line_id, None], self._refunded_as[line_id, "cancel"]
        shipped, to_ship = self._shipped[line_id], line.get("fulfillable_quantity")
        if to_ship is None or (line.get("fulfillment_status") in ("partial", "fulfilled") and not shipped):
            return unsaid
        gone = self._after_edits(line, line_id) - shipped - _count(line, "fulfillable_quantity", line_id)
        return min(max(gone - canceled, 0), unsaid)

    @cached_property
    def _shipped(self) -> Counter[str]:
        """Units in the shop's fulfillments, those under way included."""
        units: Counter[str] = Counter()
        for fulfillment in _objects(self._order, "fulfillments"):
            if fulfillment.get("status") not in ("cancelled", "error", "failure"):
                for line in _objects(fulfillment, "line_items"):
                    line_id = _id_of(line.get("id"), "the id of a fulfillment's line")
                    units[line_id] += _count(line, "quantity", line_id)
        return units

    @cached_property
    def _refunded(self) -> Counter[str]:
        units: Counter[str] = Counter()
        for (line_id, _), quantity in self._refunded_as.items():
            units[line_id] += quantity
        return units

    @cached_property
    def _refunded_as(self) -> Counter[tuple[str, str | None]]:
        """Units by line, and by whether the shop said that they were called off or came back."""
        units: Counter[tuple[str, str | None]] = Counter()
        for refund in _objects(self._order, "refunds"):
            for line_id, quantity, restock in _refunded_units(refund):
                units[line_id, restock if restock in ("cancel", "return") else None] += quantity
        return units

    @property
    def _tax_included(self) -> bool:
        return self._order.get("taxes_included") is True

    def _money(self, thing: Json, name: str) -> Money | None:
        """The amount `name` of `thing`, or None if it has none. In presentment currency only a `…_set` has it."""
        if not self._presentment:
            return _amount(thing.get(name), self.currency, name)
        both = thing.get(f"{name}_set")
        charged = both.get("presentment_money") if isinstance(both, dict) else None
        if not isinstance(charged, dict):
            if thing.get(name) is None:
                return None
            raise Unfit(
                "no-presentment",
                f"charged in {self.currency}, and {name} is in the shop's currency only. Send it with {name}_set",
            )
        if charged.get("currency_code") != self.currency:
            raise Unfit(
                "other-currency", f"{name}: expected {self.currency}, found {str(charged.get('currency_code'))[:8]!r}"
            )
        return _amount(charged.get("amount"), self.currency, name)

    def _sum(self, thing: Json, entries: str, name: str) -> Money:
        amounts = (self._money(entry, name) for entry in _objects(thing, entries))
        return Money.sum((amount for amount in amounts if amount is not None), self.currency)

    def _priced(self) -> tuple[list[ChannelLine], Money, Money]:
        """All lines, also those not shipped, with their shares of the order's discount and tax; shipping, its tax."""
        zero = Money.zero(self.currency)
        lines = [self._line(line, line_id) for line_id, line in zip(self._ids, self._lines, strict=True)]
        shipping = shipping_tax = zero
        discounts = Money.sum((line.discount for line in lines), self.currency)
        for entry in _objects(self._order, "shipping_lines"):
            price = self._money(entry, "price") or zero
            off = self._sum(entry, "discount_allocations", "amount")
            if off.minor == 0 and (after := self._money(entry, "discounted_price")) is not None:
                off = price - after
            shipping, discounts = shipping + price - off, discounts + off
            shipping_tax = shipping_tax + self._sum(entry, "tax_lines", "price")
        for name in ("original_total_duties", "original_total_additional_fees"):
            extra = self._set_only(name)
            if extra is not None and extra.minor:
                shipping = shipping + extra
                self._found.note("fee", self._where, f"{name} of {decimal_of(extra)} is added to the shipping")

        goods = [line.unit_price.minor * line.quantity for line in lines]
        taxes = Money.sum((line.tax for line in lines), self.currency) + shipping_tax
        tax_left = (self._money(self._order, "total_tax") or zero) - taxes
        if tax_left.minor > 0:
            taxable = [
                max(price, 0) if line.get("taxable") is not False else 0
                for price, line in zip(goods, self._lines, strict=True)
            ]
            shares = share_out(tax_left, taxable)
            lines = [
                line.model_copy(update={"tax": line.tax + share}) for line, share in zip(lines, shares, strict=True)
            ]
            taxes = taxes + tax_left
        off_left = (self._money(self._order, "total_discounts") or zero) - discounts
        total = self._money(self._order, "total_price")
        if off_left.minor > 0 and total is not None:
            parts = sum(goods) - sum(line.discount.minor for line in lines) + shipping.minor
            parts += 0 if self._tax_included else taxes.minor
            if parts - off_left.minor == total.minor - self._tips().minor:
                shares = share_out(off_left, [max(price, 0) for price in goods])
                lines = [
                    line.model_copy(update={"discount": line.discount + share})
                    for line, share in zip(lines, shares, strict=True)
                ]
        return lines, shipping - shipping_tax if self._tax_included else shipping, shipping_tax

    def _line(self, line: Json, line_id: str) -> ChannelLine:
        where = f"line {line_id}"
        price = self._money(line, "price")
        if price is None:
            raise Unfit("no-price", "price is missing. Send the whole line", where)
        allocated = self._sum(line, "discount_allocations", "amount")
        weight = line.get("grams")
        return ChannelLine(
            line_id=line_id,
            sku=_sku(line, where) if _ships(line) else "not-shipped",
            title=clean(line.get("name") or line.get("title")),
            quantity=_count(line, "quantity", line_id),
            unit_price=price,
            discount=allocated
            if line.get("discount_allocations")
            else self._money(line, "total_discount") or Money.zero(self.currency),
            tax=self._sum(line, "tax_lines", "price"),
            weight_g=weight if isinstance(weight, int) and weight > 0 else None,
        )

    def _set_only(self, name: str) -> Money | None:
        both = self._order.get(f"{name}_set")
        part = both.get("presentment_money" if self._presentment else "shop_money") if isinstance(both, dict) else None
        return _amount(part.get("amount"), self.currency, name) if isinstance(part, dict) else None

    def _tips(self) -> Money:
        """What the total holds as a tip beyond the lines; older orders have it in a field, newer ones as a line."""
        if any(line.get("tip") is not None for line in self._lines) or self._presentment:
            return Money.zero(self.currency)
        return self._money(self._order, "total_tip_received") or Money.zero(self.currency)

    def _customer(self) -> Customer | None:
        person = self._order.get("customer")
        person = person if isinstance(person, dict) else {}
        external_id = "" if person.get("id") is None else _id_of(person["id"], "the customer's id")
        email = clean(self._order.get("email") or self._order.get("contact_email") or person.get("email"))
        return Customer(external_id=external_id, email=email) if external_id or email else None

    def _address(self) -> Address:
        to = self._order.get("shipping_address")
        if not isinstance(to, dict):
            raise Unfit(
                "no-address",
                "no shipping_address, and there are lines to ship. For a pickup let the shop fulfill it; otherwise "
                "add the address to the order",
            )
        country = clean(to.get("country_code")).upper()
        if not re.fullmatch("[A-Z]{2}", country):
            raise Unfit(
                "no-country", f"expected a country_code of two letters and found {country[:8]!r}", "shipping_address"
            )
        name = clean(to.get("name")) or clean(f"{clean(to.get('first_name'))} {clean(to.get('last_name'))}")
        street = (clean(to.get("address1")), clean(to.get("address2")))
        return Address(
            person=Person(
                name=name,
                company=clean(to.get("company")),
                street=tuple(line for line in street if line),
                city=clean(to.get("city")),
                phone=clean(to.get("phone")),
                email=clean(self._order.get("email") or self._order.get("contact_email")),
            ),
            country=country,
            region=clean(to.get("province_code") or to.get("province"), 40),
            postal_code=clean(to.get("zip"), 16),
        )

    def _payment(self) -> Payment:
        known = _PAYMENT[self._financial_status]
        if self._order.get("payment_terms"):
            return Payment(status="paid" if known == "paid" else "invoice")
        done = [
            entry["id"]
            for entry in _objects(self._order, "transactions")
            if entry.get("kind") in ("sale", "authorization", "capture") and entry.get("status") == "success"
        ]
        return Payment(
            status=known,
            reference=_id_of(done[-1], "a transaction's id") if done else None,
            paid=self._deposit() if self._financial_status == "partially_paid" else None,
        )

    @property
    def _financial_status(self) -> str:
        status = str(self._order.get("financial_status") or "pending")
        if status not in _PAYMENT:
            raise Unfit(
                "unknown-payment", f"financial_status {status[:40]!r} is not known. Taken are {', '.join(_PAYMENT)}"
            )
        return status

    def _deposit(self) -> Money | None:
        """What is paid of an order that is not paid in full, if that is told in the currency it was charged in."""
        outstanding = None if self._presentment else self._money(self._order, "total_outstanding")
        total = None if self._presentment else self._money(self._order, "current_total_price")
        total = total or self._money(self._order, "total_price")
        if outstanding is None or total is None:
            return None
        return Money(minor=max(0, total.minor - outstanding.minor), currency=self.currency)

    def _service_level(self) -> ServiceLevel:
        named = (f"{entry.get('code')} {entry.get('title')}" for entry in _objects(self._order, "shipping_lines"))
        return ServiceLevel.EXPEDITED if any(map(_FAST.search, named)) else ServiceLevel.STANDARD


def _refunded_alone(refund: Json, context: AdapterContext, found: Findings) -> Iterator[OrderCanceled]:
    """A refunds/create webhook: it brings its lines along."""
    external_id = _id_of(refund.get("order_id"), "the refund's order_id")
    off: dict[str, int] = {}
    for entry in _objects(refund, "refund_line_items"):
        line = entry.get("line_item")
        line = line if isinstance(line, dict) else {}
        if _ships(line):
            untouched = line.get("fulfillment_status") not in ("partial", "fulfilled")
            line_id = _id_of(entry.get("line_item_id"), "line_item_id")
            off[line_id] = off.get(line_id, 0) + (_count(entry, "quantity", line_id) if untouched else 0)
    canceled = list(_canceled_by(refund, external_id, off, context, context.currency))
    if not canceled:
        note = "gives money back and calls no unit off: returned goods are the returns' affair"
        found.note("money-only", f"refund {refund.get('id')}", note)
    yield from canceled


def _canceled_by(
    refund: Json, external_id: str, off: dict[str, int], context: AdapterContext, currency: str
) -> Iterator[OrderCanceled]:
    """The units that `refund` calls off: restocked as canceled, or unsaid and still in `off`, which it uses up."""
    units: Counter[str] = Counter()
    for line_id, quantity, restock in _refunded_units(refund):
        if line_id in off and restock == "cancel":
            units[line_id] += quantity
        elif restock != "return" and (less := min(quantity, off.get(line_id, 0))):
            units[line_id] += less
            off[line_id] -= less
    if units:
        yield OrderCanceled(
            channel=context.channel,
            external_id=external_id,
            cancellation_id=_cancellation_id(refund),
            canceled_at=instant_of(refund.get("created_at") or refund.get("processed_at"), "the refund's created_at"),
            lines=tuple(LineChange(line_id=line_id, quantity=count) for line_id, count in units.items()),
            reason=clean(refund.get("note")),
            refunded=_given_back([refund], currency),
        )


def _cancellation_id(refund: Json) -> str:
    return f"refund-{_id_of(refund.get('id'), 'the refund id')}"


def _given_back(refunds: Iterable[Json], currency: str) -> Money | None:
    """What the shop itself has paid back, None for nothing. A transaction that names no currency is in `currency`."""
    by_currency: Counter[str] = Counter()
    for refund in refunds:
        for entry in _objects(refund, "transactions"):
            if entry.get("kind") == "refund" and entry.get("status") == "success":
                named = entry.get("currency")
                of = named if isinstance(named, str) and named else currency
                amount = _amount(entry.get("amount"), of, "a refund's amount")
                by_currency[of] += amount.minor if amount else 0
    if len(by_currency) > 1:
        found = ", ".join(sorted(by_currency))
        raise Unfit("several-currencies", f"refunds in {found}. Send each refund by itself", "refunds")
    return next((Money(minor=minor, currency=of) for of, minor in by_currency.items() if minor), None)


def _refunded_units(refund: Json) -> Iterator[tuple[str, int, str | None]]:
    for entry in _objects(refund, "refund_line_items"):
        line_id = _id_of(entry.get("line_item_id"), "line_item_id")
        yield line_id, _count(entry, "quantity", line_id), entry.get("restock_type")


def _objects(thing: Json, name: str) -> list[Json]:
    entries = thing.get(name)
    if entries is None:
        return []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Unfit(
            "bad-shape", f"expected a list of objects as {name} and found something else. Send it as Shopify does"
        )
    return entries


def _ships(line: Json) -> bool:
    return line.get("requires_shipping") is not False and line.get("gift_card") is not True and line.get("tip") is None


def _id_of(value: object, what: str) -> str:
    """Shopify's ids are integers, above 2^53 too; as text they lose nothing."""
    if (isinstance(value, int) and not isinstance(value, bool) and value > 0) or (
        isinstance(value, str) and not isinstance(value, Number) and _ID.fullmatch(value)
    ):
        return str(value)
    raise Unfit("bad-id", f"expected an integer as {what} and found {str(value)[:40]!r}. Send ids as Shopify made them")


def _line_id(line: Json, number: int) -> str:
    return line_id_of(_id_of(line.get("id"), "the line's id"), f"line number {number}")


def _count(thing: Json, name: str, line_id: str) -> int:
    value = thing.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1_000_000:
        return value
    raise Unfit(
        "bad-quantity", f"expected whole units as {name} and found {str(value)[:24]!r}. Correct it", f"line {line_id}"
    )


def _sku(line: Json, where: str) -> str:
    sku = clean(line.get("sku"))
    if sku:
        return sku_of(sku, where)
    if line.get("variant_id") is None:
        raise Unfit(
            "no-sku", "neither a SKU nor a variant: a custom line. Give it a SKU, or mark it as not shipped", where
        )
    return _id_of(line["variant_id"], "variant_id")


def _amount(value: object, currency: str, name: str) -> Money | None:
    if value is None:
        return None
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise Unfit(
            "not-an-amount", f"expected {name} as a decimal and found {type(value).__name__}. Send it as Shopify does"
        )
    try:
        return money_of(str(value), currency)
    except Unfit as unfit:
        raise Unfit(unfit.reason.code, f"{name}: {unfit.reason.text}") from None


def _attribute(order: Json) -> str | None:
    entries = _objects(order, "note_attributes")
    return next((str(entry.get("value")) for entry in entries if entry.get("name") == NAME), None)


def _microseconds(moment: datetime) -> int:
    """Whole microseconds since 1970: grows with each update, one update twice is the same."""
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def _write(order: OrderPlaced, lost: str) -> bytes:
    person = order.ship_to.person
    customer = order.customer or Customer()
    discounts = Money.sum((line.discount for line in order.lines), order.total.currency)
    taxes = Money.sum((line.tax for line in order.lines), order.total.currency) + order.shipping_tax
    goods = Money.sum((line.unit_price * line.quantity for line in order.lines), order.total.currency)
    carriage = order.shipping + order.shipping_tax if order.tax_included else order.shipping
    street = [*person.street, "", ""]
    moment = order.placed_at.isoformat()
    document: Json = {
        "id": _shopify_id("order", order.external_id),
        "admin_graphql_api_id": f"gid://shopify/Order/{_shopify_id('order', order.external_id)}",
        "name": f"#{order.external_id}",
        "created_at": moment,
        "processed_at": moment,
        "updated_at": moment,
        "cancelled_at": None,
        "cancel_reason": None,
        "currency": order.total.currency,
        "presentment_currency": order.total.currency,
        "financial_status": "pending" if order.payment.status == "invoice" else order.payment.status,
        "payment_terms": {"payment_terms_type": "net"} if order.payment.status == "invoice" else None,
        "fulfillment_status": None,
        "email": person.email or customer.email or None,
        "contact_email": person.email or customer.email or None,
        "source_name": "ordermill",
        "test": False,
        "taxes_included": order.tax_included,
        "total_line_items_price": decimal_of(goods),
        "total_discounts": decimal_of(discounts),
        "subtotal_price": decimal_of(goods - discounts),
        "total_tax": decimal_of(taxes),
        "total_price": decimal_of(order.total),
        "customer": {"id": _shopify_id("customer", customer.external_id), "email": customer.email or None}
        if customer.external_id
        else None,
        "shipping_address": {
            "name": person.name,
            "company": person.company or None,
            "address1": street[0],
            "address2": street[1] or None,
            "city": person.city,
            "province_code": order.ship_to.region or None,
            "zip": order.ship_to.postal_code or None,
            "country_code": order.ship_to.country,
            "phone": person.phone or None,
        },
        "note_attributes": [{"name": NAME, "value": lost}] if lost else [],
        "discount_applications": [{"type": "manual", "target_type": "line_item", "allocation_method": "each"}],
        "line_items": [_line_item(line) for line in order.lines],
        "shipping_lines": [
            {
                "id": _shopify_id("shipping", order.external_id),
                "code": order.service_level.value,
                "title": order.service_level.value.capitalize(),
                "price": decimal_of(carriage),
                "discounted_price": decimal_of(carriage),
                "discount_allocations": [],
                "tax_lines": _taxes(order.shipping_tax),
            }
        ],
        "refunds": [],
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _line_item(line: ChannelLine) -> Json:
    off = [{"amount": decimal_of(line.discount), "discount_application_index": 0}] if line.discount.minor else []
    return {
        "id": _shopify_id("line", line.line_id),
        "sku": line.sku,
        "variant_id": _shopify_id("variant", line.sku),
        "name": line.title,
        "title": line.title,
        "quantity": line.quantity,
        "current_quantity": line.quantity,
        "fulfillable_quantity": line.quantity,
        "grams": line.weight_g or 0,
        "price": decimal_of(line.unit_price),
        "total_discount": "0.00",
        "discount_allocations": off,
        "tax_lines": _taxes(line.tax),
        "requires_shipping": True,
        "gift_card": False,
        "taxable": bool(line.tax.minor),
        "fulfillment_status": None,
        "properties": [],
    }


def _taxes(tax: Money) -> Iterable[Json]:
    return [{"title": "Tax", "price": decimal_of(tax)}] if tax.minor else []


def _shopify_id(kind: str, ours: str) -> int:
    """An id as Shopify makes them: `ours` where it is such a number, else one derived from it."""
    if _ID.fullmatch(ours) and int(ours) < 2**63:
        return int(ours)
    return (UUID(derived_id("shopify", kind, ours)).int >> 66) | 1 << 61
