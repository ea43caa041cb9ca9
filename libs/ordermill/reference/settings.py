"""`docs/reference/settings.md`: every variable, what it is for, and what it is when nobody sets it."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel, FilePath, TypeAdapter
from pydantic.fields import FieldInfo

from ordermill.wrong_settings import settings_models

from . import WRITTEN, table

HEAD = f"""# Settings

{WRITTEN}
Every process reads its settings once, at start, from variables of its environment; one that is missing or wrong
stops the start with its name, what was expected and how to set it. On one machine `oms up` and `oms demo` make an
installation with all of them, in the folder `.ordermill` or the one that `OMS_HOME` names. `oms doctor` shows those in
force, secrets masked. Lists and tables are JSON; spans of time are ISO 8601 (`PT4H`), or seconds.
"""
ELSEWHERE = (
    ("OMS_HOME", "folder", "`.ordermill`", "Where this machine's installation lies; commands and `oms up` look there."),
    (
        "OMS_THROWAWAY",
        "yes or no",
        "`no`",
        "`oms up` and `oms demo` do not wait for the disk. For tests: all may be lost with the machine.",
    ),
    ("OMS_<SERVICE>_URL", "http://host:port", "", "For commands and the console: where a service's HTTP is."),
    (
        "OMS_<SERVICE>_OWNER_URL",
        "secret",
        "",
        "For `oms migrate`: PostgreSQL URL of the owner of a service's database.",
    ),
    (
        "OMS_KEYRING_OWNER_URL",
        "secret",
        "",
        "For `oms migrate`: PostgreSQL URL of the owner of the keyring's database.",
    ),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://host:port", "", "As OMS_OTLP_ENDPOINT; OTLP's other variables hold too."),
)


def models() -> Iterator[tuple[str, str, type[BaseModel]]]:
    """Heading, how its variables begin, and the class; what every service has is told once."""
    from ordermill.service.settings import PlatformSettings, ServiceSettings

    for service, prefix, model in settings_models():
        if model is PlatformSettings:
            yield "All processes", prefix, model
            yield "Each service and the console", "OMS_<SERVICE>_", ServiceSettings
        elif not service:
            yield model.__name__.removesuffix("Settings"), prefix, model
        elif model is not ServiceSettings:
            yield service.capitalize(), prefix, model


def reference() -> str:
    """The whole page."""
    parts = [HEAD]
    for heading, prefix, model in models():
        about = f"{' '.join(model.__doc__.split())}\n\n" if model.__doc__ else ""
        rows = [
            (f"`{prefix}{name.upper()}`", kind_of(field), default_of(field), field.description or "")
            for name, field in model.model_fields.items()
        ]
        parts.append(f"## {heading}\n\n{about}{table(('variable', 'is', 'if not set', 'for'), rows)}")
    rows = [(f"`{name}`", kind, default, about) for name, kind, default, about in ELSEWHERE]
    parts.append("## Read by commands and libraries\n\n" + table(("variable", "is", "if not set", "for"), rows))
    return "\n".join(parts)


def kind_of(field: FieldInfo) -> str:
    text = _kind(field.annotation)
    bounds = []
    for limit in field.metadata:
        match limit:
            case Ge(ge=bound):
                bounds.append(f"≥ {bound:,}")
            case Gt(gt=bound):
                bounds.append(f"> {bound:,}")
            case Le(le=bound):
                bounds.append(f"≤ {bound:,}")
            case Lt(lt=bound):
                bounds.append(f"< {bound:,}")
            case MinLen(min_length=bound):
                bounds.append(f"at least {bound} characters")
            case _ if (pattern := getattr(limit, "pattern", None)) is not None:
                bounds.append(f"`{pattern}`")
    return ", ".join([text, *bounds])


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return _kind(next(each for each in arguments if each is not type(None)))
    if origin is Annotated:
        return "file" if annotation == FilePath else _kind(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{each}`" for each in arguments)
    if origin in (tuple, list, frozenset, set):
        return "list"
    if origin is dict:
        return "table"
    known = {
        "str": "text", "int": "whole number", "float": "number", "bool": "true or false", "SecretStr": "secret",
        "Path": "folder", "datetime": "instant", "timedelta": "span of time",
    }  # fmt: skip
    name = getattr(annotation, "__name__", str(annotation))
    return known.get(name, name)


def default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "**must be set**"
    default = field.get_default(call_default_factory=True)
    if default is None or default in (frozenset(), {}):
        return ""
    plain = TypeAdapter(Any).dump_python(default, mode="json")
    return f"`{plain if isinstance(plain, str) else json.dumps(plain)}`"
