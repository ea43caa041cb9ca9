"""Run the console as a process: topics into tables, pages over them; stop gracefully on a signal."""

from __future__ import annotations

import asyncio
import os
import signal
from base64 import b64decode
from dataclasses import replace

import asyncpg
import httpx
import structlog
import uvicorn
import uvloop

from ordermill.errors import OrdermillError
from ordermill.eventlog.postgres import PLANNED_ONCE, keep_as_it_is, translated
from ordermill.keyring import Keyring, PostgresKeyStore
from ordermill.names import CONSOLE, SERVICES, url_of
from ordermill.network import read_network
from ordermill.service.consuming import Subscriptions
from ordermill.service.kafka import ensure_topics
from ordermill.service.logs import configure_logging
from ordermill.service.loops import Parts
from ordermill.service.run import Server, clock_of, kafka_of, spare_the_collector, traced, until
from ordermill.service.settings import PlatformSettings, ServiceSettings, settings_of
from ordermill.service.topics import all_topics, policy_of
from ordermill.waiting import is_set

from .app import application
from .conservation import Conservation
from .doors import Doors
from .live import Live
from .metrics import ConsoleMetrics
from .pages import Console
from .pictures import PICTURES
from .projecting import Projecting, generation
from .settings import ConsoleSettings
from .told import EFFECT_TOPICS
from .watch import Watch

logger = structlog.get_logger(__name__)

LARGEST_POLL = 3_000
"""It hears what six services tell together: larger polls cost less each, and come less far behind."""
PACE_S = 0.05
SHORTER_THAN_UVICORN = httpx.Limits(keepalive_expiry=2.0)
"""A service closes what was idle for five seconds; a request on that very connection would be lost."""


def run() -> None:
    """Run until SIGTERM or SIGINT."""
    platform = PlatformSettings()
    configure_logging(CONSOLE, platform.log_level)
    settings, own = ConsoleSettings(), settings_of(CONSOLE)
    with traced(CONSOLE, platform):
        uvloop.run(_serve(platform, settings, own))


async def _serve(platform: PlatformSettings, settings: ConsoleSettings, own: ServiceSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    dsn = own.database_url.get_secret_value()
    pools = await until(stop, lambda: _connect(dsn))
    if pools is None:
        return
    pool, writing = pools
    clock = clock_of(platform)
    projecting = Projecting(writing, PICTURES, clock)
    metrics = ConsoleMetrics(projecting)
    live = Live(dsn)
    headers = {"Authorization": f"Bearer {platform.api_token.get_secret_value()}"}
    async with httpx.AsyncClient(headers=headers, timeout=20, trust_env=False, limits=SHORTER_THAN_UVICORN) as http:
        urls = _urls()
        watch = Watch(http, urls, projecting, live)
        doors = Doors(http, urls)
        conservation = Conservation(pool, doors, clock, live)
        console = Console(
            settings=settings,
            platform=platform,
            clock=clock,
            pool=pool,
            live=live,
            doors=doors,
            keyring=Keyring(
                PostgresKeyStore(platform.keyring_url.get_secret_value()),
                b64decode(platform.master_key.get_secret_value()),
            ),
            network=read_network(platform.network_text()),
            watch=watch,
            conservation=conservation,
        )
        app = application(settings, platform.api_token.get_secret_value(), metrics, metrics.is_ready)
        app.state.console = console
        server = Server(
            uvicorn.Config(
                app,
                host=own.host,
                port=own.port,
                lifespan="off",
                access_log=False,
                log_config=None,
                timeout_graceful_shutdown=5,
            )
        )
        spare_the_collector()
        parts = Parts(stop)
        serving = parts.start(server.serve())
        for work in (live.listen(), watch.run(), conservation.run()):
            parts.start(work)
        try:
            await _consume(stop, platform, projecting, metrics, parts)
        finally:
            live.stop()
            server.should_exit = True
            await asyncio.wait([serving], timeout=6)
            await parts.end()
            await pool.close()
            await writing.close()
            logger.info("stopped")
    parts.check()


def _urls() -> dict[str, str]:
    found = {service: url_of(service, os.environ) for service in SERVICES}
    for service, url in found.items():
        if url is None:
            raise SettingMissing(service)
    return {service: url for service, url in found.items() if url is not None}


class SettingMissing(OrdermillError):
    """The console can't act for people without the services' addresses."""

    code = "console.setting-missing"

    def __init__(self, service: str) -> None:
        name = f"OMS_{service.upper()}"
        super().__init__(
            f"{name}_URL is not set: expected the address of {service}'s HTTP, http://host:port; "
            f"or {name}_PORT where it runs on this machine"
        )


async def _consume(
    stop: asyncio.Event, platform: PlatformSettings, projecting: Projecting, metrics: ConsoleMetrics, parts: Parts
) -> None:
    kafka = kafka_of(platform)
    await until(stop, lambda: ensure_topics(kafka, all_topics(SERVICES)))
    if stop.is_set():
        return
    group = f"{CONSOLE}-{await generation(projecting.pool)}"
    topics = _topics()
    polls = replace(kafka, batch_max=LARGEST_POLL, pace_s=PACE_S)
    subscriptions = Subscriptions(polls, group, platform.member, topics, 1, projecting.handle)
    await until(stop, subscriptions.start)
    parts.start(subscriptions.watch(projecting.progress.note_consuming))
    logger.info("consuming", topics=topics)
    while not stop.is_set():
        await metrics.measure_lag(subscriptions, topics)
        await is_set(stop, 1)
    logger.info("stopping")
    projecting.progress.consuming = False
    await subscriptions.stop()


def _topics() -> list[str]:
    """Those of all facts, and of such states as pictures are made of."""
    drawn = {message.topic for picture in PICTURES for message in picture.messages}
    every = set(all_topics(SERVICES)) - EFFECT_TOPICS
    return sorted(topic for topic in every if topic in drawn or not policy_of(topic).compacted)


async def _connect(dsn: str) -> tuple[asyncpg.Pool, asyncpg.Pool]:
    """For pages, whose lists are planned by what they ask for; and for what is told."""
    session = {"jit": "off", "TimeZone": "UTC", "application_name": "ordermill console"}
    with translated():
        pages = await asyncpg.create_pool(
            dsn, min_size=1, max_size=8, command_timeout=30, reset=keep_as_it_is, server_settings=session
        )
        told = await asyncpg.create_pool(
            dsn, min_size=0, max_size=2, command_timeout=30, reset=keep_as_it_is, server_settings=session | PLANNED_ONCE
        )
        return pages, told
