"""What a simulated provider remembers: its answers by key, and every time it moved money or sold a label."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel

from ordermill.contracts.fields import Money

from .errors import KeyReused

_TABLES = """
CREATE TABLE IF NOT EXISTS asks (
    provider TEXT, key TEXT, count INTEGER NOT NULL, PRIMARY KEY (provider, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (
    provider TEXT, key TEXT, content TEXT NOT NULL, answer BLOB NOT NULL, PRIMARY KEY (provider, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS acts (
    act INTEGER PRIMARY KEY, provider TEXT NOT NULL, key TEXT NOT NULL, minor INTEGER NOT NULL, currency TEXT NOT NULL,
    reference TEXT NOT NULL
);
"""


class Act(BaseModel):
    """What was done: money moved, or a label sold at that cost."""

    amount: Money
    reference: str


class Entry(BaseModel):
    """One key: how often it was asked, how often something was done under it, and what. Once is right."""

    provider: str
    key: str
    asked: int
    acted: int
    amount: Money | None = None
    reference: str | None = None


class Ledger:
    """In one SQLite file, so that a provider that was killed answers as before; or in memory without one."""

    def __init__(self, path: Path | None = None) -> None:
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None)
        self._db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;" + _TABLES)

    def ask(self, provider: str, key: str) -> int:
        """Count one more question under `key`; how many there were."""
        (count,) = self._db.execute(
            """INSERT INTO asks VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count""",
            (provider, key),
        ).fetchone()
        return int(count)

    def once(self, provider: str, key: str, content: str, act: Callable[[], tuple[bytes, Act]]) -> bytes:
        """The answer under `key`: the one of the first time, or what `act` says and does now.

        What `act` refuses is not remembered: nothing was done, and asked again it is decided anew. Raises KeyReused.
        """
        known = self._db.execute(
            "SELECT content, answer FROM answers WHERE provider = ? AND key = ?", (provider, key)
        ).fetchone()
        if known is not None:
            if known[0] != content:
                raise KeyReused(key)
            return bytes(known[1])
        answer, done = act()
        self._db.execute("BEGIN")
        self._db.execute("INSERT INTO answers VALUES (?, ?, ?, ?)", (provider, key, content, answer))
        self._db.execute(
            "INSERT INTO acts (provider, key, minor, currency, reference) VALUES (?, ?, ?, ?, ?)",
            (provider, key, done.amount.minor, done.amount.currency, done.reference),
        )
        self._db.execute("COMMIT")
        return answer

    def earlier(self, provider: str, key: str) -> tuple[str, bytes] | None:
        """Key and answer of another question."""
        found = self._db.execute(
            "SELECT key, answer FROM answers WHERE provider = ? AND key <> ? LIMIT 1", (provider, key)
        ).fetchone()
        return None if found is None else (found[0], bytes(found[1]))

    def entries(self) -> list[Entry]:
        rows = self._db.execute(
            """SELECT provider, key, count, acted, minor, currency, reference FROM asks
               LEFT JOIN (SELECT provider, key, count(*) AS acted, min(minor) AS minor, min(currency) AS currency,
                                 min(reference) AS reference FROM acts GROUP BY provider, key) USING (provider, key)
               ORDER BY provider, key"""
        )
        return [
            Entry(
                provider=provider,
                key=key,
                asked=count,
                acted=acted or 0,
                amount=Money(minor=minor, currency=currency) if acted else None,
                reference=reference,
            )
            for provider, key, count, acted, minor, currency, reference in rows
        ]
