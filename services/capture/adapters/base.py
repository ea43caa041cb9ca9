"""What every channel adapter is: a pure function from a vendor's bytes to our messages, or a reason why none.

An adapter does no I/O and reads no clock. It never raises over what is in the bytes: a file may hold many orders,
and one bad order does not stop its neighbors, so each fault becomes a `Reason` beside the messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Protocol

from pydantic import ValidationError

from ordermill.contracts.base import Malformed, explain
from ordermill.contracts.channel import ChannelOrder, OrderPlaced
from ordermill.contracts.fields import Money
from ordermill.errors import Poison, Refused

MEGABYTE = 2**20
MAX_REASONS = 1_000
"""After so many rejections the rest of a payload is not read, and so many notes are kept: nobody reads more."""
USUAL_CURRENCY = "USD"
MAX_WHERE, MAX_TEXT = 300, 2_000
"""Characters of a reason: what it quotes may be as long as a stranger likes."""


@dataclass(frozen=True, slots=True)
class AdapterContext:
    """What the bytes don't say: the channel they came by, when, and what holds there if nothing else is said."""

    channel: str
    received_at: datetime
    currency: str = USUAL_CURRENCY
    """For formats or documents that name no currency."""
    topic: str | None = None
    """What kind of message it is, where that stands outside the bytes: Shopify's X-Shopify-Topic."""
    zone: tzinfo | None = None
    """The zone of local times without an offset."""
    zones: Mapping[str, tzinfo] = field(default_factory=dict)
    """The zones of single shops, by the `store` of a point of sale's file."""
    honors_extension: bool = False
    """Whether to believe what `render` added in the vendor's extension place. Only for channels that nobody but
    ourselves writes to: a shop's customers can set note attributes, so they could set prices with it."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something became no message (a rejection), or what to know about one that did (a note)."""

    code: str
    """Stable and safe to match on: `<format>.<what>`."""
    where: str
    """Which thing: a file's row, an order's line."""
    text: str
    """What was expected and found, and what to do. Holds ids and amounts, never personal data."""

    def __str__(self) -> str:
        return f"{self.where}: {self.text} [{self.code}]"


@dataclass(frozen=True, slots=True)
class Adapted:
    """What became of one payload. Never empty: where there is no message, a reason says why."""

    messages: tuple[ChannelOrder, ...] = ()
    rejections: tuple[Reason, ...] = ()
    """Things that should have become messages and could not. Somebody must act."""
    notes: tuple[Reason, ...] = ()
    """Things rightly left out, and doubts about messages that were made all the same."""


class ChannelAdapter(Protocol):
    """One format of one kind of channel."""

    @property
    def name(self) -> str: ...
    @property
    def media_type(self) -> str: ...
    @property
    def extension(self) -> str: ...
    @property
    def max_bytes(self) -> int: ...

    def adapt(self, payload: bytes, context: AdapterContext) -> Adapted:
        """The messages that `payload` holds. Never raises over its content."""
        ...

    def render(self, order: OrderPlaced) -> bytes:
        """`order` as this channel would send it. Adapted again with `honors_extension` it is equal to `order`.

        Raises CannotRender where the format has no place for it at all.
        """
        ...


class UnknownFormat(Refused):
    """Asked for a format that no adapter reads."""

    code = "capture.unknown-format"

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"{name!r}: no adapter reads this format. There are: {', '.join(known)}")


class CannotRender(Refused):
    """An order that this format cannot carry."""

    code = "capture.cannot-render"

    def __init__(self, name: str, order: OrderPlaced, why: str) -> None:
        super().__init__(f"order {order.external_id!r} as {name}: {why}. Render it as canonical instead")


class Unfit(Poison):
    """Raised inside adapters about one thing; the `Findings` around it make it a rejection."""

    code = "capture.unfit"

    def __init__(self, code: str, text: str, where: str = "") -> None:
        self.reason = Reason(code, where, text)
        super().__init__(str(self.reason))


class _EnoughError(Exception):
    """MAX_REASONS are reached."""


class Findings:
    """Collects what an adapter finds on its way through a payload."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.messages: list[ChannelOrder] = []
        self.rejections: list[Reason] = []
        self.notes: list[Reason] = []
        self._unsaid = 0

    def note(self, code: str, where: str, text: str) -> None:
        if len(self.notes) < MAX_REASONS:
            self.notes.append(self._reason(code, where, text))
        else:
            self._unsaid += 1

    def reject(self, code: str, where: str, text: str) -> None:
        self.rejections.append(self._reason(code, where, text))
        if len(self.rejections) >= MAX_REASONS:
            raise _EnoughError

    def _reason(self, code: str, where: str, text: str) -> Reason:
        return Reason(f"{self._name}.{code}", _encodable(where[:MAX_WHERE]), _encodable(text[:MAX_TEXT]))

    @contextmanager
    def payload(self) -> Iterator[None]:
        """All of the payload: around everything else, once."""
        try:
            with self.item("payload"):
                yield
        except _EnoughError:
            text = f"{MAX_REASONS:,} faults, so the rest was not read. Correct these, or send it in smaller parts"
            self.rejections.append(Reason(f"{self._name}.too-many-faults", "payload", text))

    @contextmanager
    def item(self, where: str) -> Iterator[list[ChannelOrder]]:
        """One thing of several: all the messages put into the list are kept, or none and one rejection."""
        messages: list[ChannelOrder] = []
        notes = len(self.notes)
        try:
            yield messages
        except Unfit as unfit:
            inner = f"{where}, {unfit.reason.where}" if unfit.reason.where else where
            self.reject(unfit.reason.code, inner, unfit.reason.text)
        except ValidationError as error:
            self.reject("malformed", where, f"{explain(error)}. Correct it at its source and send it again")
        except Malformed as error:
            self.reject("malformed", where, str(error))
        except OverflowError:
            self.reject(
                "number-out-of-range", where, "a number or date is beyond what can be. Correct it at its source"
            )
        else:
            self.messages.extend(messages)
            return
        del self.notes[notes:]

    def result(self) -> Adapted:
        if self._unsaid:
            text = f"{self._unsaid:,} more notes of these kinds are left out"
            self.notes.append(Reason(f"{self._name}.more-notes", "payload", text))
        return Adapted(tuple(self.messages), tuple(self.rejections), tuple(self.notes))


def check_size(payload: bytes, max_bytes: int) -> None:
    """Raises Unfit for nothing at all and for more than `max_bytes`."""
    if len(payload) > max_bytes:
        raise Unfit(
            "too-large", f"{len(payload):,} bytes, and {max_bytes:,} are taken at most. Send it in smaller parts"
        )
    if not payload.strip():
        raise Unfit("empty", "expected an order and found nothing. Send it again, whole")


def sum_of(order: OrderPlaced) -> int:
    """What the parts of `order` add up to, in minor units. Its channel's `total` should say the same.

    `tax_included` is about the lines: `shipping` never holds its tax.
    """
    goods = sum(line.unit_price.minor * line.quantity - line.discount.minor for line in order.lines)
    taxes = 0 if order.tax_included else sum(line.tax.minor for line in order.lines)
    return goods + taxes + order.shipping.minor + order.shipping_tax.minor


def note_wrong_total(found: Findings, order: OrderPlaced, where: str) -> None:
    """Says beforehand what capture will reject; the channel's own words are passed on unchanged."""
    parts = sum_of(order)
    if parts != order.total.minor and abs(parts) < 10**18:
        difference = order.total.minor - parts
        found.note(
            "total-differs",
            where,
            f"the channel's total is {difference:+d} minor units of {order.total.currency} off its own parts. "
            "Capture rejects such an order: correct it in the channel",
        )


def as_test(order: OrderPlaced, found: Findings, where: str, who: str) -> OrderPlaced:
    """An order that is said to be a test: taken, so that the way can be tried, and held, so that nothing ships."""
    found.note("test-order", where, f"marked as a test by {who}: it is held until a person releases it")
    return order.model_copy(update={"hold": order.hold or f"marked as a test by {who}"})


def one_currency(name: str, order: OrderPlaced) -> str:
    """The order's only currency. Raises CannotRender for several: a vendor's document has one."""
    amounts: list[Money] = [order.shipping, order.shipping_tax, order.total]
    for line in order.lines:
        amounts += (line.unit_price, line.discount, line.tax)
    currencies = {amount.currency for amount in amounts}
    if len(currencies) > 1:
        raise CannotRender(
            name, order, f"amounts in {', '.join(sorted(currencies))}, and its document has one currency"
        )
    return order.total.currency


def _encodable(text: str) -> str:
    """Half a surrogate pair may stand in JSON that came in, but in none that goes out."""
    return text.encode(errors="replace").decode()
