"""What was true at a moment, and that it is what was recorded."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ordermill.errors import Refused
from ordermill.names import SERVICES

from .client import NotThere, connect
from .log import owner_of
from .orders import find_order
from .place import adopt, declared, opened, opened_all
from .prove import streams_of_order
from .stock import print_skus
from .terminal import JsonOption, cell, heading, instant, print_json, print_pairs, print_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ordermill.eventlog.aggregates import Aggregates
    from ordermill.eventlog.engine import Rules
    from ordermill.eventlog.records import Row

app = typer.Typer()


class OutOfTurn(Refused):
    """What had happened by a moment rests on what, by another clock, had not."""

    code = "cli.out-of-turn"

    def __init__(self, stream: str, missing: Row) -> None:
        super().__init__(
            f"{stream}: version {missing.version} ({missing.type}) happened at {instant(missing.happened_at)} by its "
            f"sender's clock, and what follows from it before that, so there is no state between. "
            f"Ask what was known: --known"
        )


@dataclass(frozen=True)
class Moment:
    """A stream at a moment: `state` as its view shows it after `events` of the `of` that there are, None after none."""

    service: str
    stream: str
    state: Any
    events: int
    of: int
    last: Row | None


@app.command(name="as-of")
def as_of(
    at: Annotated[
        str,
        typer.Argument(
            metavar="INSTANT",
            help="UTC if it tells no offset, like 2026-03-02, 2026-03-02T10:15:00 or as events show it.",
        ),
    ],
    order: Annotated[
        list[str] | None,
        typer.Argument(metavar="ORDER…", help="The order's id, its channel's id, or CHANNEL and that id."),
    ] = None,
    stream: Annotated[
        str | None,
        typer.Option(metavar="STREAM", help="Instead of an order: one stream, like stock-<SKU>, shipment-<id>."),
    ] = None,
    stock: Annotated[
        bool, typer.Option("--stock", help="Instead of an order: every SKU, how many were where.")
    ] = False,
    known: Annotated[
        bool, typer.Option("--known", help="As it was known: what was recorded by then, not what had happened.")
    ] = False,
    service: Annotated[
        str | None, typer.Option(help="Whose log the stream is in; told by its name but for letters.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show an order in all services, all stock, or one stream as it was at a moment, folded from the events.

    Each event's hash is worked out on the way. What happened before the moment and was told later counts, but for
    --known. Exit status: 0 shown, 1 there was nothing by then, or an event is not as it was recorded.
    """
    if bool(order) + bool(stream) + stock != 1:
        raise typer.BadParameter("expected an order, or --stream and a stream's name, or --stock")
    moment = utc(at)
    about = f"as it was {'known ' if known else ''}at"
    nothing = f"nothing of it had {'been recorded' if known else 'happened'} by {instant(moment)}"
    if stock:
        adopt()
        skus = asyncio.run(_stock(moment, known))
        if not skus:
            raise NotThere(f"stock: {nothing}")
        if as_json:
            for sku in skus:
                print_json(sku)
        else:
            print_skus(skus)
        say(f"stock {about} {instant(moment)}: {len(skus)} SKUs")
        return
    if stream:
        owner = owner_of(stream, service)
        adopt()
        named, found = stream, asyncio.run(_moments_of({owner: [stream]}, moment, known))
        if not found:
            raise NotThere(f"no stream {stream!r} in the log of {owner}")
    else:
        order_id = find_order(connect(), order or [])["order_id"]
        named, found = f"order {order_id}", asyncio.run(_moments_of_order(order_id, moment, known))
    begun = [each for each in found if each.last is not None]
    if not begun:
        raise NotThere(f"{named}: {nothing}")
    if as_json:
        for each in begun:
            print_json(_told(each, moment, known))
    else:
        print_pairs([("of", named), (about, instant(moment))])
        _print_moments(found)


def utc(text: str) -> datetime:
    """An instant in ISO 8601, with a space for the T too. Raises BadParameter."""
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r}: expected an instant, like 2026-03-02 or 2026-03-02T10:15:00", param_hint="INSTANT"
        ) from None


def _print_moments(found: Sequence[Moment]) -> None:
    heading("Last events")
    print_table(["stream", "events", "last", "version", "happened", "its hash"], map(_line, found))
    for each in found:
        if each.last is not None:
            heading(f"{each.stream}, in the log of {each.service}")
            for line in json.dumps(each.state, indent=2, ensure_ascii=False).splitlines():
                print(line[: len(line) - len(line.lstrip())] + cell(line.lstrip()))


def _line(found: Moment) -> list[Any]:
    line: list[Any] = [found.stream, f"{found.events} of {found.of}"]
    if found.last is None:
        return [*line, "", "", "", ""]
    return [*line, found.last.type, found.last.version, instant(found.last.happened_at), found.last.hash.hex()]


def _told(found: Moment, at: datetime, known: bool) -> dict[str, Any]:
    assert found.last is not None
    return {
        "service": found.service,
        "stream": found.stream,
        "at": at,
        "known": known,
        "events": found.events,
        "of": found.of,
        "version": found.last.version,
        "hash": found.last.hash.hex(),
        "state": found.state,
    }


async def _stock(at: datetime, known: bool) -> list[dict[str, Any]]:
    rules = declared("inventory")[0].rules()
    async with opened("inventory") as store:
        found = [
            moment_of("inventory", rules, stream, rows, at, known) async for stream, rows in store.all_streams("stock")
        ]
    return [{"key": each.stream.partition("-")[2], **each.state} for each in found if each.last is not None]


async def _moments_of_order(order_id: str, at: datetime, known: bool) -> list[Moment]:
    async with opened_all(SERVICES) as stores:
        streams = await streams_of_order(stores, order_id)
    return await _moments_of(streams, at, known)


async def _moments_of(streams: dict[str, list[str]], at: datetime, known: bool) -> list[Moment]:
    """Of each stream that there is."""
    found = []
    for service, names in streams.items():
        rules = declared(service)[0].rules()
        async with opened(service) as store:
            for stream in names:
                if rows := await store.read_stream(stream):
                    found.append(moment_of(service, rules, stream, rows, at, known))
    return found


def moment_of(
    service: str, rules: Rules, stream: str, rows: Sequence[Row], at: datetime, known: bool = False
) -> Moment:
    """`rows`: the whole stream, in order. Raises NotAsRecorded, OutOfTurn."""
    from ordermill.eventlog.aggregates import Aggregates
    from ordermill.eventlog.records import check_chain

    check_chain(rows)
    if known:  # whatever a clock that was set back says: who recorded an event knew of all before it
        taken = list(rows[: max((row.version for row in rows if row.recorded_at <= at), default=0)])
    else:
        taken = [row for row in rows if row.happened_at <= at]
    if not taken:
        return Moment(service, stream, None, 0, len(rows), None)
    try:
        shown = _shown(Aggregates(rules.deciders), rules, stream, taken)
    except (KeyError, ValueError, AttributeError, TypeError):
        left_out = [row for row in rows if row.version < taken[-1].version and row not in taken]
        if not left_out:
            raise
        raise OutOfTurn(stream, left_out[0]) from None
    return Moment(service, stream, shown, len(taken), len(rows), taken[-1])


def _shown(aggregates: Aggregates, rules: Rules, stream: str, rows: list[Row]) -> Any:
    state = aggregates.fold(stream, rows).state
    category = stream.partition("-")[0]
    view = next((each for each in rules.views if each.category == category), None)
    return view.document(state) if view else json.loads(aggregates.state_bytes(stream, state))
