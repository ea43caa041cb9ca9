"""Reads one service's log, at rest, with SQL and SHA-256 alone, and says what is wrong. Shares no code with Ordermill.

    python read_log.py postgresql://role:password@host:port/database

Written from the description in libs/ordermill/eventlog/records.py: dense sequence numbers from 1; each stream's
versions contiguous from 1 and, by sequence number, in order; each event's hash over the one before it in its stream.
Prints one line a fault and, last, how many events it read; exit status 1 if there was a fault.
"""

import asyncio
import hashlib
import sys
from datetime import datetime, timezone

import asyncpg

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 (runs on Python 3.9 too)

SEQUENCED = """
SELECT s.seq, e.stream, e.version FROM sequenced s LEFT JOIN events e ON e.tx = s.tx AND e.position = s.position
ORDER BY s.seq
"""
STREAMS = """
SELECT stream, version, event_id, type, data, correlation_id, causation_id, actor, happened_at, recorded_at, hash
FROM events ORDER BY stream, version
"""


def micros(instant: datetime) -> int:
    passed = instant - EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def expected_hash(before: bytes, row: asyncpg.Record) -> bytes:
    stream, version, event_id, kind, data, correlation, causation, actor, happened, recorded, _ = row
    head = [stream, version, event_id, kind, correlation, causation, actor, micros(happened), micros(recorded)]
    return hashlib.sha256(before + "".join(f"{field}\n" for field in head).encode() + data).digest()


async def faults(dsn: str) -> tuple[list[str], int]:
    found: list[str] = []
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            heads: dict[str, int] = {}
            number = 0
            async for seq, stream, version in connection.cursor(SEQUENCED, prefetch=5_000):
                number += 1
                if seq != number:
                    found.append(f"sequence: expected number {number}, found {seq}")
                    number = seq
                if stream is None:
                    found.append(f"sequence: number {seq} is of no event")
                    continue
                if version != heads.get(stream, 0) + 1:
                    found.append(f"{stream}: version {version} is numbered after version {heads.get(stream, 0)}")
                heads[stream] = version
            before, last, read = ("", 0, bytes(32)), 0, 0
            async for row in connection.cursor(STREAMS, prefetch=5_000):
                read += 1
                if row["stream"] != before[0]:
                    before = (row["stream"], 0, bytes(32))
                stream, last, digest = before
                if row["version"] != last + 1:
                    found.append(f"{stream}: version {row['version']} follows version {last}")
                if row["hash"] != expected_hash(digest, row):
                    found.append(f"{stream}: the hash of version {row['version']} does not fit")
                before = (stream, row["version"], row["hash"])
                if row["version"] > heads.get(stream, 0):
                    found.append(f"{stream}: version {row['version']} has no number")
    finally:
        await connection.close()
    return found, read


if __name__ == "__main__":
    wrong, events = asyncio.run(faults(sys.argv[1]))
    print(*wrong, f"{events} events read, {len(wrong)} faults", sep="\n")
    sys.exit(1 if wrong else 0)
