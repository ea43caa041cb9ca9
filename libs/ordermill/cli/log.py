"""The events themselves: one stream's, the newest of all logs, or one log's from a number on."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ordermill.names import SERVICES

from .client import NotThere
from .place import Unreachable, adopt, chosen, database_url, known_service, opened, opened_all
from .terminal import JsonOption, cell, instant, print_json, print_table

if TYPE_CHECKING:
    from ordermill.eventlog.records import Row, SequencedRow
    from ordermill.eventlog.store import Store

app = typer.Typer(help="The events themselves.", no_args_is_help=True)

OWNERS = {
    "order": "capture",
    "stock": "inventory",
    "reservation": "inventory",
    "plan": "routing",
    "policy": "routing",
    "fulfillment": "fulfillment",
    "shipment": "tracking",
    "status": "tracking",
    "purchase": "returns",
    "parcel": "returns",
    "return": "returns",
}
"""Which service's log holds a stream, by what its id begins with. Dead letters (`letter-…`) may lie in any."""

POLL_S = 0.2


@app.command()
def show(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="Like order-<id>, stock-<SKU>, plan-<order>.")],
    service: Annotated[str | None, typer.Option(help="Whose log; told by the stream's name but for letters.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a stream's events, oldest first. Exit status: 0 there are some, 1 no such stream."""
    owner = owner_of(stream, service)
    adopt()
    rows = asyncio.run(_read_stream(owner, stream))
    if not rows:
        raise NotThere(f"no stream {stream!r} in the log of {owner}")
    if as_json:
        for row in rows:
            print_json({"service": owner, **row_as_json(row)})
        return
    print_table(
        ["version", "happened", "type", "actor", "data"],
        [
            [row.version, instant(row.happened_at), row.type, row.actor, row.data.decode(errors="replace")]
            for row in rows
        ],
    )


def owner_of(stream: str, service: str | None) -> str:
    """Raises BadParameter where neither says."""
    if service is not None:
        return known_service(service)
    category, _, key = stream.partition("-")
    if category == "checkpoint" and key in SERVICES:
        return key
    if category not in OWNERS:
        hint = "a dead letter may lie in any log" if category == "letter" else f"known are {', '.join(OWNERS)}"
        raise typer.BadParameter(f"{stream!r}: whose stream is it? {hint}. Name the service with --service")
    return OWNERS[category]


async def _read_stream(service: str, stream: str) -> list[Row]:
    async with opened(service) as store:
        return await store.read_stream(stream)


def row_as_json(row: Row) -> dict[str, Any]:
    """An event as its log holds it."""
    try:
        data = json.loads(row.data)
    except ValueError:
        data = row.data.decode(errors="replace")
    return {
        "stream": row.stream,
        "version": row.version,
        "event_id": str(row.event_id),
        "type": row.type,
        "data": data,
        "actor": row.actor,
        "correlation_id": row.correlation_id,
        "causation_id": row.causation_id,
        "happened_at": row.happened_at,
        "recorded_at": row.recorded_at,
        "hash": row.hash.hex(),
    }


@app.command()
def tail(
    service: Annotated[str | None, typer.Option(help="Only this log.")] = None,
    count: Annotated[int, typer.Option("-n", min=0, max=100_000, help="How many of the newest events.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the newest events of all logs, merged by the time they were recorded."""
    services = chosen(service)
    adopt()

    async def work() -> None:
        async with opened_all(services) as stores:
            async for name, sequenced in newest(stores, count, follow):
                _print_line(name, sequenced, as_json)

    asyncio.run(work())


async def newest(stores: dict[str, Any], count: int, follow: bool = False) -> AsyncIterator[tuple[str, SequencedRow]]:
    """The newest `count` events of these logs, then, if told, each new one. Numbers tell what is new, not clocks."""
    found: list[tuple[str, SequencedRow]] = []
    read_to: dict[str, int] = {}
    for name, store in stores.items():
        read_to[name] = await store.head()
        found += [(name, row) for row in await _between(store, max(0, read_to[name] - count), read_to[name])]
    for item in _by_time(found)[-count:] if count else ():
        yield item
    while follow:
        fresh: list[tuple[str, SequencedRow]] = []
        for name, store in stores.items():
            rows = await store.read(read_to[name], 1_000)
            if rows:
                read_to[name] = rows[-1].seq
                fresh += [(name, row) for row in rows]
        for item in _by_time(fresh):
            yield item
        if not fresh:
            await asyncio.sleep(POLL_S)


async def _between(store: Store, after: int, last: int) -> list[SequencedRow]:
    rows: list[SequencedRow] = []
    while after < last and (page := await store.read(after, min(5_000, last - after))):
        rows += page
        after = page[-1].seq
    return rows


def _by_time(rows: Sequence[tuple[str, SequencedRow]]) -> list[tuple[str, SequencedRow]]:
    return sorted(rows, key=lambda item: (item[1].row.recorded_at, item[0], item[1].seq))


def _print_line(service: str, sequenced: SequencedRow, as_json: bool) -> None:
    row = sequenced.row
    if as_json:
        print_json({"service": service, "seq": sequenced.seq, **row_as_json(row)})
    else:
        recorded = f"{row.recorded_at:%Y-%m-%d %H:%M:%S.%f}"[:-3]
        print(f"{recorded}  {service:<11}  {sequenced.seq:>8}  {row.type:<42}  {row.stream}  {cell(row.actor)}")
    sys.stdout.flush()


@app.command()
def follow(
    service: Annotated[str, typer.Argument(metavar="SERVICE")],
    after: Annotated[int, typer.Option(min=0, help="Begin behind this sequence number.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Follow one log from a sequence number on, every event in order, until Ctrl-C.

    Reads as any application of the `eventsourcing` library does: through a subscription of its recorder.
    """
    known_service(service)
    adopt()
    from eventsourcing.persistence import OperationalError

    from ordermill.eventlog import recorder

    try:
        with recorder.LogRecorder.open(database_url(service)) as log:
            for event in recorder.follow(log, after):
                _print_notification(event, as_json)
    except OperationalError as error:
        raise Unreachable(f"the log of {service}: {error}. `oms doctor` says more") from error


def _print_notification(event: Any, as_json: bool) -> None:
    state = event.state.decode(errors="replace")
    if as_json:
        try:
            data = json.loads(state)
        except ValueError:
            data = state
        print_json(
            {
                "seq": event.id,
                "stream": str(event.originator_id),
                "version": event.originator_version,
                "type": event.topic,
                "data": data,
            }
        )
    else:
        print(f"{event.id:>8}  {event.topic:<42}  {event.originator_id}  {event.originator_version}  {cell(state)}")
    sys.stdout.flush()
