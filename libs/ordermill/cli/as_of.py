"""What was true at a moment, and that it is what was recorded."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .client import NotThere
from .log import owner_of
from .place import adopt, declared, opened
from .terminal import JsonOption, cell, heading, instant, print_json, print_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ordermill.eventlog.engine import Rules
    from ordermill.eventlog.records import Row

app = typer.Typer()


@dataclass(frozen=True)
class Moment:
    """A stream at a moment: `state` as its view shows it, after `events` of the `of` that there are."""

    state: Any
    events: int
    of: int
    last: Row | None


@app.command(name="as-of")
def as_of(
    at: Annotated[
        datetime,
        typer.Argument(
            metavar="INSTANT",
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f"],
            help="UTC, like 2026-03-02 or 2026-03-02T10:15:00.",
        ),
    ],
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="Like order-<id>, stock-<SKU>, plan-<order>.")],
    known: Annotated[
        bool, typer.Option("--known", help="As it was known: what was recorded by then, not what had happened.")
    ] = False,
    service: Annotated[str | None, typer.Option(help="Whose log; told by the stream's name but for letters.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show an order, an article's stock, a plan, a parcel or a return as it was at a moment, folded from its events.

    Each event's hash is worked out on the way. What happened before the moment and was told later counts, but for
    --known. Exit status: 0 shown, 1 there was nothing by then, or an event is not as it was recorded.
    """
    owner = owner_of(stream, service)
    adopt()
    moment = at.replace(tzinfo=UTC)

    async def read() -> list[Row]:
        async with opened(owner) as store:
            return await store.read_stream(stream)

    rows = asyncio.run(read())
    if not rows:
        raise NotThere(f"no stream {stream!r} in the log of {owner}")
    found = moment_of(declared(owner)[0].rules(), stream, rows, moment, known)
    if found.last is None:
        raise NotThere(f"{stream}: nothing of it had {'been recorded' if known else 'happened'} by {instant(moment)}")
    told = {
        "stream": stream,
        "at": moment,
        "known": known,
        "events": found.events,
        "of": found.of,
        "version": found.last.version,
        "hash": found.last.hash.hex(),
    }
    if as_json:
        print_json({**told, "state": found.state})
        return
    print_pairs(
        [
            ("stream", stream),
            ("as it was known at" if known else "as it was at", instant(moment)),
            ("events", f"{found.events} of {found.of}"),
            ("last", f"{found.last.type}, version {found.last.version}, {instant(found.last.happened_at)}"),
            ("its hash", told["hash"]),
        ]
    )
    heading("State")
    for line in json.dumps(found.state, indent=2, ensure_ascii=False).splitlines():
        print(line[: len(line) - len(line.lstrip())] + cell(line.lstrip()))


def moment_of(rules: Rules, stream: str, rows: Sequence[Row], at: datetime, known: bool = False) -> Moment:
    """`rows`: the whole stream, in order. Raises NotAsRecorded."""
    from ordermill.eventlog.aggregates import Aggregates
    from ordermill.eventlog.records import check_chain

    check_chain(rows)
    taken = [row for row in rows if (row.recorded_at if known else row.happened_at) <= at]
    aggregates = Aggregates(rules.deciders)
    state = aggregates.fold(stream, taken).state
    category = stream.partition("-")[0]
    view = next((each for each in rules.views if each.category == category), None)
    shown = view.document(state) if view else json.loads(aggregates.state_bytes(stream, state))
    return Moment(shown, len(taken), len(rows), taken[-1] if taken else None)
