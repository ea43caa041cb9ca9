"""Our own messages as JSON: what a channel sends that speaks Ordermill's language.

Taken are one message, a JSON array of them, or one a line; each as a CloudEvents 1.0 event in structured mode, or
bare with its `type` beside its fields.
"""

from __future__ import annotations

import json
from typing import Any, get_args

import orjson

from ordermill.contracts.base import UnknownType, UnknownVersion, decode
from ordermill.contracts.channel import ChannelOrder, OrderPlaced
from ordermill.ids import derived_id

from .base import MEGABYTE, Adapted, AdapterContext, Findings, Unfit, check_size, note_wrong_total
from .reading import parse_json, utf8


class CanonicalAdapter:
    """Ordermill's own contract, as JSON."""

    name = "canonical"
    media_type = "application/cloudevents+json"
    extension = "json"
    max_bytes = MEGABYTE

    def adapt(self, payload: bytes, context: AdapterContext) -> Adapted:
        found = Findings(self.name)
        with found.payload():
            check_size(payload, self.max_bytes)
            for where, entry in _entries(utf8(payload)):
                with found.item(where) as messages:
                    message = _message(parse_json(entry, exact=False) if isinstance(entry, str) else entry, context)
                    messages.append(message)
                    if isinstance(message, OrderPlaced):
                        note_wrong_total(found, message, where)
        return found.result()

    def render(self, order: OrderPlaced) -> bytes:
        event = {
            "specversion": "1.0",
            "id": derived_id("rendered", order.channel, order.external_id),
            "source": f"/channels/{order.channel}",
            "type": order.type,
            "datacontenttype": "application/json",
            "data": orjson.Fragment(order.to_json()),
        }
        return orjson.dumps(event)


def _entries(text: str) -> list[tuple[str, Any]]:
    """Each message's place and its JSON, parsed or still as text. Raises Unfit for an empty array or no JSON at all."""
    try:
        whole = parse_json(text, exact=False)
    except Unfit:
        lines = [(f"line {number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        if len(lines) > 1 and any(_is_message(line) for _, line in lines):
            return list(lines)
        raise
    if not isinstance(whole, list):
        return [("message", whole)]
    if not whole:
        raise Unfit("empty", "expected messages and found an empty array. Send at least one")
    return [(f"message {number}", one) for number, one in enumerate(whole, 1)]


def _is_message(line: str) -> bool:
    """A line that stands for itself; the lines of one pretty-printed message don't."""
    try:
        return isinstance(parsed := parse_json(line, exact=False), dict) and "type" in parsed
    except Unfit:
        return False


def _message(entry: Any, context: AdapterContext) -> ChannelOrder:
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
        raise Unfit("no-type", 'expected an object with a "type" such as oms.channel.order-placed.v1. Name the type')
    name: str = entry["type"]
    if "specversion" in entry:
        data = entry.get("data")
        if not isinstance(data, dict):
            raise Unfit("no-data", 'expected a CloudEvents event with an object as "data". Send the message there')
    else:
        data = {key: value for key, value in entry.items() if key != "type"}
    try:
        message = decode(name, json.dumps(data).encode())
    except (UnknownType, UnknownVersion) as error:
        raise Unfit("unknown-type", str(error)) from None
    if not isinstance(message, get_args(ChannelOrder)):
        raise Unfit("unknown-type", f"{name} is no message of a channel. Send an order placed, changed or canceled")
    order: ChannelOrder = message
    if order.channel != context.channel:
        raise Unfit(
            "other-channel",
            f"came by channel {context.channel!r} and says {order.channel!r}. A channel speaks for itself only",
            f"order {order.external_id[:60]!r}",
        )
    return order
