"""`python -m ordermill.schemas.examples`: keep a real message of each type, from a broker that a demo has filled.

Personal data in them is what the demo made up, or sealed under keys that went with the demo.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from aiokafka import AIOKafkaConsumer

from ordermill.contracts.base import decode
from ordermill.errors import OrdermillError
from ordermill.installation import adopt_environment
from ordermill.names import SERVICES
from ordermill.service.kafka import ensure_topics
from ordermill.service.messages import envelope_of
from ordermill.service.run import kafka_of
from ordermill.service.settings import PlatformSettings
from ordermill.service.topics import all_topics

from .files import FOLDER
from .messages import all_types

Json = dict[str, Any]
READABLE_BYTES = 4_000


def main(
    folder: Annotated[Path, typer.Option(help="Where the schemas stand.")] = FOLDER,
    renew: Annotated[bool, typer.Option("--renew", help="Also where there is one already.")] = False,
) -> None:
    """Read all topics of this machine's installation, as `oms demo` left them, and keep what shows most of each type.

    Exit status: 0 done; types that nobody sent are named.
    """
    adopt_environment()
    target = folder / "examples"
    target.mkdir(parents=True, exist_ok=True)
    missing = [each.type for each in all_types() if renew or not (target / f"{each.type}.json").exists()]
    best = asyncio.run(_best(PlatformSettings(), set(missing)))
    for name, message in sorted(best.items()):
        (target / f"{name}.json").write_text(json.dumps(message, indent=2, ensure_ascii=False) + "\n")
        print(target / f"{name}.json")
    unseen = [name for name in missing if name not in best]
    print(f"{len(best)} kept; nobody sent: {', '.join(unseen) or 'none'}", file=sys.stderr)


async def _best(platform: PlatformSettings, wanted: set[str]) -> dict[str, Json]:
    best: dict[str, Json] = {}
    async for name, message in messages(platform):
        if name in wanted and (name not in best or worth(message) > worth(best[name])):
            best[name] = message
    return best


async def messages(platform: PlatformSettings) -> AsyncIterator[tuple[str, Json]]:
    """Every sound message on every topic, until no more come: its type; topic, key, headers, data."""
    kafka = kafka_of(platform)
    topics = all_topics(SERVICES)
    await ensure_topics(kafka, topics)
    consumer = AIOKafkaConsumer(*topics, bootstrap_servers=kafka.servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        while polled := await consumer.getmany(timeout_ms=2_000, max_records=2_000):
            for records in polled.values():
                for record in records:
                    with suppress(OrdermillError):
                        name = envelope_of(record.headers).type
                        decode(name, value := record.value or b"")
                        yield (
                            name,
                            {
                                "topic": record.topic,
                                "key": record.key.decode() if record.key else None,
                                "headers": {header: told.decode() for header, told in record.headers},
                                "data": json.loads(value),
                            },
                        )
    finally:
        await consumer.stop()


def worth(message: Json) -> tuple[bool, int, int]:
    """How well a message shows its type: short enough to be read, then with most fields filled, then the shortest."""
    size = len(json.dumps(message["data"]))
    return (size <= READABLE_BYTES, len(set(_filled(message["data"], ""))), -size)


def _filled(value: Any, path: str) -> list[str]:
    if isinstance(value, dict):
        return [found for name, each in value.items() for found in _filled(each, f"{path}.{name}")]
    if isinstance(value, list):
        return [found for each in value for found in _filled(each, f"{path}[]")]
    return [] if value in (None, "", False) else [path]


if __name__ == "__main__":
    typer.run(main)
