"""What may take the place of a published schema, and what would break somebody: one pair of schemas for each rule."""

from __future__ import annotations

from typing import Any

import pytest

from ordermill.schemas.breaks import breaks
from ordermill.schemas.compare import BOTH, Outsiders, compare

Json = dict[str, Any]
READ, WRITE = Outsiders.READ, Outsiders.WRITE


def record(*required: str, closed: bool = False, **properties: Json) -> Json:
    made: Json = {"type": "object", "properties": properties, "required": list(required)}
    return made | {"additionalProperties": False} if closed else made


def enum(*values: str) -> Json:
    return {"type": "string", "enum": list(values)}


def upto(maximum: int) -> Json:
    return {"type": "integer", "maximum": maximum}


def either(*schemas: Json) -> Json:
    return {"anyOf": list(schemas)}


TEXT: Json = {"type": "string"}
NONE: Json = {"type": "string", "default": "none"}
NULL: Json = {"type": "null"}
INT: Json = {"type": "integer"}
POSITIVE: Json = {"type": "integer", "minimum": 1}
NUMBER: Json = {"type": "number"}
SEALED: Json = {"type": "string", "x-personal-data": "sealed"}

# (what was published, what would take its place, rule, for whom it breaks, where)
BREAKING: list[tuple[str, Json, Json, str, Outsiders, str]] = [
    ("a field is removed", record(a=TEXT, b=TEXT), record(a=TEXT), "field-removed", BOTH, "b"),
    ("a new field is required", record(), record("a", a=TEXT), "required-added", WRITE, "a"),
    ("a field becomes required", record(a=TEXT), record("a", a=TEXT), "required-added", WRITE, "a"),
    ("a field may be left out", record("a", a=TEXT), record(a=TEXT), "no-longer-required", READ, "a"),
    ("a type is narrower", record(a=NUMBER), record(a=INT), "type-narrowed", WRITE, "a"),
    ("a type is wider", record(a=INT), record(a=NUMBER), "type-widened", READ, "a"),
    ("null is refused", record(a=either(TEXT, NULL)), record(a=TEXT), "type-narrowed", WRITE, "a"),
    ("null may come", record(a=TEXT), record(a=either(TEXT, NULL)), "type-widened", READ, "a"),
    ("an enum shrinks", record(a=enum("x", "y")), record(a=enum("x")), "enum-shrunk", WRITE, "a"),
    ("an enum grows", record(a=enum("x")), record(a=enum("x", "y")), "enum-grown", READ, "a"),
    ("text becomes an enum", record(a=TEXT), record(a=enum("x")), "enum-shrunk", WRITE, "a"),
    ("an enum becomes text", record(a=enum("x")), record(a=TEXT), "enum-grown", READ, "a"),
    ("a bound is tighter", record(a=upto(9)), record(a=upto(8)), "bound-tightened", WRITE, "a"),
    ("a bound appears", record(a=TEXT), record(a=TEXT | {"maxLength": 9}), "bound-tightened", WRITE, "a"),
    ("a least is higher", record(a=INT | {"minimum": 0}), record(a=POSITIVE), "bound-tightened", WRITE, "a"),
    ("a bound is looser", record(a=upto(8)), record(a=upto(9)), "bound-loosened", READ, "a"),
    ("a bound is gone", record(a=TEXT | {"maxLength": 9}), record(a=TEXT), "bound-loosened", READ, "a"),
    ("a pattern appears", record(a=TEXT), record(a=TEXT | {"pattern": "^a"}), "pattern-changed", WRITE, "a"),
    ("a pattern is gone", record(a=TEXT | {"pattern": "^a"}), record(a=TEXT), "pattern-changed", READ, "a"),
    ("a format appears", record(a=TEXT), record(a=TEXT | {"format": "date"}), "format-changed", WRITE, "a"),
    ("a format is gone", record(a=TEXT | {"format": "date"}), record(a=TEXT), "format-changed", READ, "a"),
    ("a default changes", record(a=TEXT | {"default": ""}), record(a=NONE), "default-changed", BOTH, "a"),
    ("an object is closed", record(), record(closed=True), "object-closed", WRITE, ""),
    ("an object is opened", record(closed=True), record(), "object-opened", READ, ""),
    ("a closed object grows", record(closed=True), record(a=TEXT, closed=True), "field-added-to-closed", READ, "a"),
    ("a seal is broken", record(a=SEALED), record(a=TEXT), "personal-data-unmarked", BOTH, "a"),
    (
        "within a list",
        record(a={"type": "array", "items": record(b=TEXT)}),
        record(a={"type": "array", "items": record()}),
        "field-removed",
        BOTH,
        "a[].b",
    ),
    (
        "within a map",
        record(a={"type": "object", "additionalProperties": INT}),
        record(a={"type": "object", "additionalProperties": NUMBER}),
        "type-widened",
        READ,
        "a.*",
    ),
    (
        "within a tuple",
        record(a={"type": "array", "prefixItems": [INT, TEXT]}),
        record(a={"type": "array", "prefixItems": [INT, INT]}),
        "type-narrowed",
        WRITE,
        "a[1]",
    ),
    (
        "behind a reference",
        record(a={"$ref": "#/$defs/A"}) | {"$defs": {"A": record("b", b=TEXT)}},
        record(a={"$ref": "#/$defs/B"}) | {"$defs": {"B": record(b=TEXT)}},
        "no-longer-required",
        READ,
        "a.b",
    ),
    ("by a keyword not known", record(a=INT), record(a=INT | {"multipleOf": 2}), "not-judged", BOTH, "a"),
]  # fmt: skip


@pytest.mark.parametrize(("_", "old", "new", "rule", "outsiders", "path"), BREAKING, ids=[each[0] for each in BREAKING])
def test_it_breaks_those_it_breaks_and_nobody_else(
    _: str, old: Json, new: Json, rule: str, outsiders: Outsiders, path: str
) -> None:
    for who in (READ, WRITE):
        found = {(each.rule, each.path) for each in compare(old, new, who)}
        assert ((rule, path) in found) == (who in outsiders)


@pytest.mark.parametrize(
    ("old", "new", "outsiders"),
    [
        (record(a=TEXT), record(a=TEXT, b=TEXT), BOTH),
        (record(closed=True), record(a=TEXT, closed=True), WRITE),
        (record(a=TEXT), record(a=TEXT | {"description": "now told", "title": "A"}), BOTH),
        (record(a=INT), record(a=NUMBER), WRITE),
        (record(a=enum("x")), record(a=enum("x", "y")), WRITE),
        (record("a", a=TEXT), record(a=TEXT), WRITE),
        (record(a=NUMBER), record(a=INT), READ),
        (record(a=enum("x", "y")), record(a=enum("x")), READ),
        (record(a=TEXT), record("a", a=TEXT), READ),
    ],
)
def test_what_breaks_nobody_passes(old: Json, new: Json, outsiders: Outsiders) -> None:
    assert compare(old, new, outsiders) == []


def test_a_tree_is_compared_without_end() -> None:
    def tree(leaf: Json) -> Json:
        node = record(leaf=leaf, children={"type": "array", "items": {"$ref": "#/$defs/Node"}})
        return {"$ref": "#/$defs/Node", "$defs": {"Node": node}}

    assert compare(tree(TEXT), tree(TEXT | {"title": "t"}), BOTH) == []
    assert [each.rule for each in compare(tree(INT), tree(NUMBER), READ)] == ["type-widened"]


def rules(file: str, old: Json, new: Json | None) -> list[tuple[str, str]]:
    return [(each.rule, each.path) for each in breaks(file, old, new)]


def test_a_fact_is_under_both_rules_and_what_outsiders_send_under_one() -> None:
    wide, narrow = record(a=enum("x", "y")), record(a=enum("x"))
    fact, from_outside = "messages/oms.capture.order-held.v1.json", "messages/oms.channel.order-placed.v1.json"
    assert rules(fact, wide, narrow) == [("enum-shrunk", "a")]
    assert rules(fact, narrow, wide) == [("enum-grown", "a")]
    assert rules(from_outside, wide, narrow) == [("enum-shrunk", "a")]
    assert rules(from_outside, narrow, wide) == []


def test_no_type_is_ever_removed_and_the_message_says_what_to_do() -> None:
    [found] = breaks("messages/oms.capture.order-held.v1.json", record(), None)
    assert found.rule == "removed"
    assert "schemas/messages/oms.capture.order-held.v1.json" in str(found)
    assert "add a new one with an upcaster" in str(found)


def service(**messages_by_operation: list[str]) -> Json:
    return {
        "channels": {"orders": {}},
        "operations": {
            name: {
                "action": name,
                "channel": {"$ref": "#/channels/orders"},
                "messages": [{"$ref": f"#/channels/orders/messages/{message}"} for message in messages],
            }
            for name, messages in messages_by_operation.items()
        },
    }


def test_a_service_keeps_telling_what_it_told_and_taking_what_it_took_from_outside() -> None:
    fact, feed = "oms.capture.order-held.v1", "oms.channel.order-placed.v1"
    old = service(send=[fact], receive=[feed])
    told = "asyncapi/capture.json"
    assert rules(told, old, service(send=[], receive=[feed])) == [("message-removed", "orders")]
    assert rules(told, old, service(send=[fact], receive=[])) == [("message-removed", "orders")]
    assert rules(told, old, service(send=[fact])) == [("operation-removed", "orders")]
    assert rules(told, old, {"channels": {}, "operations": {}}) == [("topic-removed", "orders")]
    assert rules(told, service(receive=[fact]), service(receive=[])) == []


def api(**operation: Any) -> Json:
    whole = {"responses": {"200": {"content": {"application/json": {"schema": record("a", a=TEXT)}}}}} | operation
    return {"paths": {"/orders/{id}": {"post": whole}}}


def takes(schema: Json, required: bool = True) -> Json:
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def answers(status: str, kind: str, schema: Json) -> Json:
    return {status: {"content": {kind: {"schema": schema}}}}


def parameter(name: str, required: bool = False, schema: Json = TEXT, place: str = "query") -> Json:
    return {"in": place, "name": name, "required": required, "schema": schema}


AT = "POST /orders/{id}"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (api(), {"paths": {}}, [("operation-removed", AT)]),
        (api(), api(security=[{"token": []}]), [("login-required", AT)]),
        (api(parameters=[parameter("q")]), api(), [("parameter-removed", f"{AT} query q")]),
        (api(), api(parameters=[parameter("q", True)]), [("required-added", f"{AT} query q")]),
        (api(), api(parameters=[parameter("q")]), []),
        (
            api(parameters=[parameter("q", schema=NUMBER)]),
            api(parameters=[parameter("q", schema=INT)]),
            [("type-narrowed", f"{AT} query q")],
        ),
        (
            api(parameters=[parameter("id", True, place="path")]),
            api(parameters=[parameter("order_id", True, place="path")]),
            [],
        ),
        (api(), api(requestBody=takes(record())), [("required-added", f"{AT} body")]),
        (api(requestBody=takes(record())), api(), [("body-removed", f"{AT} body")]),
        (
            api(requestBody=takes(record())),
            api(requestBody=takes(record("b", b=TEXT))),
            [("required-added", f"{AT} body b")],
        ),
        (api(), api(responses={"201": {}}), [("answer-removed", f"{AT} 200")]),
        (api(), api(responses=answers("200", "text/csv", {})), [("media-type-removed", f"{AT} 200")]),
        (
            api(),
            api(responses=answers("200", "application/json", record(a=TEXT))),
            [("no-longer-required", f"{AT} 200 a")],
        ),
        (api(), api(responses=answers("200", "application/json", record("a", "b", a=TEXT, b=TEXT))), []),
    ],
)
def test_a_surface_takes_what_it_took_and_answers_what_it_answered(
    old: Json, new: Json, expected: list[tuple[str, str]]
) -> None:
    assert rules("openapi/capture.json", old, new) == expected
