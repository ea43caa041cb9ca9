"""Whether a schema may take the place of another: rules on pairs of JSON Schemas, by who writes and who reads.

A document that outsiders WRITE and we read must still be accepted: whatever the old schema allowed, the new one must
allow. A document that outsiders READ and we write must still be understood: whatever the new schema allows, the old one
must have allowed; only fields that no old reader looks at may come in addition. So a wider type is harmless in what we
read and breaks readers of what we write, and a narrower one the other way round.

Facts and states are under both rules at once. Outsiders read them; and what an older release of ours wrote stays in
logs and on topics, where this release must still open it. All that a version of a fact may ever do is gain an optional
field.

The schemas compared are those that pydantic makes. A keyword that this module does not know counts as a break once it
changes: better asked than guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import Any

Json = dict[str, Any]


class Outsiders(Flag):
    """What those outside do with a document."""

    READ = auto()
    WRITE = auto()


BOTH = Outsiders.READ | Outsiders.WRITE


@dataclass(frozen=True, slots=True)
class Break:
    """One change that breaks somebody: where, by which rule, and what was found."""

    path: str
    rule: str
    detail: str


_NOTES = frozenset(
    {
        "$schema", "$id", "$defs", "$comment", "title", "description", "examples", "example", "default", "deprecated",
        "discriminator", "contentMediaType", "x-personal-data", "required", "properties", "additionalProperties",
        "items", "prefixItems", "anyOf", "oneOf", "allOf", "type", "enum", "const", "pattern", "format",
    }
)  # fmt: skip
"""Keywords that change nothing, or that have rules of their own below."""

_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


def compare(
    old: Json, new: Json, outsiders: Outsiders, old_part: Json | None = None, new_part: Json | None = None
) -> list[Break]:
    """What breaks if `new` takes the place of `old`: all of it, or the schemas in it that are given.

    Both are whole documents: a `$ref` stays within its own.
    """
    comparison = _Comparison(old, new, outsiders)
    one, other = old if old_part is None else old_part, new if new_part is None else new_part
    return list(comparison.schemas(one, other, ""))


@dataclass
class _Comparison:
    old_root: Json
    new_root: Json
    outsiders: Outsiders
    under_way: set[tuple[str, str]] = field(default_factory=set)
    """Pairs of references that are being compared further up: schemas may be recursive."""

    @property
    def read(self) -> bool:
        return Outsiders.READ in self.outsiders

    @property
    def written(self) -> bool:
        return Outsiders.WRITE in self.outsiders

    def schemas(self, old: Any, new: Any, path: str) -> Iterator[Break]:
        if (old == new and self.old_root == self.new_root) or not (old or new):
            return
        pair = (_reference(old), _reference(new))
        if pair in self.under_way:
            return
        if all(pair):
            self.under_way.add(pair)
        yield from self._resolved(resolve(self.old_root, old), resolve(self.new_root, new), path)
        self.under_way.discard(pair)

    def _resolved(self, old: Json, new: Json, path: str) -> Iterator[Break]:
        if old.get("x-personal-data") not in (None, new.get("x-personal-data")):
            yield Break(path, "personal-data-unmarked", f"was marked {old['x-personal-data']!r}")
        if _alternatives(old) != [old] or _alternatives(new) != [new]:
            yield from self._choices(_alternatives(old), _alternatives(new), path)
            return
        yield from self._types(old, new, path)
        yield from self._values(old, new, path)
        yield from self._bounds(old, new, path)
        yield from self._texts(old, new, path)
        yield from self._fields(old, new, path)
        yield from self._lists(old, new, path)
        for keyword in sorted((set(old) | set(new)) - _NOTES - set(_LOWER) - set(_UPPER)):
            if not keyword.startswith("x-") and old.get(keyword) != new.get(keyword):
                yield Break(path, "not-judged", f"{keyword} changed: {old.get(keyword)!r} to {new.get(keyword)!r}")

    def _choices(self, olds: list[Json], news: list[Json], path: str) -> Iterator[Break]:
        left = [resolve(self.new_root, new) for new in news]
        for old in (resolve(self.old_root, old) for old in olds):
            same = [new for new in left if _kind(new) == _kind(old)] or [
                new for new in left if _related(_types_of(old), _types_of(new)) and "object" not in _types_of(old)
            ]
            if same:
                left.remove(same[0])
                yield from self._resolved(old, same[0], path)
            elif self.written:
                yield Break(path, "type-narrowed", f"{_kind(old)} is not allowed any more")
        for new in left:
            if self.read:
                yield Break(path, "type-widened", f"{_kind(new)} may come now")

    def _types(self, old: Json, new: Json, path: str) -> Iterator[Break]:
        before, after = _types_of(old), _types_of(new)
        if self.written and not _covers(after, before):
            yield Break(path, "type-narrowed", f"{_words(before)} became {_words(after)}")
        if self.read and not _covers(before, after):
            yield Break(path, "type-widened", f"{_words(before)} became {_words(after)}")

    def _values(self, old: Json, new: Json, path: str) -> Iterator[Break]:
        before, after = _enum_of(old), _enum_of(new)
        if before == after:
            return
        lost = [] if after is None else (["any value"] if before is None else [v for v in before if v not in after])
        gained = [] if before is None else (["any value"] if after is None else [v for v in after if v not in before])
        if self.written and lost:
            yield Break(path, "enum-shrunk", f"no longer allowed: {_listed(lost)}")
        if self.read and gained:
            yield Break(path, "enum-grown", f"readers do not know: {_listed(gained)}")

    def _bounds(self, old: Json, new: Json, path: str) -> Iterator[Break]:
        for keyword in (*_LOWER, *_UPPER):
            before, after = old.get(keyword), new.get(keyword)
            if before == after:
                continue
            tighter = before is None or (after is not None and (after > before) == (keyword in _LOWER))
            if tighter and self.written:
                yield Break(path, "bound-tightened", f"{keyword} was {before}, is {after}")
            if not tighter and self.read:
                yield Break(path, "bound-loosened", f"{keyword} was {before}, is {after}")

    def _texts(self, old: Json, new: Json, path: str) -> Iterator[Break]:
        for keyword in ("pattern", "format"):
            before, after = old.get(keyword), new.get(keyword)
            if before == after:
                continue
            if (self.written and after is not None) or (self.read and before is not None):
                yield Break(path, f"{keyword}-changed", f"was {before!r}, is {after!r}")

    def _fields(self, old: Json, new: Json, path: str) -> Iterator[Break]:
        before, after = old.get("properties", {}), new.get("properties", {})
        needed, needs = set(old.get("required", ())), set(new.get("required", ()))
        for name in before:
            at = f"{path}.{name}".lstrip(".")
            if name not in after:
                yield Break(at, "field-removed", "a field of the same meaning must stay")
                continue
            if self.read and name in needed - needs:
                yield Break(at, "no-longer-required", "readers rely on it")
            if self.written and name in needs - needed:
                yield Break(at, "required-added", "it was optional")
            if name not in needed | needs and _default(before[name]) != _default(after[name]):
                yield Break(at, "default-changed", f"{before[name].get('default')!r} to {after[name].get('default')!r}")
            yield from self.schemas(before[name], after[name], at)
        for name in after.keys() - before.keys():
            at = f"{path}.{name}".lstrip(".")
            if self.written and name in needs:
                yield Break(at, "required-added", "a new field must be optional")
            if self.read and old.get("additionalProperties") is False:
                yield Break(at, "field-added-to-closed", "readers were told that no other field comes")
        yield from self._others(old.get("additionalProperties", True), new.get("additionalProperties", True), path)

    def _others(self, old: Any, new: Any, path: str) -> Iterator[Break]:
        """What is allowed of fields that have no name of their own: nothing, what a schema says, or anything."""
        if isinstance(old, dict) and isinstance(new, dict):
            yield from self.schemas(old, new, f"{path}.*".lstrip("."))
            return
        before, after = (1 if isinstance(each, dict) else 2 * each for each in (old, new))
        if after < before and self.written:
            yield Break(path, "object-closed", "other fields were allowed")
        if after > before and self.read:
            yield Break(path, "object-opened", "other fields may come now")

    def _lists(self, old: Json, new: Json, path: str) -> Iterator[Break]:
        at = f"{path}[]"
        before, after = old.get("prefixItems", []), new.get("prefixItems", [])
        if len(before) != len(after):
            yield Break(at, "not-judged", f"a tuple of {len(before)} became one of {len(after)}")
        for number, (one, other) in enumerate(zip(before, after, strict=False)):
            yield from self.schemas(one, other, f"{path}[{number}]")
        one, other = old.get("items", {}), new.get("items", {})
        if isinstance(one, dict) and isinstance(other, dict):
            yield from self.schemas(one, other, at)
        elif one != other:
            yield Break(at, "not-judged", f"items changed: {one!r} to {other!r}")


def resolve(root: Json, schema: Any) -> Json:
    """The schema behind `$ref` and single `allOf`s, with what stands beside them."""
    if schema is True or schema == {}:
        return {}
    found: Json = dict(schema)
    while "$ref" in found or "allOf" in found:
        inner: Json = {}
        if "$ref" in found:
            inner = pointed(root, found["$ref"])
        for part in found.get("allOf", ()):
            inner = _merged(inner, resolve(root, part))
        found = _merged(inner, {key: value for key, value in found.items() if key not in ("$ref", "allOf")})
    return found


def pointed(root: Json, reference: str) -> Json:
    """What a `#/…` reference points to."""
    found: Any = root
    for step in reference.removeprefix("#/").split("/"):
        found = found[step.replace("~1", "/").replace("~0", "~")]
    return dict(found)


def _merged(one: Json, other: Json) -> Json:
    merged = {**one, **other}
    if "properties" in one and "properties" in other:
        merged["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        merged["required"] = [*one["required"], *other["required"]]
    return merged


def _reference(schema: Any) -> str:
    return str(schema.get("$ref", "")) if isinstance(schema, dict) else ""


def _alternatives(schema: Json) -> list[Json]:
    found: list[Json] = schema.get("anyOf") or schema.get("oneOf") or [schema]
    return found


def _kind(schema: Json) -> str:
    """What tells one alternative from another."""
    properties = schema.get("properties", {})
    told = [f"{name}={each['const']}" for name, each in properties.items() if "const" in each]
    if told:
        return f"object with {', '.join(told)}"
    if schema.get("type") == "object" and schema.get("title"):
        return str(schema["title"])
    return _words(_types_of(schema))


ANY = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})


def _types_of(schema: Mapping[str, Any]) -> frozenset[str]:
    found = schema.get("type")
    if found is None:
        return ANY
    return frozenset(found) if isinstance(found, list) else frozenset({found})


def _covers(wide: frozenset[str], narrow: frozenset[str]) -> bool:
    return all(each in wide or (each == "integer" and "number" in wide) for each in narrow)


def _related(one: frozenset[str], other: frozenset[str]) -> bool:
    return _covers(one, other) or _covers(other, one)


def _words(types: frozenset[str]) -> str:
    return "anything" if types == ANY else " or ".join(sorted(types))


def _enum_of(schema: Json) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    found: list[Any] | None = schema.get("enum")
    return found


def _default(schema: Any) -> str:
    return repr(schema.get("default", None)) if isinstance(schema, dict) else ""


def _listed(values: list[Any]) -> str:
    return ", ".join(map(str, values))
