"""`docs/reference/events.md`: every message on the topics, its versions and its fields."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from ordermill import contracts
from ordermill.contracts.base import BY_TYPE, Fact, Message

from . import WRITTEN, table

HEAD = f"""# Events

{WRITTEN}
Every message is a CloudEvents 1.0 event in Kafka's binary mode: attributes in `ce_` headers, JSON in the value, the
stream's id as the key. `ce_type` is one of the types here, `ce_id` and `ce_source` together are unique, and the same
message again changes nothing. Facts also carry `ce_time` (when it happened), `ce_subject` (the stream), `ce_sequence`
(its number in the service's log), `ce_streamversion`, `ce_correlationid`, `ce_causationid` and, where tracing is on,
`traceparent` and `ce_traceparent`. Fields beyond these are refused. [Topics](topics.md) tells who reads what.

Instants are UTC, RFC 3339. Money is whole minor units of a currency. A field that is `sealed` is personal data under
its customer's key.
"""


def messages() -> list[type[Message]]:
    """Every message there is, by type."""
    for module in iter_modules(contracts.__path__):
        import_module(f"{contracts.__name__}.{module.name}")
    ours = [cls for cls in BY_TYPE.values() if cls.__module__.startswith(f"{contracts.__name__}.")]
    return sorted(ours, key=lambda cls: cls.type)


def reference() -> str:
    """The whole page."""
    parts: dict[str, Any] = {}
    sections = []
    group = ""
    for cls in messages():
        service = cls.type.split(".")[1]
        if service != group:
            group = service
            sections.append(f"# {service.capitalize()}\n")
        sections.append(_section(cls, parts))
    sections.append("# Parts\n\nShapes that several messages share.\n")
    sections += [_part(name, parts[name]) for name in sorted(parts)]
    return HEAD + "\n" + "\n".join(sections)


def _section(cls: type[Message], parts: dict[str, Any]) -> str:
    schema = cls.model_json_schema(mode="serialization")
    parts |= schema.get("$defs", {})
    topics = ", ".join(f"`{topic}`" for topic in (cls.topic, *cls.also_on))
    kind = "A fact" if issubclass(cls, Fact) else "A message"
    lines = [f"## {cls.type}\n", f"{inspect.cleandoc(cls.__doc__ or '')}\n", f"{kind} on {topics}. {_versions(cls)}\n"]
    return "\n".join([*lines, table(("field", "is", ""), _fields(schema))])


def _versions(cls: type[Message]) -> str:
    if cls.class_version == 1:
        return "The first version."
    steps = []
    for step in range(1, cls.class_version):
        upcast = getattr(cls, f"upcast_v{step}_v{step + 1}", None)
        if upcast is not None:
            steps.append(" ".join((inspect.getdoc(upcast) or f"v{step + 1} follows v{step}.").split()))
    return "Older versions are lifted as they come in. " + " ".join(steps)


def _part(name: str, schema: dict[str, Any]) -> str:
    about = inspect.cleandoc(schema.get("description", ""))
    text = f"## {name}\n" + (f"\n{about}\n" if about else "")
    if "enum" in schema:
        return text + f"\nOne of {_listed(schema['enum'])}.\n"
    return text + "\n" + table(("field", "is", ""), _fields(schema))


def _fields(schema: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    needed = set(schema.get("required", ()))
    for name, field in schema.get("properties", {}).items():
        note = "" if name in needed and "default" not in field else "may be left out"
        yield f"`{name}`", _kind(field), note


def _kind(field: dict[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for choice in ("anyOf", "oneOf"):
        if choice in field:
            return " or ".join(_kind(each) for each in field[choice])
    if "allOf" in field:
        return " and ".join(_kind(each) for each in field["allOf"])
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return f"one of {_listed(field['enum'])}"
    match field.get("type"):
        case "array":
            return f"list of {_kind(field['items'])}" if "items" in field else "list"
        case "object" if isinstance(field.get("additionalProperties"), dict):
            return f"map to {_kind(field['additionalProperties'])}"
        case "string":
            return {"date-time": "instant", "date": "date"}.get(field.get("format", ""), "text")
        case "integer":
            return "whole number"
        case "null":
            return "null"
        case kind:
            return str(kind or "anything")


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(f"`{value}`" for value in values)
