"""News for open pages: every instance listens to the database, each page hears of what it shows."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from math import inf
from weakref import WeakSet

import asyncpg
import orjson
import structlog
from starlette.requests import Request
from starlette.responses import StreamingResponse

from ordermill.waiting import is_set

logger = structlog.get_logger(__name__)

CHANNEL = "console"
_LARGEST_NOTE = 7_500  # PostgreSQL takes notifications below 8,000 bytes
_MOST_NOTES = 20
_PACE_S = 0.1
_ALIKE_FOR_S = 1.0
_HEARTBEAT_S = 15.0
_FORM_ID = re.compile(r'name="form_id" value="[0-9a-f]*"')


def notes(keys: Iterable[str]) -> list[str]:
    """Notifications' texts: `table:key` of all that changed, or only the tables where that is too much."""
    found: list[list[str]] = [[]]
    room = _LARGEST_NOTE
    for key in sorted(set(keys)):
        size = len(orjson.dumps(key)) + 1
        if size > room:
            found.append([])
            room = _LARGEST_NOTE
        found[-1].append(key)
        room -= size
    if len(found) > _MOST_NOTES:
        found = [sorted({key.partition(":")[0] for key in keys})]
    return [orjson.dumps(each).decode() for each in found if each]


class Watcher:
    """One open page: `table:key` or whole tables that it shows."""

    def __init__(self, interests: Iterable[str]) -> None:
        self._interests = frozenset(interests)
        self._tables = frozenset(each.partition(":")[0] for each in self._interests)
        self._news = asyncio.Event()

    def hear(self, things: frozenset[str], tables: frozenset[str]) -> None:
        """`things`: `table:key` of what changed and its table; `tables`: of which anything may have changed."""
        if not (self._interests.isdisjoint(things) and self._tables.isdisjoint(tables)):
            self._news.set()

    def shows(self, interest: str) -> bool:
        return interest in self._interests

    async def news(self, timeout_s: float) -> bool:
        """Whether something it shows has changed since it was last asked."""
        heard = await is_set(self._news, timeout_s)
        self._news.clear()
        return heard


class Live:
    """Listens on a connection of its own, and comes back after the database was away."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._watchers: WeakSet[Watcher] = WeakSet()
        self._rendered: dict[Hashable, tuple[float, asyncio.Task[str]]] = {}
        """By what makes pages alike, since when their HTML is being made; none from before the last news."""
        self.stopping = False

    def begin(self, *interests: str) -> Watcher:
        """Until `end`, or until nobody has it any more: a stream may be given up before it was asked for anything."""
        watcher = Watcher(interests)
        self._watchers.add(watcher)
        return watcher

    def end(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)

    @contextmanager
    def watch(self, *interests: str) -> Iterator[Watcher]:
        watcher = self.begin(*interests)
        try:
            yield watcher
        finally:
            self.end(watcher)

    def stop(self) -> None:
        """Let all open streams end, so that the server can."""
        self.stopping = True
        self._tell_all()

    def _tell_all(self) -> None:
        self._rendered.clear()
        for watcher in self._watchers:
            watcher._news.set()

    def _hear(self, _: object, __: int, ___: str, payload: object) -> None:
        self.tell(orjson.loads(str(payload)))

    def tell(self, keys: list[str]) -> None:
        """News of this process alone: what no table holds."""
        self._rendered.clear()
        things = frozenset(keys) | {key.partition(":")[0] for key in keys}
        tables = frozenset(key for key in keys if ":" not in key)
        for watcher in self._watchers:
            watcher.hear(things, tables)

    async def rendered(self, alike: Hashable, render: Callable[[], Awaitable[str]]) -> str:
        """`render`'s HTML, or a like page's that is not older than a second and the last news."""
        now = asyncio.get_running_loop().time()
        began, made = self._rendered.get(alike, (-inf, None))
        if made is None or now - began > _ALIKE_FOR_S:
            made = asyncio.ensure_future(_run(render))
            self._rendered[alike] = (now, made)
        return await asyncio.shield(made)  # a reader who leaves does not take it from the others

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


async def _run(render: Callable[[], Awaitable[str]]) -> str:
    return await render()


async def stream(
    request: Request,
    interests: Iterable[str],
    render: Callable[[], Awaitable[str]],
    live: Live,
    alike: Hashable = None,
) -> StreamingResponse:
    """Server-sent events: `render`'s HTML whenever more than the ids of its forms has changed, at most ten times a
    second. Pages of the same `alike`, if not None, have the same HTML: it is made once for all of them.

    The page connects with `hx-ext="sse" sse-connect="…" sse-swap="page"`. Raises what the first `render` raises.
    """
    watcher = live.begin(*interests)
    now = asyncio.get_running_loop().time
    took = 0.0

    async def rendered() -> str:
        nonlocal took
        began = now()
        made = await (render() if alike is None else live.rendered(alike, render))
        took = now() - began
        return made

    html = await rendered()

    async def events() -> AsyncIterator[bytes]:
        nonlocal html
        shown = ""
        try:
            while not live.stopping:
                if (without_ids := _FORM_ID.sub("", html)) != shown:
                    shown = without_ids
                    lines = "".join(f"data: {line}\n" for line in html.splitlines())
                    yield f"event: page\n{lines}\n".encode()
                await asyncio.sleep(max(took, _PACE_S - took))  # a busy console rests as long as it works
                while not await watcher.news(_HEARTBEAT_S):
                    yield b": still here\n\n"
                html = await rendered()
        finally:
            live.end(watcher)

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})
