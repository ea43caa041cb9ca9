"""News for open pages: every instance listens to the database, each page hears of what it shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import asyncpg
import orjson
import structlog
from starlette.requests import Request
from starlette.responses import StreamingResponse

logger = structlog.get_logger(__name__)

CHANNEL = "console"
_LARGEST_NOTE = 7_500  # PostgreSQL takes notifications below 8,000 bytes
_PACE_S = 0.1
_HEARTBEAT_S = 15.0


def changed(keys: Iterable[str]) -> str:
    """A notification's text: `table:key` of all that changed, or only the tables where that is too much."""
    text = orjson.dumps(sorted(set(keys))).decode()
    if len(text) <= _LARGEST_NOTE:
        return text
    return orjson.dumps(sorted({key.partition(":")[0] for key in keys})).decode()


class Watcher:
    """One open page: `table:key` or whole tables that it shows."""

    def __init__(self, interests: Iterable[str]) -> None:
        self._interests = frozenset(interests)
        self._tables = frozenset(each.partition(":")[0] for each in self._interests)
        self._news = asyncio.Event()

    def hear(self, keys: list[str]) -> None:
        if any(
            key in self._interests or key.partition(":")[0] in self._interests or key in self._tables for key in keys
        ):
            self._news.set()

    def shows(self, interest: str) -> bool:
        return interest in self._interests

    async def news(self, timeout_s: float) -> bool:
        """Whether something it shows has changed since it was last asked."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), timeout_s)
        heard = self._news.is_set()
        self._news.clear()
        return heard


class Live:
    """Listens on a connection of its own, and comes back after the database was away."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._watchers: set[Watcher] = set()
        self.stopping = False

    @contextmanager
    def watch(self, *interests: str) -> Iterator[Watcher]:
        watcher = Watcher(interests)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    def stop(self) -> None:
        """Let all open streams end, so that the server can."""
        self.stopping = True
        self._tell_all()

    def _tell_all(self) -> None:
        for watcher in self._watchers:
            watcher._news.set()

    def _hear(self, _: object, __: int, ___: str, payload: object) -> None:
        self.tell(orjson.loads(str(payload)))

    def tell(self, keys: list[str]) -> None:
        """News of this process alone: what no table holds."""
        for watcher in self._watchers:
            watcher.hear(keys)

    def watched(self, interest: str) -> bool:
        """Whether an open page here shows this."""
        return any(watcher.shows(interest) for watcher in self._watchers)

    async def _listen_once(self) -> None:
        connection = await asyncpg.connect(self._dsn, server_settings={"application_name": "ordermill live"})
        try:
            ended = asyncio.Event()
            connection.add_termination_listener(lambda _: ended.set())
            await connection.add_listener(CHANNEL, self._hear)
            self._tell_all()  # something may have changed while nobody listened
            await ended.wait()
        finally:
            connection.terminate()

    async def listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except (OSError, asyncpg.exceptions.PostgresError, asyncpg.exceptions.InterfaceError) as error:
                logger.warning("listening starts over", error=repr(error))
            await asyncio.sleep(0.5)


def stream(
    request: Request, interests: Iterable[str], render: Callable[[], Awaitable[str]], live: Live
) -> StreamingResponse:
    """Server-sent events: `render`'s HTML whenever it is another than before, at most ten times a second.

    The page connects with `hx-ext="sse" sse-connect="…" sse-swap="page"`.
    """

    async def events() -> AsyncIterator[bytes]:
        with live.watch(*interests) as watcher:
            shown = ""
            while not live.stopping:
                html = await render()
                if html != shown:
                    shown = html
                    lines = "".join(f"data: {line}\n" for line in html.splitlines())
                    yield f"event: page\n{lines}\n".encode()
                await asyncio.sleep(_PACE_S)
                while not await watcher.news(_HEARTBEAT_S):
                    yield b": still here\n\n"

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})
