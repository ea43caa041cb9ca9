"""Run one service as a process: database, relay, Kafka, HTTP, timers, effects; stop gracefully on a signal."""

from __future__ import annotations

import asyncio
import gc
import signal
from base64 import b64decode
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

import structlog
import uvicorn
import uvloop

from ordermill.clock import Clock, scaled_clock, system_clock
from ordermill.contracts.base import decode
from ordermill.errors import OrdermillError, Transient
from ordermill.eventlog.checkpoints import Signer
from ordermill.eventlog.engine import Engine
from ordermill.eventlog.postgres import PostgresStore
from ordermill.eventlog.relay import Relay
from ordermill.eventlog.versions import remedy
from ordermill.names import SERVICES
from ordermill.tracing import endpoint_of, start_tracing, stop_tracing
from ordermill.waiting import is_set

from .checkpointing import keep_checkpoints
from .consuming import Subscriptions
from .declare import Follows, Service
from .following import follow
from .kafka import KafkaSettings, ensure_topics
from .logs import configure_logging
from .loops import Parts
from .messages import envelope_of
from .metrics import Metrics, our_version
from .observe import keep_measuring
from .publisher import KafkaPublisher
from .running import RunningService
from .settings import PlatformSettings, ServiceSettings, settings_of
from .surface import application
from .topics import all_topics, topics_made_by, topics_shared_by, topics_told_by

logger = structlog.get_logger(__name__)
T = TypeVar("T")
_LAST_WORDS_S = 5.0
"""What is called off may close its connections."""


def clock_of(settings: PlatformSettings) -> Clock:
    """The real clock, or the demo's scaled one."""
    if settings.clock_origin is None or settings.clock_started is None:
        return system_clock
    return scaled_clock(settings.clock_origin, settings.clock_started, settings.clock_speed)


def kafka_of(settings: PlatformSettings) -> KafkaSettings:
    return KafkaSettings(
        servers=settings.kafka,
        partitions=settings.partitions,
        replication=settings.replication,
        fetch_wait_ms=settings.fetch_wait_ms,
        batch_max=settings.batch_max,
        session_timeout_ms=settings.session_timeout_ms,
        static_membership=settings.static_membership,
        idempotent=settings.idempotent_producer,
    )


def run_service(build: Callable[[PlatformSettings, Clock], Service], name: str) -> None:
    """Run until SIGTERM or SIGINT; returns when all is finished and committed."""
    platform = PlatformSettings()
    configure_logging(name, platform.log_level)
    own = settings_of(name)
    service = build(platform, clock_of(platform))
    with traced(name, platform):
        uvloop.run(_serve(service, platform, own))


@contextmanager
def traced(name: str, platform: PlatformSettings) -> Iterator[None]:
    """Tracing as the settings say, for as long as this process works."""
    if endpoint_of(platform.otlp_endpoint):
        start_tracing(name, platform.member, our_version(), platform.otlp_endpoint, platform.trace_ratio)
    try:
        yield
    finally:
        stop_tracing()


async def _serve(service: Service, platform: PlatformSettings, own: ServiceSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    clock = clock_of(platform)
    kafka = kafka_of(platform)
    store = await until(stop, lambda: _opened(own.database_url.get_secret_value(), service))
    if store is None:
        return
    engine = Engine(store, service.rules(), clock)
    running = RunningService(service, engine, Metrics(service.name), platform.retries)
    publisher = KafkaPublisher(
        kafka,
        clock,
        topics=topics_made_by(service.name, SERVICES),
        own=topics_told_by(service.name),
        shared=topics_shared_by(service.name, SERVICES),
    )
    server = Server(
        uvicorn.Config(
            application(running, platform.api_token.get_secret_value()),
            host=own.host,
            port=own.port,
            lifespan="off",
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=5,
        )
    )
    parts = Parts(stop)
    try:
        await until(stop, lambda: ensure_topics(kafka, all_topics(SERVICES)))
        if stop.is_set():
            return
        await until(stop, publisher.start)
        running.relay = Relay(store, publisher, service.name, pace_s=service.pace_s)
        engine.on_commit.append(running.relay.wake)
        parts.start(running.relay.run())
        parts.start(server.serve())
        await _follow(service.follows, kafka, parts.start, stop)
        if service.startup is not None:
            await service.startup(running)
        paced = replace(kafka, pace_s=service.pace_s)
        subscriptions = Subscriptions(
            paced, service.name, platform.member, service.topics, platform.workers, running.handle
        )
        await until(stop, subscriptions.start)
        parts.start(subscriptions.watch(running.note_consuming))
        spare_the_collector()
        logger.info("consuming", topics=service.topics)
        if service.timers:
            parts.start(running.timers_loop())
        parts.start(keep_measuring(running, subscriptions))
        if service.effects:
            parts.start(running.effects_loop())
        if platform.checkpoint_key is not None:
            signer = Signer(b64decode(platform.checkpoint_key.get_secret_value()))
            parts.start(keep_checkpoints(running, signer, platform.checkpoint_every_s))
        for work in service.background:
            parts.start(work(running))
        await stop.wait()
        logger.info("stopping")
        running.consuming = False
        server.should_exit = True
        await subscriptions.stop()
        await running.effects.stop()
        await running.relay.drain()
    finally:
        await parts.end()
        await _close(publisher, service, store)
    parts.check()


async def _opened(dsn: str, service: Service) -> PostgresStore:
    """The log, to be written to from now on. Raises LogUnavailable."""
    store = await PostgresStore.open(dsn)
    try:
        outdated = await store.begin_writing(service.rules().views)
    except BaseException:
        await store.close()
        raise
    for view in outdated:
        logger.warning("a view may hold documents of another release", view=view, remedy=remedy(service.name, [view]))
    return store


async def _close(publisher: KafkaPublisher, service: Service, store: PostgresStore) -> None:
    with suppress(Exception):
        await publisher.stop()
    if service.outbound is not None:
        await service.outbound.close()
    await store.close()
    logger.info("stopped")


def spare_the_collector() -> None:
    """States are trees of many small immutable objects: the collector finds nothing in them, and walks long."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def until(stop: asyncio.Event, work: Callable[[], Awaitable[T]]) -> T | None:
    """Try `work` until it works: at start the database or the broker may not be there yet. None once a signal came."""
    pause = 0.1
    while not stop.is_set():
        try:
            return await unless(stop, work())
        except Transient as error:
            logger.warning("waits", error=str(error))
            await is_set(stop, pause)
            pause = min(pause * 2, 2.0)
    return None


async def unless(stop: asyncio.Event, work: Awaitable[T]) -> T | None:
    """What comes of `work`; None if a signal comes first, which calls it off: who asks a broker that says nothing would
    wait for all of its time-out.
    """
    working, stopping = asyncio.ensure_future(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.wait((working, stopping), timeout=_LAST_WORDS_S)


async def _follow(
    follows: tuple[Follows, ...], kafka: KafkaSettings, start: Callable[[Any], object], stop: asyncio.Event
) -> None:
    if not follows:
        return
    caught_up = asyncio.Event()
    by_type = {followed.message: followed.absorb for followed in follows}

    def absorb(record: Any) -> None:
        try:
            message = decode(envelope_of(record.headers).type, record.value or b"")
        except OrdermillError as error:
            logger.warning("not absorbed", topic=record.topic, offset=record.offset, error=str(error))
            return
        if type(message) in by_type:
            by_type[type(message)](message)

    start(follow(kafka, sorted({followed.message.topic for followed in follows}), absorb, caught_up))
    with suppress(TimeoutError):
        await asyncio.wait_for(unless(stop, caught_up.wait()), 30)


class Server(uvicorn.Server):
    """Uvicorn that leaves signals to us."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
