"""The small types all contracts are made of. Money is integer minor units, instants are UTC, ids are text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.config import JsonDict
from pydantic_core import CoreSchema, core_schema

MAX_MINOR = 10**15
"""Largest amount of money in minor units; keeps sums of a million lines inside 64 bits."""


def _as_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("no such moment in UTC") from None


class _WrittenOut:
    """Refuses numbers, which pydantic would take for seconds since 1970. All of it runs inside pydantic's core."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        written = core_schema.union_schema(
            [
                core_schema.str_schema(pattern=r"^\d{4}-\d\d-\d\d", strict=True),
                core_schema.is_instance_schema(datetime),
            ],
            mode="left_to_right",
            custom_error_type="instant",
            custom_error_message="a time as RFC 3339 writes it is expected, with an offset: 2026-03-02T09:00:00Z",
        )
        return core_schema.chain_schema([written, handler(source)])


_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f]")


def _no_control_characters(value: str) -> str:
    if _CONTROL_CHARACTERS.search(value):
        raise ValueError("text may not hold control characters")
    return value


class _SaysSo:
    """Tells in the JSON Schema what `_no_control_characters` refuses; its own message is the clearer one."""

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> JsonDict:
        schema: JsonDict = handler(core_schema)
        return {**schema, "pattern": r"^[^\u0000-\u0008\u000b-\u001f]*$"}


class Part(BaseModel):
    """A frozen piece of a message that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_timedelta="iso8601")


Instant = Annotated[
    AwareDatetime,
    _WrittenOut(),
    AfterValidator(_as_utc),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A moment, in UTC. An instant without an offset is refused: a guessed zone is the wrong one."""

Flag = Annotated[bool, Field(strict=True)]
"""Yes or no; 0, 1 and "yes" are neither."""

Quantity = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
"""Whole units, at least one."""

Count = Annotated[int, Field(ge=0, le=1_000_000_000, strict=True)]
"""Whole units, possibly none."""

Delta = Annotated[int, Field(ge=-1_000_000_000, le=1_000_000_000, strict=True)]
"""A change in whole units."""

Grams = Annotated[int, Field(ge=0, le=100_000_000, strict=True)]
Sku = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")]
LocationId = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^[a-z0-9][a-z0-9-]*$")]
ChannelId = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^[a-z0-9][a-z0-9-]*$")]
Id = Annotated[str, StringConstraints(min_length=1, max_length=120, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")]
"""An id that we made."""

ExternalId = Annotated[
    str, StringConstraints(min_length=1, max_length=120), AfterValidator(_no_control_characters), _SaysSo()
]
"""An id from outside, unique within its channel."""

Text = Annotated[str, StringConstraints(max_length=500), AfterValidator(_no_control_characters), _SaysSo()]
PERSONAL: JsonDict = {"x-personal-data": "clear"}
"""Marks a field that holds personal data in the clear; only what comes from outside may."""

Sealed = Annotated[
    str,
    StringConstraints(pattern=r"^sealed\.v1\.[A-Za-z0-9-]+\.[A-Za-z0-9_-]+$", max_length=8_000),
    Field(json_schema_extra={"x-personal-data": "sealed"}),
]
"""AES-256-GCM ciphertext under one customer's key: `sealed.v1.<key id>.<base64url of nonce and ciphertext>`."""


def key_of(sealed: Sealed) -> str:
    """The id of the key that it is sealed under."""
    return sealed.split(".")[2]


Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
"""ISO 3166-1 alpha-2."""

Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
"""ISO 4217."""


class CurrencyMismatch(ValueError):
    """Two amounts of different currencies met in one sum."""

    def __init__(self, left: str, right: str) -> None:
        super().__init__(f"{left} and {right} do not add up: convert one of them first")


class Money(Part):
    """An amount in the currency's minor units: `Money(minor=1299, currency="USD")` is 12.99 dollars."""

    minor: Annotated[int, Field(ge=-MAX_MINOR, le=MAX_MINOR, strict=True)]
    currency: Currency

    @classmethod
    def zero(cls, currency: str) -> Self:
        return cls(minor=0, currency=currency)

    @classmethod
    def sum(cls, amounts: Iterable[Money], currency: str) -> Self:
        """All of `amounts`, which must be in `currency`. Raises CurrencyMismatch."""
        total = 0
        for amount in amounts:
            if amount.currency != currency:
                raise CurrencyMismatch(currency, amount.currency)
            total += amount.minor
        return cls(minor=total, currency=currency)

    def __add__(self, other: Money) -> Money:
        return Money.sum((self, other), self.currency)

    def __sub__(self, other: Money) -> Money:
        return self + Money(minor=-other.minor, currency=other.currency)

    def __mul__(self, times: int) -> Money:
        return Money(minor=self.minor * times, currency=self.currency)

    def __str__(self) -> str:
        digits = MINOR_DIGITS.get(self.currency, 2)
        return f"{self.minor / 10**digits:,.{digits}f} {self.currency}"


_DIGITS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
MINOR_DIGITS = {currency: digits for digits, currencies in _DIGITS.items() for currency in currencies.split()}
"""Currencies whose minor unit is not a hundredth (ISO 4217)."""


class PaymentShare(Part):
    """So much money, by the payment that brought it."""

    reference: ExternalId | None = None
    amount: Money


class Destination(Part):
    """Where an order goes: what routing needs in the clear, the rest sealed under the customer's key."""

    country: Country
    region: Annotated[str, StringConstraints(max_length=40)] = ""
    postal_code: Annotated[str, StringConstraints(max_length=16)] = ""
    addressee: Sealed | None = None
    fingerprint: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] | None = None
    """A keyed hash of the whole address: tells the same address from another, and nothing else of it."""


class LineQuantity(Part):
    """So many units of one order line."""

    line_id: Id
    sku: Sku
    quantity: Quantity
