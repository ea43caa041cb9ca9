"""Stock: what is there, what came in, what was found, lost and counted."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import uuid4

import typer

from .client import Client, NotThere, TurnedDown, connect, part
from .place import now
from .terminal import DONE, WRONG, JsonOption, heading, print_json, print_pairs, print_table, say

app = typer.Typer(help="Stock: look at, receive, adjust, count.", no_args_is_help=True)

LocationArgument = Annotated[str, typer.Argument(metavar="LOCATION", help="The location's id.")]
SkuArgument = Annotated[str, typer.Argument(metavar="SKU")]
ReferenceOption = Annotated[
    str, typer.Option(help="Names this entry: the same twice is one. New each time if not given.")
]


@app.command(name="list")
def list_stock(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, by SKU.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List SKUs and their numbers over all locations. Exit status: 0 there are some, 1 none."""
    found = connect().pages("inventory", "/stock", limit)
    if as_json:
        for stock in found:
            print_json(stock)
    elif found:
        print_skus(found)
    if not found:
        say("no stock is known here")
    raise typer.Exit(DONE if found else WRONG)


@app.command()
def show(sku: SkuArgument, as_json: JsonOption = False) -> None:
    """Show one SKU: on hand and claimed, by location, and how it came about. Exit status: 0 shown, 1 unknown."""
    stock = connect().find("inventory", f"/stock/{part(sku)}")
    if stock is None:
        raise NotThere(f"no SKU {sku!r} here: nobody received it or asked for it")
    if as_json:
        print_json(stock)
    else:
        print_sku(stock)


def print_sku(stock: dict[str, Any]) -> None:
    print_pairs(
        (name.replace("_", " "), stock.get(key, 0))
        for name, key in (
            ("SKU", "key"),
            ("on hand", "on_hand"),
            ("available", "available"),
            ("reserved", "reserved"),
            ("allocated", "allocated"),
            ("backordered", "backordered"),
            ("set aside", "set_aside"),
            ("open claims", "open_claims"),
            ("received", "received"),
            ("adjusted", "adjusted"),
            ("restocked", "restocked"),
            ("shipped out", "shipped_out"),
            ("written off", "written_off"),
        )
    )
    if stock["locations"]:
        heading("Locations")
        print_table(
            ["location", "on hand", "allocated", "unallocated", "set aside"],
            [
                [location, at["on_hand"], at["allocated"], at["unallocated"], at.get("set_aside", 0)]
                for location, at in stock["locations"].items()
            ],
        )


def print_skus(found: list[dict[str, Any]]) -> None:
    numbers = ("on_hand", "available", "reserved", "allocated", "backordered")
    print_table(
        ["SKU", *(name.replace("_", " ") for name in numbers), "locations"],
        [
            [
                stock["key"],
                *(stock[name] for name in numbers),
                [f"{location} {at['on_hand']}" for location, at in stock["locations"].items()],
            ]
            for stock in found
        ],
    )


@app.command()
def receive(
    location: LocationArgument,
    sku: SkuArgument,
    quantity: Annotated[int, typer.Argument(min=1, max=1_000_000, metavar="QTY")],
    reference: ReferenceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Book in goods that came. Exit status: 0 booked, 1 refused."""
    _book("receive", location, sku, {"quantity": quantity}, reference, as_json)


@app.command(context_settings={"ignore_unknown_options": True})
def adjust(
    location: LocationArgument,
    sku: SkuArgument,
    delta: Annotated[int, typer.Argument(metavar="DELTA", help="Units found, or lost: like 3 or -3.")],
    reason: Annotated[str, typer.Option(help="Why they were found or are gone.")],
    reference: ReferenceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Book units that were found or lost. Exit status: 0 booked, 1 refused."""
    _book("adjust", location, sku, {"delta": delta, "reason": reason}, reference, as_json)


@app.command()
def count(
    location: LocationArgument,
    sku: SkuArgument,
    counted: Annotated[int, typer.Argument(min=0, metavar="N", help="Units that are there.")],
    reference: ReferenceOption = "",
    as_json: JsonOption = False,
) -> None:
    """Book what a person counted. Exit status: 0 booked, 1 refused."""
    _book("count", location, sku, {"counted": counted}, reference, as_json)


def _book(how: str, location: str, sku: str, what: dict[str, Any], reference: str, as_json: bool) -> None:
    stock = book(connect(), how, location, sku, what, reference)
    if as_json:
        print_json(stock)
    else:
        print_skus([stock])


def book(
    client: Client, how: str, location: str, sku: str, what: dict[str, Any], reference: str = ""
) -> dict[str, Any]:
    """One line for a location's books; the SKU after it. Raises TurnedDown, with the reason."""
    line = {
        "location": location,
        "sku": sku,
        "reference": reference or f"cli-{uuid4().hex[:16]}",
        "happened_at": now().isoformat(),
        **what,
    }
    done = client.post("inventory", f"/stock/{how}", [line])[0]
    if done["code"]:
        raise TurnedDown(f"{sku} at {location}: {done['detail']}")
    if not done["events"]:
        say(f"{sku} at {location}: {line['reference']} was booked before, nothing changed")
    return dict(client.get("inventory", f"/stock/{part(sku)}"))
