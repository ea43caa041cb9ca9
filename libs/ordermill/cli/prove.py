"""Proof for who trusts neither this installation nor its database: signed checkpoints, and what is in them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ordermill.names import SERVICES

from .client import NotThere, connect
from .log import owner_of
from .orders import find_order
from .place import adopt, chosen, opened, opened_all
from .terminal import DONE, WRONG, JsonOption, print_json, print_pairs, print_table, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ordermill.contracts.service import CheckpointMade
    from ordermill.eventlog.proofs import Checked, Proof
    from ordermill.eventlog.store import Store

app = typer.Typer()

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="What `oms prove` wrote.")
]


@app.command()
def checkpoints(
    service: Annotated[str | None, typer.Argument(metavar="SERVICE", help="One log; all if not given.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Not only the newest of each log.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the signed checkpoints that close the logs: keep them elsewhere, for `oms verify --held` to compare with.

    Exit status: 0 shown, 1 there are none yet.
    """
    services = chosen(service)
    adopt()
    found = asyncio.run(_checkpoints(services))
    shown = [each for of_one in found for each in (of_one if every else of_one[-1:])]
    if as_json:
        for each in shown:
            print_json(each)
    elif shown:
        from ordermill.eventlog.checkpoints import digest_of

        print_table(
            ["service", "number", "events", "made", "key", "digest"],
            [[s.service, s.number, f"{s.first} to {s.last}", s.made_at, s.key, digest_of(s)] for s in shown],
        )
    if not shown:
        say("no checkpoint yet: there is none without OMS_CHECKPOINT_KEY, then one every OMS_CHECKPOINT_EVERY_S")
    raise typer.Exit(DONE if shown else WRONG)


async def _checkpoints(services: tuple[str, ...]) -> list[list[CheckpointMade]]:
    from ordermill.eventlog.proofs import checkpoints_of

    async with opened_all(services) as stores:
        return [await checkpoints_of(store, name) for name, store in stores.items()]


@app.command()
def prove(
    order: Annotated[
        list[str] | None,
        typer.Argument(metavar="ORDER…", help="The order's id, its channel's id, or CHANNEL and that id."),
    ] = None,
    stream: Annotated[
        str | None, typer.Option(metavar="STREAM", help="Instead of an order: one stream, like stock-<SKU>.")
    ] = None,
    service: Annotated[
        str | None, typer.Option(help="Whose log the stream is in; told by its name but for letters.")
    ] = None,
) -> None:
    """Write a proof of all that was recorded of an order, as JSON: its events and the signed checkpoints they are in.

    What it holds can be checked anywhere, without this installation: `oms check-proof`. Names and addresses in it are
    sealed, as they are in the logs. Exit status: 0 written, 1 there is nothing of it, or it is not as it was recorded.
    """
    if bool(order) == bool(stream):
        raise typer.BadParameter("expected an order, or --stream and a stream's name")
    now = datetime.now(UTC)

    async def of_stream(owner: str, name: str) -> Proof:
        async with opened(owner) as store:
            return await proof_of_stream(owner, store, name, now)

    async def of_order(order_id: str) -> Proof:
        async with opened_all(SERVICES) as stores:
            return await proof_of_order(stores, order_id, now)

    if stream:
        owner = owner_of(stream, service)
        adopt()
        proof = asyncio.run(of_stream(owner, stream))
    else:
        proof = asyncio.run(of_order(find_order(connect(), order or [])["order_id"]))
    if not proof.events:
        raise NotThere(f"nothing was recorded of {proof.of}")
    print(proof.model_dump_json())
    still_open = sum(event.checkpoint is None for event in proof.events)
    say(f"events: {len(proof.events)}" + (f", {still_open} of them in no checkpoint yet" if still_open else ""))


async def proof_of_stream(service: str, store: Store, stream: str, made_at: datetime) -> Proof:
    """Of one stream alone."""
    from ordermill.eventlog.proofs import prove as prove_streams

    return await prove_streams({service: store}, {service: [stream]}, f"stream {stream}", made_at)


async def proof_of_order(stores: Mapping[str, Store], order_id: str, made_at: datetime) -> Proof:
    """Of every stream that is this order's alone, in all services."""
    from ordermill.eventlog.proofs import prove as prove_streams

    return await prove_streams(stores, await streams_of_order(stores, order_id), f"order {order_id}", made_at)


async def streams_of_order(stores: Mapping[str, Store], order_id: str) -> dict[str, list[str]]:
    """By service, the streams that are this order's alone; some may have nothing in them."""
    shipments = await _keys(stores["tracking"], "shipments", order_id)
    return {
        "capture": [f"order-{order_id}"],
        "inventory": [f"reservation-{order_id}"],
        "routing": [f"plan-{order_id}"],
        "fulfillment": [f"fulfillment-{key}" for key in await _keys(stores["fulfillment"], "fulfillments", order_id)],
        "tracking": [f"status-{order_id}", *(f"shipment-{key}" for key in shipments)],
        "returns": [
            f"purchase-{order_id}",
            *(f"parcel-{key}" for key in shipments),
            *(f"return-{key}" for key in await _keys(stores["returns"], "returns", order_id)),
        ],
    }


async def _keys(store: Store, view: str, order_id: str) -> list[str]:
    keys: list[str] = []
    while page := await store.documents(view, {"order_id": order_id}, after=keys[-1] if keys else ""):
        keys += [key for key, _ in page]
    return keys


@app.command(name="check-proof")
def check_proof(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="What `oms prove` wrote.")],
    key: Annotated[list[str], typer.Option(help="A public key that you trust, as `oms checkpoints` shows it.")],
    as_json: JsonOption = False,
) -> None:
    """Check a proof that `oms prove` wrote; needs no installation. Exit status: 0 it holds, 1 it does not."""
    from ordermill.eventlog.proofs import check, read_proof

    proof = read_proof(file.read_bytes())
    found = check(proof, key)
    if as_json:
        print_json({"of": proof.of, "made_at": proof.made_at, **_told(found)})
    else:
        last = max((each.made_at for each in proof.checkpoints), default=None)
        print_pairs(
            [
                ("of", proof.of),
                ("made", proof.made_at),
                ("events", found.events),
                ("in no checkpoint yet", found.open),
                ("signed up to", last),
            ]
        )
        for fault in found.faults:
            print(fault)
    say(f"faults: {len(found.faults)}" if found.faults else "it holds")
    raise typer.Exit(WRONG if found.faults else DONE)


def _told(found: Checked) -> dict[str, object]:
    return {"events": found.events, "open": found.open, "faults": found.faults}
