"""Capture with its effects and nothing else, in a process of its own: `python -m tests.integration.effects_service`.

It works off refunds under the OMS_… settings until somebody kills it.
"""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode

import uvloop

from ordermill.clock import Clock, system_clock
from ordermill.eventlog.engine import Engine
from ordermill.eventlog.postgres import PostgresStore
from ordermill.eventlog.store import Store
from ordermill.installation import builder
from ordermill.service.metrics import Metrics
from ordermill.service.running import RunningService
from ordermill.service.settings import PlatformSettings

PLATFORM = PlatformSettings(
    kafka="127.0.0.1:1",
    api_token="the-token",
    keyring_url="postgresql://nobody@127.0.0.1:1/none",
    master_key=b64encode(bytes(32)).decode(),
    link_secret=b64encode(bytes(32)).decode(),
)


def running_service(name: str, store: Store, wall: Clock = system_clock) -> RunningService:
    """A real service over `store`, under the OMS_… settings, without Kafka and HTTP of its own."""
    service = builder(name)(PLATFORM, system_clock)
    return RunningService(service, Engine(store, service.rules(), system_clock), Metrics(), wall=wall)


async def _work() -> None:
    store = await PostgresStore.open(os.environ["EFFECTS_DATABASE"])
    await running_service("capture", store).effects_loop()


if __name__ == "__main__":
    uvloop.run(asyncio.wait_for(_work(), 300))
