"""What is wrong with an installation, and what to do about it: each part looked at, whatever is wrong with another."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from ordermill.names import CONSOLE, SERVICES
from ordermill.wrong_settings import SettingsWrong, checked

from .finding import Finding, Verdict, collected

__all__ = ["Finding", "Verdict", "examine"]


async def examine(show_all: bool = False) -> AsyncIterator[Finding]:
    """Everything, one after another; nothing that is wrong stops the rest. `show_all`: defaults of settings too."""
    from ordermill.service.settings import PlatformSettings

    from . import broker, databases, machine, processes

    for finding in machine.versions():
        yield finding
    for finding in machine.settings(show_all):
        yield finding
    platform: PlatformSettings | None = None
    with suppress(SettingsWrong):  # said with the settings
        platform = checked(PlatformSettings)
    views = {service: databases.views_of(service, platform) for service in SERVICES}  # imports: before any wait
    looks = [databases.database(service, views[service], platform) for service in SERVICES]
    looks += [databases.console(), databases.keyring(platform)]
    if platform is not None:
        looks.append(broker.kafka(platform))
    for found in await asyncio.gather(*map(collected, looks)):
        for finding in found:
            yield finding
    for finding in await processes.processes((*SERVICES, CONSOLE)):
        yield finding
    for finding in machine.disk(Path(os.environ.get("OMS_HOME", ".ordermill")).absolute()):
        yield finding
