"""Settings that are missing or wrong, said so that one knows which, what was expected, and how to set it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from ordermill.errors import OrdermillError
from ordermill.names import CONSOLE, SERVICES

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_settings import BaseSettings

T = TypeVar("T")


class SettingsWrong(OrdermillError):
    """An OMS_… variable that is missing, or not what it must be."""

    code = "settings.wrong"


def settings_models() -> Iterator[tuple[str, str, type[BaseSettings]]]:
    """All settings there are: whose (nobody's in particular: ""), how their variables begin, and the class."""
    from ordermill.service.settings import ServiceSettings

    for model in _shared_settings():
        yield "", str(model.model_config.get("env_prefix", "")), model
    for name in (*SERVICES, CONSOLE):
        yield name, f"OMS_{name.upper()}_", ServiceSettings
        own = _own_settings(name)
        if own is not None:
            yield name, f"OMS_{name.upper()}_", own


def _shared_settings() -> tuple[type[BaseSettings], ...]:
    from ordermill.payments.http import PaymentsSettings
    from ordermill.service.outbound import OutboundSettings
    from ordermill.service.settings import PlatformSettings
    from ordermill.simulator.run import SimulatorSettings

    return PlatformSettings, OutboundSettings, PaymentsSettings, SimulatorSettings


def _own_settings(name: str) -> type[BaseSettings] | None:
    module = import_module(f"services.{name}.settings")
    found: type[BaseSettings] | None = getattr(module, f"{name.capitalize()}Settings", None)
    return found


def check_settings(names: Iterable[str]) -> None:
    """That these services, or the console, can start with what is in the environment, the files it names included.

    Raises SettingsWrong, naming every variable at fault.
    """
    from ordermill.installation import builder
    from ordermill.service.run import clock_of
    from ordermill.service.settings import PlatformSettings, settings_of

    faults: dict[str, None] = {}

    def tried(make: Callable[[], T], service: str = "") -> T | None:
        try:
            return checked(make, service)
        except OrdermillError as error:
            of = "" if isinstance(error, SettingsWrong) or not service else f"the settings of {service}: "
            faults[f"{of}{error}"] = None
            return None

    platform = tried(PlatformSettings)
    for name in names:
        tried(partial(settings_of, name), name)
        own = _own_settings(name)
        if (own is None or tried(own, name) is not None) and platform is not None and name != CONSOLE:
            tried(partial(builder(name), platform, clock_of(platform)), name)
    if faults:
        raise SettingsWrong("; ".join(faults))


def checked(make: Callable[[], T], service: str = "") -> T:
    """What `make` reads from the environment. Raises SettingsWrong, naming each variable."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    try:
        return make()
    except ValidationError as error:
        raise SettingsWrong("; ".join(faults_of(error, service))) from None
    except SettingsError as error:
        raise SettingsWrong(unreadable(error, service)) from None
    except ValueError as error:
        of = f"the settings of {service}" if service else "the settings"
        raise SettingsWrong(f"{of}: {error}. `oms doctor` shows all of them") from None


def unreadable(error: Exception, service: str = "") -> str:
    """For a list or the like that can't be taken apart: pydantic-settings names the field in its text alone."""
    prefix = f"OMS_{service.upper()}_" if service else "OMS_"
    field = str(error).partition('field "')[2].partition('"')[0].upper()
    return f'{prefix}{field or "…"}: expected JSON, as ["store", "web"] for a list, {{"store": "EUR"}} for a table'


def faults_of(error: ValidationError, service: str = "") -> list[str]:
    """For each variable at fault: its name, what was expected and found, what it is for. Secrets are not shown."""
    model, prefix = _model_of(error.title, service)
    faults = []
    for fault in error.errors(include_url=False):
        key = str(fault["loc"][0]) if fault["loc"] else ""
        field = model.model_fields.get(key) if model is not None else None
        about = f" ({field.description.rstrip('.')})" if field and field.description else ""
        name = f"{prefix}{key.upper()}"
        if fault["type"] == "missing":
            faults.append(f"{name} is not set{about}: set it in the environment")
            continue
        secret = field is not None and "Secret" in str(field.annotation)
        found = "" if secret else f", found {str(fault['input'])[:60]!r}"
        faults.append(f"{name}{about}: {fault['msg'].removeprefix('Value error, ')}{found}")
    return faults


def _model_of(title: str, service: str) -> tuple[type[BaseModel] | None, str]:
    """The settings class of that name, and how its variables begin."""
    from ordermill.service import settings

    for model in _shared_settings():
        if model.__name__ == title:
            return model, str(model.model_config.get("env_prefix", ""))
    name = service or title.removesuffix("Settings").lower()
    if title == "ServiceSettings":
        return settings.ServiceSettings, f"OMS_{name.upper()}_"
    if name in (*SERVICES, CONSOLE):
        found: Any = getattr(import_module(f"services.{name}.settings"), title, None)
        return found, f"OMS_{name.upper()}_"
    return None, "OMS_"
