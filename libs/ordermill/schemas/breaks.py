"""Whether documents may take the place of earlier ones: messages, headers, topics and HTTP surfaces.

A message type is never removed and never changes its meaning: what can't stay as it is becomes a new version beside the
old one, with an upcaster. An HTTP surface is read and written at once: its requests are what outsiders write, its
answers what they read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .compare import BOTH, Break, Outsiders, compare
from .messages import comes_from_outside

Json = dict[str, Any]
METHODS = ("get", "put", "post", "patch", "delete")

_NEW_VERSION = "Keep the old version and add a new one with an upcaster: docs/how-to/add-an-event-version.md."
_KEEP = "Keep what is there and add the new beside it, at a path or under a name of its own."


@dataclass(frozen=True, slots=True)
class Broken:
    """A change to one file that breaks somebody who relies on it."""

    file: str
    path: str
    rule: str
    detail: str

    def __str__(self) -> str:
        what_to_do = _NEW_VERSION if self.file.startswith("messages/") else _KEEP
        return f"schemas/{self.file}: {self.path or 'the whole'}: {self.rule}: {self.detail}. {what_to_do}"


def breaks(file: str, old: Json, new: Json | None) -> list[Broken]:
    """What breaks if `new` takes the place of `old` in `file` (a path within `schemas/`); None: it is removed."""
    if new is None:
        return [Broken(file, "", "removed", "somebody may rely on it")]
    part, _, name = file.partition("/")
    match part:
        case "messages":
            found = compare(old, new, Outsiders.WRITE if comes_from_outside(name.removesuffix(".json")) else BOTH)
        case "headers":
            found = compare(old, new, Outsiders.WRITE if name == "outside.json" else Outsiders.READ)
        case "asyncapi":
            found = list(_topics(old, new))
        case _:
            found = list(_Surfaces(old, new).paths())
    return [Broken(file, each.path, each.rule, each.detail) for each in found]


def _topics(old: Json, new: Json) -> Iterator[Break]:
    for topic in old["channels"]:
        if topic not in new["channels"]:
            yield Break(topic, "topic-removed", "the service no longer sends or receives there")
    for name, operation in old["operations"].items():
        topic = operation["channel"]["$ref"].rpartition("/")[2]
        if topic not in new["channels"]:
            continue
        if name not in new["operations"]:
            yield Break(topic, "operation-removed", f"it no longer does {operation['action']} there")
            continue
        still = {each["$ref"] for each in new["operations"][name]["messages"]}
        for message in operation["messages"]:
            if message["$ref"] not in still and _matters(operation["action"], message["$ref"]):
                yield Break(topic, "message-removed", f"{message['$ref'].rpartition('/')[2]} ({operation['action']})")


def _matters(action: str, reference: str) -> bool:
    """Which of our own facts a service listens to is its own affair; what it takes from outside is not."""
    return action == "send" or comes_from_outside(reference.rpartition("/")[2])


class _Surfaces:
    """Two OpenAPI documents of one surface."""

    def __init__(self, old: Json, new: Json) -> None:
        self.old = old
        self.new = new

    def paths(self) -> Iterator[Break]:
        for path, methods in self.old["paths"].items():
            for method in METHODS:
                if method not in methods:
                    continue
                at = f"{method.upper()} {path}"
                other = _path(self.new, path).get(method)
                if other is None:
                    yield Break(at, "operation-removed", "somebody may call it")
                else:
                    yield from self._operation(at, methods[method], other)

    def _operation(self, at: str, old: Json, new: Json) -> Iterator[Break]:
        if new.get("security") and not old.get("security"):
            yield Break(at, "login-required", "it was open")
        before = {(each["in"], each["name"]): each for each in old.get("parameters", ())}
        after = {(each["in"], each["name"]): each for each in new.get("parameters", ())}
        places = [key for key in before if key[0] == "path"], [key for key in after if key[0] == "path"]
        renamed = dict(zip(*places, strict=False))
        for key, one in before.items():
            where = f"{at} {key[0]} {key[1]}"
            other = after.get(renamed.get(key, key))
            if other is None:
                yield Break(where, "parameter-removed", "somebody may send it")
                continue
            if other.get("required") and not one.get("required"):
                yield Break(where, "required-added", "it was optional")
            yield from self._schema(where, one["schema"], other["schema"], Outsiders.WRITE)
        for key in after.keys() - before.keys() - set(renamed.values()):
            if after[key].get("required"):
                yield Break(f"{at} {key[0]} {key[1]}", "required-added", "a new parameter must be optional")
        yield from self._body(at, old.get("requestBody"), new.get("requestBody"))
        yield from self._answers(at, old["responses"], new["responses"])

    def _body(self, at: str, old: Json | None, new: Json | None) -> Iterator[Break]:
        if old is None:
            if new is not None and new.get("required"):
                yield Break(f"{at} body", "required-added", "it took no body")
            return
        if new is None:
            yield Break(f"{at} body", "body-removed", "somebody may send it")
            return
        if new.get("required") and not old.get("required"):
            yield Break(f"{at} body", "required-added", "it was optional")
        yield from self._contents(f"{at} body", old["content"], new["content"], Outsiders.WRITE)

    def _answers(self, at: str, old: Json, new: Json) -> Iterator[Break]:
        for status, answer in old.items():
            if status not in new:
                if status < "400":
                    yield Break(f"{at} {status}", "answer-removed", "callers wait for it")
                continue
            yield from self._contents(
                f"{at} {status}", answer.get("content", {}), new[status].get("content", {}), Outsiders.READ
            )

    def _contents(self, at: str, old: Json, new: Json, outsiders: Outsiders) -> Iterator[Break]:
        for kind, content in old.items():
            if kind not in new:
                yield Break(at, "media-type-removed", kind)
            else:
                yield from self._schema(at, content.get("schema", {}), new[kind].get("schema", {}), outsiders)

    def _schema(self, at: str, old: Json, new: Json, outsiders: Outsiders) -> Iterator[Break]:
        for each in compare(self.old, self.new, outsiders, old, new):
            yield Break(f"{at} {each.path}".rstrip(), each.rule, each.detail)


def _path(document: Json, path: str) -> Json:
    """The same path, whatever its parameters are called."""
    for each, methods in document["paths"].items():
        if _shape(each) == _shape(path):
            found: Json = methods
            return found
    return {}


def _shape(path: str) -> list[str]:
    return ["{}" if step.startswith("{") else step for step in path.split("/")]
