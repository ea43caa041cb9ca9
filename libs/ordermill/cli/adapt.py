"""What a channel's payload becomes: read here, sent nowhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from typing import Annotated, Any

import typer

from .terminal import DONE, WRONG, JsonOption, print_json, say

app = typer.Typer()

FileArgument = Annotated[
    typer.FileBinaryRead, typer.Argument(metavar="FILE", help="The payload's file; `-` is stdin.", show_default=False)
]
ChannelOption = Annotated[
    str, typer.Option(help="The channel that it came by; the one that a canonical payload names, else `store`.")
]
TopicOption = Annotated[str | None, typer.Option(help="What kind of message it is: Shopify's X-Shopify-Topic.")]
CurrencyOption = Annotated[str, typer.Option(help="For formats or documents that name no currency.")]
ZoneOption = Annotated[str | None, typer.Option(help="The IANA time zone of local times without an offset.")]


@dataclass(frozen=True)
class Said:
    """What the bytes of a payload don't say."""

    channel: str = ""
    topic: str | None = None
    currency: str = "USD"
    zone: str | None = None


@app.command()
def adapt(
    name: Annotated[str, typer.Argument(metavar="FORMAT", help="canonical, shopify, x12-850 or pos-csv.")],
    file: FileArgument,
    channel: ChannelOption = "",
    topic: TopicOption = None,
    currency: CurrencyOption = "USD",
    zone: ZoneOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which canonical messages a payload becomes, or why none. Needs no installation and touches nothing.

    Each message is a line of JSON, a CloudEvents event that `oms orders submit -` takes. Reasons go to stderr; with
    --json they are lines too. Exit status: 0 all of it became messages, 1 something was rejected.
    """
    adapted = adapt_payload(name, file.read(), Said(channel, topic, currency, zone))
    for message in adapted.messages:
        print_json(event_of(message))
    tell_reasons(adapted, as_json)
    raise typer.Exit(WRONG if adapted.rejections else DONE)


def adapt_payload(name: str, payload: bytes, said: Said) -> Any:
    """What the adapter of that format makes of a payload, as capture would have it."""
    adapters = import_module("services.capture.adapters")
    if name not in adapters.ADAPTERS:
        raise typer.BadParameter(f"no adapter reads {name!r}; there are: {', '.join(sorted(adapters.ADAPTERS))}")
    channel = said.channel or _channel_named_in(name, payload) or "store"
    context = adapters.AdapterContext(
        channel, datetime.now(UTC), currency=said.currency, topic=said.topic, zone=_zone(said.zone)
    )
    return adapters.adapt(name, payload, context)


def tell_reasons(adapted: Any, as_json: bool) -> None:
    for kind, reasons in (("rejected", adapted.rejections), ("note", adapted.notes)):
        for reason in reasons:
            if as_json:
                print_json({kind: {"code": reason.code, "where": reason.where, "text": reason.text}})
            else:
                say(f"{kind}: {reason}")


def event_of(message: Any) -> dict[str, Any]:
    """A message as a CloudEvents event in structured mode; the same message has the same id."""
    from ordermill.ids import derived_id

    content = message.to_json().decode()
    return {
        "specversion": "1.0",
        "id": derived_id("adapted", message.type, content),
        "source": f"/channels/{message.channel}",
        "type": message.type,
        "datacontenttype": "application/json",
        "data": message.model_dump(mode="json"),
    }


def _channel_named_in(name: str, payload: bytes) -> str:
    if name != "canonical":
        return ""
    found = re.search(rb'"channel"\s*:\s*"([a-z0-9][a-z0-9-]{0,39})"', payload)
    return found[1].decode() if found else ""


def _zone(name: str | None) -> Any:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise typer.BadParameter(f"no time zone {name!r}: expected an IANA name like America/New_York") from None
