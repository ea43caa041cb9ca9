"""Ids. Ours are UUIDv7 (RFC 9562); what stems from an outside id is derived from it, so twice gives the same."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID, uuid5

from asyncpg.pgproto import pgproto

NAMESPACE = UUID("6f2d6d6e-8a1c-5c1e-9d0b-0d3c2f7b6a10")


def order_id_of(channel: str, external_id: str) -> str:
    """The one id an order of this channel can have. Two instances that take it twice meet in one stream."""
    return str(uuid5(NAMESPACE, f"order\0{channel}\0{external_id}"))


def derived_id(*parts: str) -> str:
    """An id that stands for `parts`, always the same."""
    return str(uuid5(NAMESPACE, "\0".join(parts)))


def uuid7(at: datetime, random_bytes: Callable[[int], bytes]) -> UUID:
    """A time-ordered id: 48 bits of `at` in milliseconds, 74 bits of `random_bytes`. Source: RFC 9562, 5.7.

    It is the driver's own kind of UUID, as ids read from a log are: made and written out at a tenth of the cost.
    """
    millis = int(at.timestamp() * 1000) & (2**48 - 1)
    noise = int.from_bytes(random_bytes(10), "big")
    value = millis << 80 | 0x7 << 76 | (noise >> 62 & 0xFFF) << 64 | 0b10 << 62 | (noise & (2**62 - 1))
    return pgproto.UUID(value.to_bytes(16, "big"))


def made_at(text: str) -> datetime | None:
    """When a UUIDv7 was made, to the millisecond; None for any other text."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return datetime.fromtimestamp((found.int >> 80) / 1000, UTC) if found.version == 7 else None
