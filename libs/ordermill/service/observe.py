"""What operators see of a service at work: each HTTP request counted and traced, its backlog measured once a second."""

from __future__ import annotations

import hmac
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ordermill.tracing import start, tracing, within

from .consuming import Subscriptions
from .loops import forever
from .metrics import CommonMetrics
from .running import RunningService

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED = "unmatched"
"""The route of requests that fit none: what strangers ask for names no series."""


def route_of(scope: Scope) -> str:
    """What a request is told by: a path may hold a secret (a customer's link)."""
    return str(getattr(scope.get("route"), "path", UNMATCHED))


class ObserveRequests:
    """Counts and times each request by its route, and is the span that its work goes on in.

    Only a caller who shows the API token may say which trace it is a part of; others begin one.
    """

    def __init__(self, app: ASGIApp, metrics: CommonMetrics, api_token: str) -> None:
        self.app = app
        self._metrics = metrics
        self._bearer = f"Bearer {api_token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "other"
        status = 500
        began = perf_counter()
        about = {"http.request.method": method, "url.scheme": scope["scheme"]}
        span = start(method, "server", self._trace_of(scope) if tracing() else None, about)

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            with within([span]):
                await self.app(scope, receive, noting)
        finally:
            route = route_of(scope)
            self._metrics.requests.labels(method, route, str(status)).inc()
            self._metrics.request_seconds.labels(method, route).observe(perf_counter() - began)
            if span.recording:
                span.rename(f"{method} {route}")
                told: dict[str, str | int] = {"http.route": route, "http.response.status_code": status}
                span.end(told, str(status) if status >= 500 else None)

    def _trace_of(self, scope: Scope) -> str | None:
        headers = dict(scope["headers"])
        if not hmac.compare_digest(headers.get(b"authorization", b""), self._bearer):
            return None
        found: bytes = headers.get(b"traceparent", b"")
        return found.decode("latin-1")


async def keep_measuring(running: RunningService, subscriptions: Subscriptions, every_s: float = 1.0) -> None:
    """As long as the service is at work."""

    async def work() -> int:
        await measure(running, subscriptions)
        return 0

    await forever("measuring", work, every_s)


async def measure(running: RunningService, subscriptions: Subscriptions | None = None) -> None:
    """Set the gauges to how things are now. Raises LogUnavailable."""
    metrics, store = running.metrics, running.engine.store
    counts = await store.counts()
    metrics.timers.set(counts["timers"])
    metrics.effects.set(counts["effects"])
    metrics.head.set(counts["sequenced"])
    metrics.unsequenced.set(max(0, counts["events"] - counts["sequenced"]))
    if (relay := running.relay) is not None:
        metrics.leading.set(relay.status.leading)
        metrics.relay_failing.set(relay.status.failing)
        metrics.unpublished.set(relay.unpublished(counts["sequenced"]))
    backlog = await store.backlog(running.engine.clock())
    metrics.timers_overdue.set(backlog.timers_overdue)
    metrics.timers_overdue_seconds.set(backlog.timers_overdue_s)
    metrics.effects_failing.set(backlog.effects_failing)
    metrics.effects_oldest_seconds.set(backlog.effects_oldest_s)
    metrics.unpublished_states.set(backlog.unpublished_states)
    metrics.dead_letters.set(backlog.dead_letters)
    metrics.conflicts.set(running.engine.conflicts)
    if subscriptions is not None:
        await metrics.measure_lag(subscriptions, running.service.topics)
