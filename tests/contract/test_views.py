"""A view that shows a stream otherwise than before has another version: so operators are told to build it anew."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from typing import Any

import orjson
import pytest

from ordermill.contracts.base import decode
from ordermill.names import SERVICES
from ordermill.schemas.surfaces import declared

from .history import recorded

KNOWN: dict[str, tuple[int, str]] = {
    "capture orders": (2, "71b8f98d48ddba3a"),
    "capture dead_letters": (1, "992068b1710bddca"),
    "inventory stock": (1, "c81ee6a2c8f4b3dd"),
    "inventory reservations": (1, "6b7ed17b941f84e0"),
    "inventory dead_letters": (1, "4693f416588208c1"),
    "routing plans": (1, "25164eec9ed020f2"),
    "routing policies": (1, "6db4528281259f23"),
    "routing dead_letters": (1, "ee4e4507ebf17f3a"),
    "fulfillment fulfillments": (1, "a1f2ed27f10b3990"),
    "fulfillment dead_letters": (1, "c9d8cff13e725050"),
    "tracking shipments": (1, "803364f58656e9ef"),
    "tracking order_status": (1, "60ad11906848a806"),
    "tracking dead_letters": (1, "78f93358bbc2347c"),
    "returns returns": (1, "8ad3aff21b25a0e7"),
    "returns purchases": (1, "6e299cee0a3656a8"),
    "returns dead_letters": (1, "5c08559185e3eaa0"),
}
"""Each view's version, and what it makes of the history."""
VIEWS = [(service, view) for service in SERVICES for view in declared(service).rules().views]


@cache
def states(service: str) -> dict[str, Any]:
    """Every stream of a service as the history leaves it."""
    deciders = {decider.category: decider for decider in declared(service).rules().deciders}
    found: dict[str, Any] = {}
    for event in recorded():
        if event.service == service:
            decider = deciders[event.stream.partition("-")[0]]
            state = found.get(event.stream, decider.initial)
            found[event.stream] = decider.evolve(state, decode(event.type, event.data.encode()))
    return found


@pytest.mark.parametrize(("service", "view"), VIEWS, ids=lambda each: getattr(each, "name", each))
def test_a_view_that_shows_recorded_events_otherwise_has_another_version(service: str, view: Any) -> None:
    prefix = f"{view.category}-"
    shown = {s: view.document(state) for s, state in sorted(states(service).items()) if s.startswith(prefix)}
    made = sha256(orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
    name = f"{service} {view.name}"
    version, known = KNOWN[name]
    if made != known:
        assert view.version > version, f"{name} has changed: count its View's version up to {version + 1}"
    assert (view.version, made) == (version, known), f'here belongs "{name}": ({view.version}, "{made}")'


def test_the_history_tells_of_every_view() -> None:
    for service, view in VIEWS:
        assert any(stream.startswith(f"{view.category}-") for stream in states(service))
