"""What every message is: a frozen model with a versioned wire name, found again by that name.

A type name ends in its version: `oms.capture.order-captured.v1`. An old version is lifted to the newest in
single steps, `upcast_v1_v2(state)`, on its way in; rows and messages are never edited.
"""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar, Self

import orjson
from pydantic import ValidationError

from ordermill.errors import Poison

from .fields import Part

_TYPE_NAME = re.compile(r"^oms\.[a-z]+\.[a-z]+(-[a-z]+)*\.v[1-9][0-9]*$")


class UnknownType(Poison):
    """A message type that this installation does not know."""

    code = "contracts.unknown-type"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name[:120]!r}: no such message type here: misspelled, or newer than this installation.")


class UnknownVersion(Poison):
    """A known message in a version newer than this code, or older than its oldest upcaster."""

    code = "contracts.unknown-version"

    def __init__(self, name: str, known: int) -> None:
        super().__init__(f"{name[:120]!r}: this code knows up to v{known}. Upgrade this service, then redrive.")


class Malformed(Poison):
    """A message that does not have the shape of its type."""

    code = "contracts.malformed"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}. Send it again in the shape that its JSON Schema describes.")


class Message(Part):
    """Anything that has a type name of its own on the wire."""

    type: ClassVar[str]
    class_version: ClassVar[int] = 1
    topic: ClassVar[str]
    also_on: ClassVar[tuple[str, ...]] = ()
    """Further topics that carry this fact, for those who watch one concern over all services."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        name = cls.__dict__.get("type")
        if name is None:
            return
        if not _TYPE_NAME.match(name) or not name.endswith(f".v{cls.class_version}"):
            raise TypeError(f"{cls.__name__}: type {name!r} must look like oms.<service>.<fact>.v{cls.class_version}")
        family = name.rpartition(".")[0]
        if family in FAMILIES:
            raise TypeError(f"{cls.__name__}: {family} is taken by {FAMILIES[family].__name__}")
        if not hasattr(cls, "topic"):
            cls.topic = f"oms.{name.split('.')[1]}.events"
        FAMILIES[family] = cls
        BY_TYPE[name] = cls

    def to_json(self) -> bytes:
        return self.__pydantic_serializer__.to_json(self)

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        return cls.model_validate_json(data)


class Fact(Message):
    """Something that happened, in the past tense, as a service's log keeps it."""


FAMILIES: dict[str, type[Message]] = {}
BY_TYPE: dict[str, type[Message]] = {}


def explain(error: ValidationError) -> str:
    """The first three faults of a validation in one line, without the values (they may be personal data)."""
    faults = [
        f"{'.'.join(map(str, e['loc']))[:120] or 'body'}: {e['msg'][:500]}" for e in error.errors(include_input=False)
    ]
    return "; ".join(faults[:3]) + (f"; and {len(faults) - 3} more" if len(faults) > 3 else "")


def decode(name: str, data: bytes) -> Message:
    """The message that `data` (JSON) holds, lifted to the newest version.

    Raises UnknownType, UnknownVersion or Malformed, all of them poison: trying again does not help.
    """
    cls = BY_TYPE.get(name)
    try:
        if cls is None:
            return _upcast(name, data)
        try:
            return cls.from_json(data)
        except ValidationError:
            return cls.from_json(_with_whole_numbers(data))
    except ValidationError as error:
        raise Malformed(name, explain(error)) from None


def loads(data: str | bytes) -> Any:
    """JSON in which 3.0 is the integer 3, as JSON Schema has it. Raises ValueError or RecursionError."""
    return json.loads(data, parse_float=_number)


def _number(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() else number


def _with_whole_numbers(data: bytes) -> bytes:
    """Our models want integers written as such; so that the others cost nothing, they are looked for on failure."""
    try:
        return json.dumps(loads(data.decode())).encode()
    except (ValueError, RecursionError):
        return data


def _upcast(name: str, data: bytes) -> Message:
    family, _, version = name.rpartition(".")
    cls = FAMILIES.get(family)
    if cls is None or not re.fullmatch(r"v[1-9][0-9]{0,3}", version):
        raise UnknownType(name)
    number = int(version[1:])
    if number > cls.class_version:
        raise UnknownVersion(name, cls.class_version)
    try:
        state = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Malformed(name, f"not JSON: {error}") from None
    if not isinstance(state, dict):
        raise Malformed(name, "not a JSON object")
    for step in range(number, cls.class_version):
        upcast = getattr(cls, f"upcast_v{step}_v{step + 1}", None)
        if upcast is None:
            raise UnknownVersion(name, cls.class_version)
        upcast(state)
    return cls.model_validate_json(orjson.dumps(state))
