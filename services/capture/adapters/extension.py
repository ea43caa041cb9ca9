"""What a vendor's format has no place for travels in that vendor's own extension place, as JSON.

`render` writes an order natively, adapts that, and puts only the differences there. So what stands in the extension
is what the format would have lost, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from ordermill.contracts.base import explain
from ordermill.contracts.channel import OrderPlaced

from .base import AdapterContext, CannotRender, ChannelAdapter, Unfit, one_currency

NAME = "_ordermill"


def carry(adapter: ChannelAdapter, order: OrderPlaced, write: Callable[[str], bytes], context: AdapterContext) -> bytes:
    """`order` as `write` writes it, with an extension that holds what `adapter` would not get back from that.

    Raises CannotRender if it is not the same order then: nothing is lost unsaid.
    """
    one_currency(adapter.name, order)
    payload = write("")
    lost = _difference(order.model_dump(mode="json"), _read(adapter, order, payload, context).model_dump(mode="json"))
    if lost is _SAME:
        return payload
    # Compact JSON has spaces in strings only; escaped, no format can strip them where it cuts the text.
    payload = write(json.dumps(lost, separators=(",", ":")).replace(" ", r"\u0020"))
    if _read(adapter, order, payload, replace(context, honors_extension=True)) != order:
        raise CannotRender(adapter.name, order, "something of it would get lost")
    return payload


def _read(adapter: ChannelAdapter, order: OrderPlaced, payload: bytes, context: AdapterContext) -> OrderPlaced:
    adapted = adapter.adapt(payload, context)
    for message in adapted.messages:
        if isinstance(message, OrderPlaced):
            return message
    raise CannotRender(adapter.name, order, str((adapted.rejections + adapted.notes)[0]))


def restore(seen: OrderPlaced, extension: str) -> OrderPlaced:
    """`seen` with the differences that `carry` wrote put back. Raises Unfit if `extension` is damaged."""
    try:
        whole = _merge(seen.model_dump(mode="json"), json.loads(extension))
        return OrderPlaced.model_validate_json(json.dumps(whole))
    except ValidationError as error:
        raise Unfit(
            "bad-extension", f"the Ordermill extension does not fit its order: {explain(error)}. Render it again"
        ) from None
    except (ValueError, LookupError, RecursionError):
        raise Unfit("bad-extension", "the Ordermill extension is damaged. Render the order again") from None


_SAME = object()


def _difference(wanted: Any, seen: Any) -> Any:
    """What to merge into `seen` to get `wanted`: a part of an object, a part of a list by index, or a new value."""
    if isinstance(wanted, dict) and isinstance(seen, dict) and wanted.keys() == seen.keys():
        pairs: list[tuple[str, Any, Any]] = [(key, wanted[key], seen[key]) for key in wanted]
    elif isinstance(wanted, list) and isinstance(seen, list) and len(wanted) == len(seen) > 0:
        pairs = [(str(index), *both) for index, both in enumerate(zip(wanted, seen, strict=True))]
    else:
        return _SAME if wanted == seen else wanted
    parts = {key: part for key, one, other in pairs if (part := _difference(one, other)) is not _SAME}
    return parts or _SAME


def _merge(seen: Any, part: Any) -> Any:
    if isinstance(part, dict) and isinstance(seen, dict):
        return seen | {key: _merge(seen.get(key), value) for key, value in part.items()}
    if isinstance(part, dict) and isinstance(seen, list):
        merged = list(seen)
        for key, value in part.items():
            merged[int(key)] = _merge(merged[int(key)], value)
        return merged
    return part
