"""Channel adapters: vendors' bytes in, our messages out, one file a format. `base.py` says what an adapter is."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ordermill.contracts.channel import OrderPlaced

from .amounts import decimal_to_minor
from .base import Adapted, AdapterContext, CannotRender, ChannelAdapter, Reason, UnknownFormat
from .canonical import CanonicalAdapter
from .pos_csv import PosCsvAdapter
from .shopify import ShopifyAdapter, verify_shopify_hmac
from .x12_850 import X12Adapter

ADAPTERS: Mapping[str, ChannelAdapter] = MappingProxyType(
    {adapter.name: adapter for adapter in (CanonicalAdapter(), ShopifyAdapter(), X12Adapter(), PosCsvAdapter())}
)
"""Every format that we read, by its name. A new one is one file and one entry here."""


def adapter(name: str) -> ChannelAdapter:
    """Raises UnknownFormat."""
    if name not in ADAPTERS:
        raise UnknownFormat(name, sorted(ADAPTERS))
    return ADAPTERS[name]


def adapt(name: str, payload: bytes, context: AdapterContext) -> Adapted:
    """What the format called `name` makes of `payload`. Raises UnknownFormat, and nothing over the payload."""
    return adapter(name).adapt(payload, context)


def render(name: str, order: OrderPlaced) -> bytes:
    """`order` in the format called `name`. Raises UnknownFormat, CannotRender."""
    return adapter(name).render(order)


__all__ = [
    "ADAPTERS",
    "Adapted",
    "AdapterContext",
    "CannotRender",
    "ChannelAdapter",
    "Reason",
    "UnknownFormat",
    "adapt",
    "adapter",
    "decimal_to_minor",
    "render",
    "verify_shopify_hmac",
]
