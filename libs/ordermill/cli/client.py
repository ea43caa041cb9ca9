"""The services' HTTP doors, as somebody who holds the API token uses them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ordermill import names
from ordermill.errors import NotFound, Refused
from ordermill.names import SERVICES
from ordermill.wrong_settings import SettingsWrong

from .place import Unreachable, adopt, variable

if TYPE_CHECKING:
    import httpx

LARGEST_PAGE = 1_000


class TurnedDown(Refused):
    """A service says no; its own code and words."""

    code = "cli.turned-down"


class NotThere(NotFound):
    """A service has no record of what was asked for."""

    code = "cli.not-there"


class Client:
    """Asks services by name. Raises Unreachable, NotThere and TurnedDown."""

    def __init__(self, http: httpx.Client, urls: Mapping[str, str]) -> None:
        self._http = http
        self._urls = urls

    def get(self, service: str, path: str, **query: Any) -> Any:
        return self._ask("GET", service, path, params={name: value for name, value in query.items() if value})

    def find(self, service: str, path: str) -> Any | None:
        """None where the service has no record of it."""
        try:
            return self.get(service, path)
        except NotThere:
            return None

    def post(self, service: str, path: str, body: Any) -> Any:
        return self._ask("POST", service, path, json=body)

    def pages(self, service: str, path: str, limit: int | None = None, **where: Any) -> list[dict[str, Any]]:
        """A view's documents, by key, page by page until `limit` or the end."""
        found: list[dict[str, Any]] = []
        after = ""
        while limit is None or len(found) < limit:
            size = min(LARGEST_PAGE, limit - len(found)) if limit is not None else LARGEST_PAGE
            page = self.get(service, path, after=after, limit=size, **where)
            found += page["items"]
            after = page["next"]
            if not after:
                break
        return found

    def _ask(self, method: str, service: str, path: str, **more: Any) -> Any:
        import httpx

        url = self._urls[service]
        try:
            answer = self._http.request(method, url + path, **more)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(
                f"{service} at {url} does not answer: {str(error) or type(error).__name__}. "
                f"Start it with `oms up` or `oms run {service}`; `oms doctor` says more"
            ) from error
        if answer.status_code < 400:
            return answer.json()
        detail = _detail(answer)
        match answer.status_code:
            case 401:
                raise Unreachable(f"{service} does not take this token: {detail}. OMS_API_TOKEN must be the service's")
            case 404:
                raise NotThere(detail)
            case status if status >= 500:
                raise Unreachable(f"{service} answers {status}: {detail}. `oms doctor` says more")
        raise TurnedDown(detail)


def _detail(answer: httpx.Response) -> str:
    """The words of a problem (RFC 9457), or what stands there instead."""
    try:
        told = answer.json()
        faults = [f"{fault['at']}: {fault['fault']}" for fault in told.get("faults", ())]
        return "; ".join([str(told["detail"]), *faults[:3]])
    except (ValueError, KeyError, AttributeError, TypeError):
        return answer.text[:200] or f"HTTP status {answer.status_code}"


def connect() -> Client:
    """A client of the installation in the environment. Raises NoInstallation, SettingsWrong."""
    import getpass

    import httpx

    adopt()
    token = variable("OMS_API_TOKEN", "the bearer token that the services were given")
    urls = {service: url_of(service) for service in SERVICES}
    if not token.isascii():
        raise SettingsWrong("OMS_API_TOKEN: expected ASCII, as an HTTP header can hold")
    headers = {"Authorization": f"Bearer {token}", "X-Actor": getpass.getuser()}
    return Client(httpx.Client(headers=headers, timeout=20, trust_env=False), urls)


def url_of(service: str) -> str:
    """Where a service's HTTP is. Raises SettingsWrong."""
    url = names.url_of(service, os.environ)
    return url or variable(
        f"OMS_{service.upper()}_PORT", f"the port of {service}'s HTTP (or OMS_{service.upper()}_URL, its whole address)"
    )


def part(text: str) -> str:
    """An id as a part of a path."""
    return quote(text, safe="")
