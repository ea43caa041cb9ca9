"""Yesterday under another policy."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .place import adopt, opened
from .terminal import DONE, JsonOption, heading, print_json, print_table
from .terminal import money as in_currency

if TYPE_CHECKING:
    from ordermill.eventlog.store import Store

app = typer.Typer()
_PAGE = 2_000

_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


@app.command(name="what-if")
def what_if(
    policy: Annotated[
        Path, typer.Argument(metavar="POLICY", help="A routing policy (TOML).", exists=True, dir_okay=False)
    ],
    network: Annotated[
        Path | None,
        typer.Option(help="Another network (TOML); without it each decision's own.", exists=True, dir_okay=False),
    ] = None,
    since: Annotated[
        datetime | None, typer.Option("--from", formats=_FORMATS, help="Only decisions from then on, UTC.")
    ] = None,
    until: Annotated[datetime | None, typer.Option("--to", formats=_FORMATS, help="Only those before, UTC.")] = None,
    most: Annotated[int, typer.Option(min=0, max=10_000, help="How many changed orders to list.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Make routing's decisions again under another policy: what it would have changed. Nothing is changed by it.

    Each is made from what routing saw then; that those before it would have left stock elsewhere is not followed.
    Exit status: 0 told, 1 a file is no policy or network.
    """
    adopt()
    files = policy.read_text("utf-8"), network.read_text("utf-8") if network else None
    span = tuple(at.replace(tzinfo=UTC) if at else None for at in (since, until))

    async def work() -> Any:
        async with opened("routing") as store:
            return await decided_again(store, *files, *span)

    found = asyncio.run(work())
    if as_json:
        print_json(report(found, most))
    else:
        _print(found, most)
    raise typer.Exit(DONE)


async def decided_again(
    store: Store,
    policy: str,
    network: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Any:
    """Routing's whole log, decided again. Raises PolicyInvalid, NetworkInvalid."""
    from ordermill.contracts.base import decode

    module = import_module("services.routing.what_if")
    found, types = module.WhatIf(policy, network, since, until), {kind.type for kind in module.TAKEN}
    after = 0
    while page := await store.read(after, _PAGE):
        for sequenced in page:
            if sequenced.row.type in types:
                found.take(decode(sequenced.row.type, sequenced.row.data))
        after = page[-1].seq
    return found


def report(found: Any, most: int) -> dict[str, Any]:
    """As JSON."""
    return {
        "then": _side(found.then),
        "now": _side(found.now),
        "currency": found.currency or None,
        "changed": len(found.changes),
        "arrive_earlier": found.earlier,
        "arrive_later": found.later,
        "orders": [_change(change) for change in _largest(found, most)],
    }


def _side(side: Any) -> dict[str, Any]:
    return {
        "routed": side.routed,
        "no_plan": side.no_plan,
        "parcels": side.parcels,
        "split": side.split,
        "postage_minor": side.postage_minor,
        "days": round(side.days, 2),
        "units": dict(sorted(side.units.items())),
    }


def _change(change: Any) -> dict[str, Any]:
    module = import_module("services.routing.what_if")
    sides = {"then": change.then, "now": change.now}
    return {
        "order_id": change.order_id,
        "plan_id": change.plan_id,
        "postage_minor": change.postage_minor,
        **{f"from_{name}": dict(module.places(shipments)) for name, shipments in sides.items()},
        **{
            f"arrives_{name}": module.arrival(shipments).isoformat() if shipments else None
            for name, shipments in sides.items()
        },
    }


def _largest(found: Any, most: int) -> list[Any]:
    """Those whose postage would change most first; as they were decided among equals."""
    return sorted(found.changes, key=lambda change: -abs(change.postage_minor))[:most]


def _print(found: Any, most: int) -> None:
    def money(minor: int) -> str:
        return in_currency(minor, found.currency) if found.currency else "0"

    then, now = found.then, found.now
    rows = [
        ("decisions with a plan", then.routed, now.routed),
        ("no plan", then.no_plan, now.no_plan),
        ("parcels", then.parcels, now.parcels),
        ("from several locations", then.split, now.split),
        ("postage", money(then.postage_minor), money(now.postage_minor)),
        ("days to the last unit", f"{then.days:.2f}", f"{now.days:.2f}"),
        *((f"units from {place}", then.units[place], now.units[place]) for place in sorted({*then.units, *now.units})),
    ]
    print_table(["", "then", "under this policy"], [list(row) for row in rows])
    print(f"{len(found.changes)} decisions would be others; {found.earlier} arrive earlier, {found.later} later")
    if changes := [_change(change) for change in _largest(found, most)]:
        heading("Those that differ most in postage")
        print_table(
            ["order", "postage", "from then", "from now", "arrives then", "arrives now"],
            [
                [
                    each["order_id"],
                    money(each["postage_minor"]),
                    _units(each["from_then"]),
                    _units(each["from_now"]),
                    (each["arrives_then"] or "")[:10],
                    (each["arrives_now"] or "")[:10],
                ]
                for each in changes
            ],
        )


def _units(places: dict[str, int]) -> str:
    return ", ".join(f"{units} {place}" for place, units in places.items()) or "no plan"
