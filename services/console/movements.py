"""What lies behind a SKU's numbers: its stream's facts, newest first, each with the balance after it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from ordermill.contracts.base import Message, decode
from ordermill.contracts.inventory import StockFact

from .pictures.stock import Move, Number, Sku, in_words, move

PAGE = 50
_CHUNK = 500
_MOST_POINTS = 5_000


@dataclass(frozen=True, slots=True)
class Movement:
    """One fact. `change` and `balance` are of the number asked for; `order` is (id, channel, external id)."""

    version: int
    at: datetime
    words: str
    location: str | None
    change: int
    balance: int
    actor: str
    order: tuple[str, str, str] | None
    reference: str
    """The feed's or the form's own id of it; empty for what orders did."""


@dataclass(frozen=True, slots=True)
class _Kept:
    version: int
    at: datetime
    fact: StockFact
    moved: Move
    actor: str
    order_id: str | None


def stream_of(sku: str) -> str:
    return f"stock-{sku}"


def who(actor: str) -> str:
    """As people write it: a person by name, a feed by where it came from, else the part of Ordermill that acted."""
    kind, _, name = actor.partition(":")
    if kind == "user":
        return name
    return name or actor.rpartition("/")[2] or actor


async def sku_of(connection: Any, key: str) -> Sku | None:
    doc = await connection.fetchval("SELECT doc FROM stock WHERE key = $1", key)
    return None if doc is None else Sku.model_validate_json(doc)


async def movements(
    pool: asyncpg.Pool, key: str, number: Number | None, location: str | None, page: int
) -> tuple[Sku, list[Movement], bool] | None:
    """The SKU, one page of what moved `number` (None: all facts, with ATP's balance), and whether older ones follow.

    All of one moment. None for a SKU that nobody told of.
    """
    async with (
        pool.acquire(timeout=20) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        sku = await sku_of(connection, key)
        if sku is None:
            return None
        counted: Number = number or "available"
        balance = sku.number(counted, location)
        skip = (page - 1) * PAGE
        shown: list[tuple[_Kept, int, int]] = []
        async for kept in _newest_first(connection, key):
            if location is not None and kept.moved.location != location:
                continue
            change = kept.moved.of(counted)
            if number is not None and not change:
                continue
            if skip:
                skip -= 1
            elif len(shown) == PAGE:
                return sku, await _told(connection, shown), True
            else:
                shown.append((kept, change, balance))
            balance -= change
        return sku, await _told(connection, shown), False


async def since(pool: asyncpg.Pool, key: str, version: int, location: str) -> list[Movement]:
    """What moved units at a location after that version of the SKU's stream, oldest first, by on hand."""
    async with (
        pool.acquire(timeout=20) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        sku = await sku_of(connection, key) or Sku()
        balance = sku.number("on_hand", location)
        found: list[tuple[_Kept, int, int]] = []
        async for kept in _newest_first(connection, key):
            if kept.version <= version or len(found) == PAGE:
                break
            if kept.moved.location == location and kept.moved.on_hand:
                found.append((kept, kept.moved.on_hand, balance))
                balance -= kept.moved.on_hand
        return (await _told(connection, found))[::-1]


async def history(pool: asyncpg.Pool, key: str, after: datetime | None) -> list[tuple[datetime, tuple[int, int]]]:
    """(when, (on hand, ATP)) from the level at `after` on, by when it happened; of long lives the newest part."""
    async with (
        pool.acquire(timeout=20) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        sku = await sku_of(connection, key) or Sku()
        moves: list[tuple[datetime, int, Move]] = []
        seen = 0
        async for kept in _newest_first(connection, key):
            if seen == _MOST_POINTS:
                break
            seen += 1
            if (after is None or kept.at >= after) and (kept.moved.on_hand or kept.moved.available):
                moves.append((kept.at, kept.version, kept.moved))
    on_hand = sku.on_hand - sum(each.on_hand for _, _, each in moves)
    available = sku.available - sum(each.available for _, _, each in moves)
    moves.sort(key=lambda one: one[:2])
    points = []
    start = after or (moves[0][0] if moves else sku.changed_at)
    if start is not None:
        points.append((start, (on_hand, available)))
    for at, _, each in moves:
        on_hand, available = on_hand + each.on_hand, available + each.available
        points.append((at, (on_hand, available)))
    return points


async def _newest_first(connection: Any, key: str) -> AsyncIterator[_Kept]:
    before = 2**31 - 1
    while True:
        rows = await connection.fetch(
            """SELECT version, type, data, actor, order_id, happened_at FROM events
               WHERE stream = $1 AND version < $2 ORDER BY version DESC LIMIT $3""",
            stream_of(key),
            before,
            _CHUNK,
        )
        for row in rows:
            fact: Message = decode(row["type"], row["data"])
            if isinstance(fact, StockFact):
                yield _Kept(row["version"], row["happened_at"], fact, move(fact), row["actor"], row["order_id"])
        if len(rows) < _CHUNK:
            return
        before = rows[-1]["version"]


async def _told(connection: Any, kept: list[tuple[_Kept, int, int]]) -> list[Movement]:
    ids = sorted({one.order_id for one, _, _ in kept if one.order_id})
    rows = await connection.fetch("SELECT key, channel, external_id FROM orders WHERE key = ANY($1)", ids)
    orders = {row["key"]: (row["key"], row["channel"], row["external_id"]) for row in rows}
    return [
        Movement(
            version=one.version,
            at=one.at,
            words=in_words(one.fact),
            location=one.moved.location or getattr(one.fact, "location", None),
            change=change,
            balance=balance,
            actor=who(one.actor),
            order=orders.get(one.order_id, (one.order_id, "", one.order_id)) if one.order_id else None,
            reference=getattr(one.fact, "reference", ""),
        )
        for one, change, balance in kept
    ]
