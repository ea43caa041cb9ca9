"""What a person does in the console is asked of the service that decides it, in that person's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from ordermill.errors import NotFound, Refused, Transient
from ordermill.tracing import current

from .security import Session


class TurnedDown(Refused):
    """The service says no; its own code and words."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code  # type: ignore[misc]
        super().__init__(detail)


class NotThere(NotFound):
    """The service has no record of what was asked for."""

    code = "console.not-there"


class NoAnswer(Transient):
    """A service can't be reached; nothing is known to have changed."""

    code = "console.no-answer"

    def __init__(self, service: str) -> None:
        super().__init__(f"{service} does not answer just now. Nothing was lost: try again, the same form counts once")


@dataclass(frozen=True)
class Doors:
    """The services' HTTP, under the installation's token."""

    http: httpx.AsyncClient
    urls: Mapping[str, str]

    async def get(self, service: str, path: str, **query: Any) -> Any:
        """JSON, or bytes of a document. Raises NotThere, TurnedDown, NoAnswer."""
        return self._read(service, await self._ask("GET", service, path, "console", params=query))

    async def post(self, service: str, path: str, body: Any, me: Session, key: str | None = None) -> Any:
        """`key`: the same twice is done once. Raises NotThere, TurnedDown, NoAnswer."""
        more = {"Idempotency-Key": key} if key else {}
        return self._read(service, await self._ask("POST", service, path, me.name, json=body, headers=more))

    async def post_for_customer(self, service: str, path: str, body: Any) -> Any:
        """What a customer asks for behind their link. Raises NotThere, TurnedDown, NoAnswer."""
        headers = {"X-Actor-Kind": "customer"}
        return self._read(service, await self._ask("POST", service, path, "customer", json=body, headers=headers))

    async def file(self, service: str, path: str) -> tuple[bytes, str]:
        """A document and its media type. Raises NotThere, TurnedDown, NoAnswer."""
        answer = await self._ask("GET", service, path, "console")
        if answer.status_code >= 400:
            self._read(service, answer)
        return answer.content, answer.headers.get("content-type", "application/octet-stream")

    async def _ask(self, method: str, service: str, path: str, actor: str, **more: Any) -> httpx.Response:
        headers = {"X-Actor": actor, **more.pop("headers", {})}
        if trace := current():
            headers["traceparent"] = trace
        try:
            return await self.http.request(method, self.urls[service] + path, headers=headers, **more)
        except httpx.HTTPError as error:
            raise NoAnswer(service) from error

    def _read(self, service: str, answer: httpx.Response) -> Any:
        if answer.status_code < 400:
            return answer.json()
        try:
            told = answer.json()
            faults = "; ".join(f"{fault['at']}: {fault['fault']}" for fault in told.get("faults", ())[:3])
            code, detail = str(told["code"]), "; ".join(filter(None, (str(told["detail"]), faults)))
        except (ValueError, KeyError, TypeError, AttributeError):
            code, detail = f"http.{answer.status_code}", f"{service} answered with status {answer.status_code}"
        if answer.status_code == 404:
            raise NotThere(detail)
        if answer.status_code >= 500:
            raise NoAnswer(service)
        raise TurnedDown(code, detail)
