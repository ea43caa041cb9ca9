"""Events put aside in parts, each small enough for memory: all that concerns one order is in one part.

They lie in a private SQLite database, on disk as far as its cache does not hold them, and gone with it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from typing import NamedTuple, Protocol
from zlib import crc32

from ordermill.errors import Transient

_CACHE_KIB = 32_768
_ORDER_ID = re.compile(rb'"order_id":"([^"\\]+)"')
_RETURN_ID = re.compile(rb'"return_id":"([^"\\]+)"')
_NAMED_AFTER_ORDERS = frozenset({"order", "reservation", "plan", "purchase"})


class NoRoom(Transient):
    """The temporary directory can't hold what an audit puts aside."""

    code = "audit.no-room"

    def __init__(self, error: sqlite3.Error) -> None:
        super().__init__(
            f"no room in the temporary directory ({error}). An audit puts aside about 0.5 GB for each million events: "
            "free some, or name a directory that has it in SQLITE_TMPDIR"
        )


class Event(Protocol):
    """What an event says of where it belongs."""

    @property
    def stream(self) -> str: ...
    @property
    def data(self) -> bytes: ...


class Filed(NamedTuple):
    """An event as its log has it."""

    service: str
    seq: int
    stream: str
    type: str
    data: bytes


class Parts:
    """`count` parts. Events that name no order (a carrier's scans) wait for another of their stream that does."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._db = sqlite3.connect("", isolation_level=None, cached_statements=4 * count + 16)
        columns = "key TEXT, service TEXT, seq INTEGER, stream TEXT, type TEXT, data BLOB"
        for pragma in (f"cache_size = -{_CACHE_KIB}", "journal_mode = OFF", "synchronous = OFF"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("BEGIN")
        for number in range(count):
            self._db.execute(f"CREATE TABLE waiting_{number} ({columns})")
            self._db.execute(f"CREATE TABLE part_{number} ({columns})")

    def close(self) -> None:
        self._db.close()

    def part_of(self, key: str) -> int:
        """The part in which all is that concerns this order; or this stream, where no event of it names an order."""
        return crc32(key.encode()) % self.count

    def file(self, event: Filed) -> None:
        """Put an event where its order is. Raises NoRoom."""
        category = event.stream.partition("-")[0]
        if category == "stock" and (found := _RETURN_ID.search(event.data)):
            self._put("waiting", f"return-{found[1].decode()}", event)
        elif category in {"shipment", "return"}:
            self._put("waiting", event.stream, event)
        else:
            self._put("part", order_of(event) or event.stream, event)

    def file_everywhere(self, event: Filed) -> None:
        """For what every order's decisions may rest on. Raises NoRoom."""
        for number in range(self.count):
            self._insert(f"part_{number}", event.stream, event)

    def read(self) -> Iterator[Iterator[Filed]]:
        """Part by part, the events of each log in their order; each part once. Raises NoRoom."""
        for number in range(self.count):
            self._take_home(number)
        for number in range(self.count):
            yield (event for _, event in self._rows(f"part_{number} ORDER BY service, seq"))
            self._db.execute(f"DROP TABLE part_{number}")

    def _take_home(self, number: int) -> None:
        homes: dict[str, str] = {}
        table = f"waiting_{number}"
        for key, event in self._rows(table):
            if order_id := order_of(event):
                homes.setdefault(key, order_id)
        for key, event in self._rows(table):
            self._put("part", homes.get(key, key), event)
        self._db.execute(f"DROP TABLE {table}")

    def _rows(self, table: str) -> Iterator[tuple[str, Filed]]:
        try:
            for key, *event in self._db.execute(f"SELECT * FROM {table}"):  # noqa: S608
                yield key, Filed(*event)
        except sqlite3.OperationalError as error:
            raise NoRoom(error) from error

    def _put(self, where: str, key: str, event: Filed) -> None:
        self._insert(f"{where}_{self.part_of(key)}", key, event)

    def _insert(self, table: str, key: str, event: Filed) -> None:
        try:
            self._db.execute(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?)", (key, *event))  # noqa: S608
        except sqlite3.OperationalError as error:
            raise NoRoom(error) from error


def order_of(event: Event) -> str | None:
    """The order that an event names; None if it names none."""
    category, _, key = event.stream.partition("-")
    if category in _NAMED_AFTER_ORDERS:
        return key
    found = _ORDER_ID.search(event.data)
    return found[1].decode() if found else None
