"""What of the queue is shown, in which order, a page at a time; and the SQL that finds it."""

# Only names fixed in code are ever put into SQL text; values are arguments.
# ruff: noqa: S608

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import Query

from ordermill.keyring import Keyring

from .pages import Console

PAGE = 50
HIGHEST = "\U0010ffff"
"""After every text that begins alike, in the order of code points."""
SORTS = {
    "newest": ("placed_at", "DESC"),
    "oldest": ("placed_at", "ASC"),
    "promise": ("coalesce(promised_by, 'infinity')", "ASC"),
    "changed": ("changed_at", "DESC"),
}
SORT_WORDS = {
    "newest": "newest first",
    "oldest": "oldest first",
    "promise": "promised soonest first",
    "changed": "last changed first",
}
Word = Annotated[str, Query(max_length=40)]


@dataclass(frozen=True)
class Filters:
    """What of the queue is shown. All text, as it stands in the address; what makes no sense counts as not given.

    `need` is one of the needs or `any`; `since` and `until` are calendar days of the reader. `after` and `before`
    are places between two orders, so that a page stays what it was while orders come in above it.
    """

    need: Word = ""
    status: Word = ""
    channel: Word = ""
    location: Word = ""
    since: Word = ""
    until: Word = ""
    q: Annotated[str, Query(max_length=200)] = ""
    sort: Word = ""
    after: Annotated[str, Query(max_length=200)] = ""
    before: Annotated[str, Query(max_length=200)] = ""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():  # no text of the database can hold a NUL
            object.__setattr__(self, name, value.replace("\x00", ""))

    @property
    def query(self) -> str:
        """As it stands in an address."""
        return urlencode({name: value for name, value in asdict(self).items() if value})

    @property
    def view(self) -> str:
        """The same without the place in it: what can be saved under a name."""
        return replace(self, after="", before="").query

    def but(self, **changes: str) -> str:
        """The address of the queue with other filters, at its top."""
        query = replace(self, **{"after": "", "before": "", **changes}).query
        return f"/?{query}" if query else "/"

    def at(self, **place: str) -> str:
        return "/?" + replace(self, **{"after": "", "before": "", **place}).query

    @property
    def order(self) -> tuple[str, str]:
        return SORTS.get(self.sort, SORTS["newest"])


@dataclass(frozen=True)
class Shown:
    """One page of the queue. `older` and `newer` are places; empty at the ends."""

    orders: list[Any]
    needs: dict[str, int]
    next: str = ""
    previous: str = ""


def names_of(keyring: Keyring, text: str) -> list[str]:
    """How what a person typed may stand in the table of names; an e-mail address only as the customer's id."""
    typed = text.replace("\x00", "").strip().lower()
    if "@" in typed:
        return [typed, keyring.customer_id("email", typed)]
    return [typed] if typed else []


def _where(this: Console, filters: Filters, zone: ZoneInfo, but_need: bool = False) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []

    def add(condition: str, *more: Any) -> None:
        for value in more:
            values.append(value)
            condition = condition.replace("?", f"${len(values)}", 1)
        conditions.append(condition)

    if filters.need and not but_need:
        conditions.append("attention <> '{}'")
        if filters.need != "any":
            add("? = ANY (attention)", filters.need)
    if filters.status:
        add("status = ?", filters.status)
    if filters.channel:
        add("channel = ?", filters.channel)
    if filters.location:
        add("? = ANY (locations)", filters.location)
    if since := _day(filters.since, zone):
        add("placed_at >= ?", since)
    if until := _day(filters.until, zone):
        add("placed_at < ?", until + timedelta(days=1))
    if names := names_of(this.keyring, filters.q):
        ranges = " OR ".join("value >= ? AND value < ?" for _ in names)
        add(
            f"key IN (SELECT order_id FROM names WHERE {ranges})",
            *(bound for name in names for bound in (name, name + HIGHEST)),
        )
    return conditions, values


def _day(text: str, zone: ZoneInfo) -> datetime | None:
    """Midnight of the reader's calendar day."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return datetime.combine(day, time(), zone) if 1900 <= day.year <= 9000 else None


def _place(text: str) -> tuple[str, str] | None:
    at, _, key = text.partition("_")
    try:
        if at != "infinity":
            found = datetime.fromisoformat(at)
            at = (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        return None
    return (at, key) if key else None


COLUMNS = """key, channel, external_id, what, status, attention, why, locations, placed_at, promised_by, changed_at,
             total_minor, currency, units"""


async def find(this: Console, filters: Filters, zone: ZoneInfo, limit: int = PAGE) -> Shown:
    """One page of the orders that the filters let through, and how many need a person for what."""
    column, direction = filters.order
    conditions, values = _where(this, filters, zone)
    back = _place(filters.before)
    place = back or _place(filters.after)
    if place is not None:
        forward = (direction == "ASC") != (back is not None)
        values += place
        sign = ">" if forward else "<"
        conditions.append(f"({column}, key) {sign} (${len(values) - 1}::text::timestamptz, ${len(values)})")
    if back is not None:
        direction = "DESC" if direction == "ASC" else "ASC"
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    values.append(limit + 1)
    async with this.pool.acquire() as connection:
        rows = await connection.fetch(
            f"""SELECT {COLUMNS}, ({column})::text AS at FROM orders {where}
                ORDER BY {column} {direction}, key {direction} LIMIT ${len(values)}""",
            *values,
        )
        needs = await _needs(connection, this, filters, zone)
    more, rows = len(rows) > limit, rows[:limit]
    if back is not None:
        rows = rows[::-1]
    first, last = (f"{row['at'].replace(' ', 'T')}_{row['key']}" for row in (rows[0], rows[-1])) if rows else ("", "")
    has_next = more if back is None else True
    has_previous = more if back is not None else bool(filters.after)
    return Shown(rows, needs, last if has_next and rows else "", first if has_previous and rows else "")


async def _needs(connection: Any, this: Console, filters: Filters, zone: ZoneInfo) -> dict[str, int]:
    conditions, values = _where(this, filters, zone, but_need=True)
    where = " AND ".join(["attention <> '{}'", *conditions])
    rows = await connection.fetch(
        f"""SELECT attention, count(*) AS orders FROM orders WHERE {where} GROUP BY attention""", *values
    )
    counts = {"any": sum(row["orders"] for row in rows)}
    for row in rows:
        for need in row["attention"]:
            counts[need] = counts.get(need, 0) + row["orders"]
    return counts


async def every(this: Console, filters: Filters, zone: ZoneInfo, most: int) -> list[Any]:
    """All orders that the filters let through, in their order, up to `most`."""
    column, direction = filters.order
    conditions, values = _where(this, filters, zone)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    return list(
        await this.pool.fetch(
            f"""SELECT {COLUMNS} FROM orders {where} ORDER BY {column} {direction}, key {direction}
                LIMIT ${len(values) + 1}""",
            *values,
            most,
        )
    )


async def choices(this: Console) -> dict[str, list[str]]:
    """What statuses and channels there are, found by skipping from one to the next in their indexes."""

    async def distinct(name: str) -> list[str]:
        rows = await this.pool.fetch(
            f"""WITH RECURSIVE found AS (
                    (SELECT {name} AS value FROM orders ORDER BY {name} LIMIT 1)
                    UNION ALL
                    SELECT (SELECT {name} FROM orders WHERE {name} > found.value ORDER BY {name} LIMIT 1)
                    FROM found WHERE found.value IS NOT NULL
                ) SELECT value FROM found WHERE value <> ''"""
        )
        return [row["value"] for row in rows]

    return {"statuses": await distinct("status"), "channels": await distinct("channel")}
