"""What happened to an order, entry by entry, and what caused what."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

import asyncpg

from ordermill.contracts.base import BY_TYPE, FAMILIES, Message, decode
from ordermill.errors import Poison

from .pages import local
from .sentences import NOISE, Day, sentence

MOST = 600
Who = Literal["person", "service", "timer", "outside"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One event as people read it."""

    message: str
    text: str
    who: str
    kind: Who
    service: str
    happened_at: datetime
    type: str
    folded: bool


def day_in(zone: ZoneInfo) -> Day:
    def day(at: datetime) -> str:
        here = local(at, zone)
        return f"{here:%a, %b} {here.day}"

    return day


def who(actor: str, source: str) -> tuple[str, Who]:
    """Whose doing it was: `Ann`, `routing`, `routing's clock`."""
    service = source.removeprefix("/ordermill/")
    kind, _, name = actor.partition(":")
    if kind == "user" and name:
        return name, "person"
    if kind == "customer":
        return kind, "outside"
    if kind == "timer":
        return f"{service}'s clock", "timer"
    if service == source or (actor.startswith("/") and not actor.startswith("/ordermill/")):
        return (actor if actor.startswith("/") else source).strip("/"), "outside"
    return service, "service"


def entry(row: Any, day: Day) -> Entry:
    message = read(row["type"], row["data"])
    family = BY_TYPE.get(row["type"]) or FAMILIES.get(row["type"].rpartition(".")[0])
    name, kind = who(row["actor"], row["source"])
    return Entry(
        message=str(row["message"]),
        text=told(row["type"], message, day),
        who=name,
        kind=kind,
        service=row["source"].removeprefix("/ordermill/"),
        happened_at=row["happened_at"],
        type=row["type"],
        folded=family in NOISE,
    )


def told(type_name: str, message: Message | None, day: Day) -> str:
    if message is not None:
        return sentence(message, day)
    return _UNSAID.get(type_name.rpartition(".")[0], type_name)


_UNSAID = {
    "oms.channel.order-placed": "The channel sent the order",
    "oms.channel.order-changed": "The channel sent a change of the order",
    "oms.channel.order-canceled": "The channel sent a cancellation",
    "oms.service.dead-lettered": "A message could not be handled and is kept",
}
"""Of messages that hold personal data in the clear only the kind is kept."""


def read(type_name: str, data: bytes | None) -> Message | None:
    """None for what is not kept, or was told by a newer service than this console knows."""
    if data is None:
        return None
    try:
        return decode(type_name, data)
    except Poison:
        return None


_ENTRIES = """
SELECT message, type, source, actor, happened_at, data FROM events
WHERE order_id = $1 ORDER BY happened_at DESC, seen_at DESC LIMIT $2
"""


async def entries(pool: asyncpg.Pool, order_id: str, zone: ZoneInfo) -> list[Entry]:
    """The newest first."""
    day = day_in(zone)
    return [entry(row, day) for row in await pool.fetch(_ENTRIES, order_id, MOST)]


@dataclass(frozen=True, slots=True)
class Act:
    """What a person did to an order."""

    who: str
    text: str
    happened_at: datetime
    mine: bool
    message: Message | None = None


_ACTS = """
SELECT type, actor, source, happened_at, data FROM events
WHERE order_id = $1 AND seen_at > $2 AND actor LIKE 'user:%' ORDER BY seen_at DESC LIMIT 50
"""


async def acts_since(pool: asyncpg.Pool, order_id: str, seen: datetime, actor: str, zone: ZoneInfo) -> list[Act]:
    """What people have done to the order after a page of it was made, newest first."""
    rows = await pool.fetch(_ACTS, order_id, seen)
    day = day_in(zone)
    return [
        Act(
            who(row["actor"], row["source"])[0],
            told(row["type"], message, day),
            row["happened_at"],
            row["actor"] == actor,
            message,
        )
        for row in rows
        for message in (read(row["type"], row["data"]),)
    ]


async def seen_to(pool: asyncpg.Pool, order_id: str) -> datetime | None:
    """When the console learned the newest thing it knows of the order."""
    found: datetime | None = await pool.fetchval("SELECT max(seen_at) FROM events WHERE order_id = $1", order_id)
    return found
