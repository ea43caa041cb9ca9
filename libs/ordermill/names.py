"""The services of an installation, in the order in which an order meets them, and the console that shows them."""

from __future__ import annotations

from collections.abc import Mapping

SERVICES = ("capture", "inventory", "routing", "fulfillment", "tracking", "returns")
"""Those that decide: each with a log, a topic of its own and HTTP."""

CONSOLE = "console"
"""Decides nothing: reads all topics into tables of its own, and has pages for people."""

SIMULATOR = "simulator"
"""No part of the product: carriers and a payment provider to try it with, as a process that services call over HTTP."""

SURFACES = (*SERVICES, CONSOLE)
"""What speaks HTTP, each with a published OpenAPI document."""


def url_of(service: str, environment: Mapping[str, str]) -> str | None:
    """Where a service's HTTP is: OMS_<SERVICE>_URL, or its own host and port; None where neither is set."""
    name = service.upper()
    if url := environment.get(f"OMS_{name}_URL"):
        return url.rstrip("/")
    port = environment.get(f"OMS_{name}_PORT")
    host = environment.get(f"OMS_{name}_HOST", "127.0.0.1")
    return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}" if port else None  # noqa: S104
