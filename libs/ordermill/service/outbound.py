"""The one way out: how this product talks HTTP to those who act for it, carriers and payment providers.

Each call carries an idempotency key, so asking again is safe, and each is bounded: in time, in the size of its answer,
in how many go out side by side. A provider that fails again and again is left alone for a while (circuit.py); none is
looked for in a private network (guard.py). Redirects are not followed, no proxy is taken from the environment,
certificates are checked, and keys are sent as bearer tokens and never logged.

    outbound = Outbound(OutboundSettings())
    cedar = outbound.provider("cedar", "https://api.cedar.example/v2", SecretStr("…"))
    sold = await cedar.post("/labels", {"weight_g": 700}, idempotency_key="F1.1")
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import httpcore
import httpx
import orjson
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from ordermill.errors import Refused, Transient

from .circuit import Circuit, Pass
from .guard import AddressNotAllowed, GuardedBackend

logger = structlog.get_logger(__name__)

_SHORT_WISH_S = 1.0
"""A provider that wants to be left alone for longer is asked again by the next try of the effect, not by this one."""
_ALIVE = frozenset({409, 425, 429})
"""Statuses by which a provider that works says "not now"."""
_KEY_REFUSED = frozenset({401, 403})


class OutboundSettings(BaseSettings):
    """How services call providers, from `OMS_OUTBOUND_…`."""

    model_config = SettingsConfigDict(env_prefix="OMS_OUTBOUND_", frozen=True, extra="ignore")

    connect_s: float = Field(3.0, gt=0, le=30, description="Longest wait for a connection.")
    read_s: float = Field(8.0, gt=0, le=30, description="Longest silence while an answer is read.")
    total_s: float = Field(10.0, gt=0, le=30, description="Longest call, its tries and pauses and waiting included.")
    tries: int = Field(3, ge=1, le=5, description="Tries in one call, where it failed fast.")
    calls: int = Field(32, ge=1, le=1_000, description="Calls to one provider side by side.")
    answer_max_bytes: int = Field(1_000_000, ge=1_000, le=50_000_000, description="Largest answer that is read.")
    circuit_failures: int = Field(5, ge=1, le=100, description="Failures in a row that open a provider's circuit.")
    circuit_pause_s: float = Field(10.0, gt=0, le=600, description="How long an open circuit lets nothing through.")
    allow_private: bool = Field(
        False, description="Whether providers may be on private addresses and without TLS: for simulators."
    )


class ProviderUnavailable(Transient):
    """No answer that says whether it acted: ask again under the same key."""

    code = "outbound.unavailable"

    def __init__(self, provider: str, reason: str, retry_after_s: float | None = None, counts: bool = True) -> None:
        self.provider, self.reason, self.retry_after_s, self.counts = provider, reason, retry_after_s, counts
        super().__init__(f"{provider}: {reason}")


class ProviderRefused(Refused):
    """The provider will never do it, however often it is asked."""

    code = "outbound.refused"

    def __init__(self, provider: str, reason: str) -> None:
        self.provider, self.reason = provider, reason
        super().__init__(f"{provider}: {reason}")


class ProviderInsecure(Refused):
    """A provider's URL would send its key in the clear."""

    code = "outbound.insecure"

    def __init__(self, provider: str, url: str) -> None:
        super().__init__(
            f"{provider}: expected an https:// URL, found {url}. For a simulator on this machine set "
            "OMS_OUTBOUND_ALLOW_PRIVATE=true; for a real provider never."
        )


def _provider_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected https://host[:port][/path]")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("expected a URL without user, password, query and fragment; keys have a setting of their own")
    return text.rstrip("/")


ProviderUrl = Annotated[str, AfterValidator(_provider_url)]


class _Failure(Exception):
    """One try that brought no usable answer. `again`: it failed fast, so another fits into the call. `alive`: the
    provider works, and said "not now".
    """

    def __init__(
        self, reason: str, again: bool = False, alive: bool = False, retry_after_s: float | None = None
    ) -> None:
        self.reason, self.again, self.alive, self.retry_after_s = reason, again, alive, retry_after_s
        super().__init__(reason)


class Outbound:
    """A service's way to its providers, and what it counts."""

    def __init__(self, settings: OutboundSettings) -> None:
        self.settings = settings
        self._network = GuardedBackend(settings.allow_private)
        self._lines: list[httpcore.AsyncConnectionPool] = []
        self.calls = Counter(
            "oms_outbound_calls", "Calls to providers, by what came of them.", ["provider", "result"], registry=None
        )
        self.seconds = Histogram(
            "oms_outbound_seconds", "How long calls to providers take.", ["provider"], registry=None,
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
        )  # fmt: skip
        self.circuits = Gauge(
            "oms_outbound_circuit", "A provider's circuit: 0 closed, 1 half-open, 2 open.", ["provider"], registry=None
        )

    def register(self, registry: CollectorRegistry) -> None:
        """Show its metrics there too."""
        for metric in (self.calls, self.seconds, self.circuits):
            registry.register(metric)

    def provider(self, name: str, url: str, key: SecretStr | None) -> Provider:
        """Raises ProviderInsecure."""
        settings = self.settings
        if urlsplit(url).scheme != "https" and not settings.allow_private:
            raise ProviderInsecure(name, url)
        return Provider(name, url, key, self)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Reading the authorities takes a tenth of a second, which only those pay who need it."""
        return httpx.create_ssl_context()

    def line(self, url: str) -> httpcore.AsyncConnectionPool:
        """A connection of its own, made when it is first used.

        One pool for all would do, but looks at each of its connections for each request: 32 of them took 3 ms of CPU
        a call, a line takes a third of that.
        """
        tls = self._tls if urlsplit(url).scheme == "https" else None
        line = httpcore.AsyncConnectionPool(
            ssl_context=tls, max_connections=1, keepalive_expiry=15.0, network_backend=self._network
        )
        self._lines.append(line)
        return line

    async def drop(self, line: httpcore.AsyncConnectionPool) -> None:
        """It is not used again."""
        self._lines.remove(line)
        with suppress(Exception):  # nobody waits for its farewell
            await line.aclose()

    async def close(self) -> None:
        for line in self._lines:
            await line.aclose()


class Provider:
    """One of those who act for us."""

    def __init__(self, name: str, url: str, key: SecretStr | None, outbound: Outbound) -> None:
        self.name = name
        self._url = url.rstrip("/")
        self._key = key
        self._outbound = outbound
        self._settings = settings = outbound.settings
        self._free: list[httpcore.AsyncConnectionPool] = []
        self._room = asyncio.Semaphore(settings.calls)
        self._circuit = circuit = Circuit(settings.circuit_failures, settings.circuit_pause_s)
        outbound.circuits.labels(name).set_function(lambda: circuit.state)
        self._retrying = AsyncRetrying(
            stop=stop_after_attempt(settings.tries),
            wait=wait_random_exponential(multiplier=0.1, max=1.0),
            retry=retry_if_exception(lambda error: isinstance(error, _Failure) and error.again),
            reraise=True,
        )

    async def post(self, path: str, body: Any, idempotency_key: str) -> dict[str, Any]:
        """The JSON object that the provider answers with, whichever time it is asked under this key.

        `path` starts with a slash, `body` is what JSON can hold. The answer must name the key it is for, in a header
        `Idempotency-Key`, so that an answer delivered late or twice is never taken for another's. Raises
        ProviderRefused if the provider says no for good, ProviderUnavailable if nobody knows what it did.
        """
        began = time.monotonic()
        result = "stopped"
        try:
            answer = await self._call(path, orjson.dumps(body), quote(idempotency_key, safe=":"))
            result = "done"
            return answer
        except ProviderRefused:
            result = "refused"
            raise
        except ProviderUnavailable as error:
            result = "failed" if error.counts else "held back"
            raise
        finally:
            self._outbound.calls.labels(self.name, result).inc()
            if result != "held back":
                self._outbound.seconds.labels(self.name).observe(time.monotonic() - began)

    async def _call(self, path: str, content: bytes, key: str) -> dict[str, Any]:
        going: Pass | None = None
        try:
            async with asyncio.timeout(self._settings.total_s), self._room:
                async for attempt in self._retrying.copy():
                    with attempt:
                        going = self._let_through(again=going is not None)
                        return await self._try(going, path, content, key)
        except _Failure as failure:
            raise ProviderUnavailable(self.name, failure.reason, failure.retry_after_s) from None
        except TimeoutError:
            if going is not None:
                going.failed()
            reason = f"no answer within {self._settings.total_s:g} s"
            raise ProviderUnavailable(self.name, reason, counts=going is not None) from None
        except asyncio.CancelledError:
            if going is not None:
                going.left()
            raise
        raise AssertionError("a call ends with an answer or an error")

    def _let_through(self, again: bool) -> Pass:
        found = self._circuit.enter()
        if isinstance(found, Pass):
            return found
        reason = f"failed {self._settings.circuit_failures} times in a row; left alone for {found:.1f} s"
        raise ProviderUnavailable(self.name, reason, found, counts=again)

    async def _try(self, going: Pass, path: str, content: bytes, key: str) -> dict[str, Any]:
        """One request, one answer; the circuit learns what it says about the provider."""
        try:
            answer = await self._exchange(path, content, key)
        except ProviderRefused:
            going.succeeded()
            raise
        except _Failure as failure:
            if failure.alive:
                going.succeeded()
            else:
                going.failed()
            raise
        except Exception:
            going.failed()
            raise
        going.succeeded()
        return answer

    async def _exchange(self, path: str, content: bytes, key: str) -> dict[str, Any]:
        settings = self._settings
        headers = [("Content-Type", "application/json"), ("Accept", "application/json"), ("Idempotency-Key", key)]
        if self._key is not None:
            headers.append(("Authorization", f"Bearer {self._key.get_secret_value()}"))
        timeouts = {"connect": settings.connect_s, "read": settings.read_s, "write": settings.read_s, "pool": None}
        line = self._free.pop() if self._free else self._outbound.line(self._url)
        sound = False
        try:
            async with line.stream(
                "POST", self._url + path, headers=headers, content=content, extensions={"timeout": timeouts}
            ) as response:
                try:
                    answer = await self._read(response, key)
                except ProviderRefused:
                    sound = True
                    raise
            sound = True
            return answer
        except AddressNotAllowed as error:
            raise _Failure(f"not asked: {error}; see OMS_OUTBOUND_ALLOW_PRIVATE") from None
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            raise _Failure(f"no connection ({_kind(error)})", again=True) from None
        except httpcore.TimeoutException:
            raise _Failure(f"no answer within {settings.read_s:g} s") from None
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise _Failure(f"the connection broke before the answer was whole ({_kind(error)})", again=True) from None
        finally:
            if sound:
                self._free.append(line)
            else:  # given up at some moment, or whatever else is on it: it is not trusted with another answer
                await self._outbound.drop(line)

    async def _read(self, response: httpcore.Response, key: str) -> dict[str, Any]:
        headers = {name.lower(): value for name, value in response.headers}
        body = await self._body(response, headers)
        status = response.status
        if status in _KEY_REFUSED:
            raise _Failure(f"refuses our key (HTTP {status})")
        if 300 <= status < 400:
            raise _Failure(f"sends us elsewhere (HTTP {status}); redirects are not followed")
        if status in _ALIVE or status == 408 or status >= 500:
            wish = _retry_after(headers)
            again = status != 409 and (wish is None or wish <= _SHORT_WISH_S)
            raise _Failure(f"can't do it now (HTTP {status})", again, status in _ALIVE, wish)
        answered = headers.get(b"idempotency-key")
        if answered != key.encode():
            raise _Failure("gave an answer that is not to this question: its Idempotency-Key is missing or another")
        answer = _object(body)
        if 400 <= status < 500:
            raise ProviderRefused(self.name, _reason(answer, status))
        if answer is None or not 200 <= status < 300:
            raise _Failure(f"gave an answer that can't be read (HTTP {status})")
        return answer

    async def _body(self, response: httpcore.Response, headers: Mapping[bytes, bytes]) -> bytes:
        limit = self._settings.answer_max_bytes
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise _Failure("gave an answer that is compressed, which nobody asked for")
        body = bytearray()
        async for part in response.aiter_stream():
            body += part
            if len(body) > limit:
                raise _Failure(f"gave an answer of more than {limit} bytes")
        return bytes(body)


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _reason(answer: dict[str, Any] | None, status: int) -> str:
    """Why the provider says no: `detail` or `title` of problem details (RFC 9457), made harmless to print."""
    for name in ("detail", "title"):
        words = (answer or {}).get(name)
        if isinstance(words, str) and (shown := "".join(c if c.isprintable() else " " for c in words).strip()):
            return shown[:300]
    return f"refused, without a reason (HTTP {status})"


def _retry_after(headers: Mapping[bytes, bytes]) -> float | None:
    """Seconds, from a number of them or a date (RFC 9110, section 10.2.3); None if it is neither."""
    text = headers.get(b"retry-after", b"").decode("latin-1").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _kind(error: Exception) -> str:
    return type(error).__name__
