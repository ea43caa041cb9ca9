"""Services and HTTP surfaces as they are declared, without a database or a broker behind them."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module

from fastapi import FastAPI
from pydantic import SecretStr

from ordermill.clock import system_clock
from ordermill.eventlog.engine import Engine
from ordermill.eventlog.memory import MemoryStore
from ordermill.installation import builder
from ordermill.names import CONSOLE
from ordermill.service.declare import Service
from ordermill.service.metrics import CommonMetrics, Metrics
from ordermill.service.running import RunningService
from ordermill.service.settings import PlatformSettings
from ordermill.service.surface import application

_NO_SECRET = SecretStr(b64encode(bytes(32)).decode())
_PROVIDERS = {
    "OMS_PAYMENTS_URL": "https://provider.invalid",
    "OMS_FULFILLMENT_CARRIERS_URL": "https://provider.invalid",
}


@cache
def declared(service: str) -> Service:
    """A service's declaration; nothing that its settings name is opened."""
    platform = PlatformSettings(
        kafka="127.0.0.1:9092",
        api_token=_NO_SECRET,
        keyring_url=SecretStr("postgresql://127.0.0.1/none"),
        master_key=_NO_SECRET,
        link_secret=_NO_SECRET,
    )
    with _settings():
        return builder(service)(platform, system_clock)


@contextmanager
def _settings() -> Iterator[None]:
    """What services can't be declared without; nothing that this shell happens to set."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("OMS_")}
    for name in kept:
        del os.environ[name]
    os.environ.update(_PROVIDERS)
    try:
        yield
    finally:
        for name in _PROVIDERS:
            del os.environ[name]
        os.environ.update(kept)


def surface(name: str) -> FastAPI:
    """The application of that HTTP surface."""
    if name == CONSOLE:
        return _console()
    service = declared(name)
    running = RunningService(service, Engine(MemoryStore(), service.rules(), system_clock), Metrics(), 0)
    return application(running, "")


def _console() -> FastAPI:
    with _settings():
        settings = import_module("services.console.settings").ConsoleSettings(token=_NO_SECRET)
    made = import_module("services.console.app").application
    return made(settings, "", CommonMetrics(CONSOLE), lambda: False)  # type: ignore[no-any-return]
