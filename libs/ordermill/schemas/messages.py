"""JSON Schema 2020-12 of each message type.

Who writes and who reads decides how strict a schema is. What outsiders send to us is closed: we refuse unknown fields.
What we send is open: we may add an optional field to a type at any time, and a reader must let it pass.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from textwrap import dedent
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

import ordermill.contracts
from ordermill.contracts.base import BY_TYPE, Message
from ordermill.names import SERVICES
from ordermill.service.openapi import open_up

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Json = dict[str, Any]


def all_types() -> list[type[Message]]:
    """Every message type in its newest version, by name."""
    for module in pkgutil.iter_modules(ordermill.contracts.__path__):
        importlib.import_module(f"ordermill.contracts.{module.name}")
    return [BY_TYPE[name] for name in sorted(BY_TYPE) if BY_TYPE[name].__module__.startswith("ordermill.contracts.")]


def comes_from_outside(type_name: str) -> bool:
    """Whether outsiders send it to us (`oms.channel.…`), rather than a service to the world (`oms.capture.…`)."""
    return type_name.split(".")[1] not in (*SERVICES, "service")


def old_versions(message: type[Message]) -> list[str]:
    """Earlier versions of a type that logs and topics still hold."""
    family = message.type.rpartition(".")[0]
    return [f"{family}.v{number}" for number in range(1, message.class_version)]


def message_schema(message: type[Message], example: Json | None = None) -> Json:
    """One type's schema, whole: it refers to no other file."""
    return document(message, message.type, is_open=not comes_from_outside(message.type), example=example)


def document(model: type[BaseModel], name: str, *, is_open: bool, example: Json | None = None) -> Json:
    """A model's schema as a file of its own."""
    schema = model.model_json_schema(schema_generator=_WithoutNoise)
    _describe(model, schema)
    if is_open:
        open_up(schema)
    head: Json = {"$schema": DIALECT, "$id": f"urn:ordermill:{name}", "title": model.__name__}
    body = {key: value for key, value in schema.items() if key not in head}
    examples = {"examples": [example]} if example is not None else {}
    return {**head, **{key: value for key, value in body.items() if key != "$defs"}, **examples, **_definitions(body)}


def _definitions(schema: Json) -> Json:
    return {"$defs": schema["$defs"]} if "$defs" in schema else {}


class _WithoutNoise(GenerateJsonSchema):
    """Without a title that only repeats the field's name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:
        """Fields stay in the order in which the model tells them."""
        return value


def _describe(model: type[BaseModel], schema: Json) -> None:
    """Give fields the docstrings that stand below them in the source; pydantic would read them at every import."""
    models = {model.__name__: model}
    for name in schema.get("$defs", {}):
        if found := _model_named(name):
            models[name] = found
    for name, each in models.items():
        part = schema if each is model else schema["$defs"][name]
        for base in reversed(each.__mro__):
            if issubclass(base, BaseModel) and base.__module__.startswith("ordermill."):
                for field, text in _field_docstrings(base).items():
                    if field in part.get("properties", {}):
                        part["properties"][field].setdefault("description", text)


def _model_named(name: str) -> type[BaseModel] | None:
    waiting: list[type[BaseModel]] = [BaseModel]
    while waiting:
        for each in waiting.pop().__subclasses__():
            if each.__name__ == name and each.__module__.startswith("ordermill.contracts."):
                return each
            waiting.append(each)
    return None


def _field_docstrings(model: type[BaseModel]) -> dict[str, str]:
    body = ast.parse(dedent(inspect.getsource(model))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for before, after in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(before, ast.AnnAssign)
            and isinstance(before.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            found[before.target.id] = inspect.cleandoc(after.value.value)
    return found
