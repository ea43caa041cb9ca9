"""Returns: asked for, received, inspected, closed."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import uuid4

import typer

from .client import Client, NotThere, TurnedDown, connect, part
from .orders import find_order, print_returns
from .quantities import DISPOSITIONS, by_line, exchanged, inspected, with_skus
from .terminal import DONE, WRONG, JsonOption, heading, instant, print_json, print_pairs, print_table, say

app = typer.Typer(help="Returns: ask for, look at, receive, inspect, waive, close.", no_args_is_help=True)

REASONS = ("unwanted", "damaged", "wrong-item", "not-as-described", "late", "not-delivered", "other")

ReturnArgument = Annotated[str, typer.Argument(metavar="RETURN", help="The return's id or its RMA number.")]
LocationOption = Annotated[str, typer.Option(help="Where the goods are.")]


@app.command(name="list")
def list_returns(
    status: Annotated[str | None, typer.Option(help="authorized, declined, received, refunding, closed …")] = None,
    order_id: Annotated[str | None, typer.Option("--order", help="Only of the order with this id.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, by return id.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List returns. Exit status: 0 there are some, 1 none."""
    found = connect().pages("returns", "/returns", limit, status=status, order_id=order_id)
    if as_json:
        for one in found:
            print_json(one)
    elif found:
        print_returns(found)
    if not found:
        say("no such returns")
    raise typer.Exit(DONE if found else WRONG)


@app.command()
def show(name: ReturnArgument, as_json: JsonOption = False) -> None:
    """Show one return. Exit status: 0 shown, 1 no such return."""
    _print_one(find_return(connect(), name), as_json)


def find_return(client: Client, name: str) -> dict[str, Any]:
    """By its id or its RMA number. Raises NotThere."""
    found = client.find("returns", f"/returns/{part(name)}")
    if found is None:
        by_rma = client.pages("returns", "/returns", 1, rma=name)
        found = by_rma[0] if by_rma else None
    if found is None:
        raise NotThere(f"no return {name!r} here, neither by id nor by RMA number")
    return dict(found)


@app.command()
def request(
    order: Annotated[str, typer.Argument(metavar="ORDER", help="The order's id, or its channel's id.")],
    line: Annotated[list[str], typer.Option(metavar="LINE=QTY", help="Units that shall come back.")],
    reason: Annotated[str, typer.Option(help=f"One of {', '.join(REASONS)}.")],
    exchange: Annotated[
        list[str] | None,
        typer.Option(metavar="SKU=QTY@PRICE", help="Goods wanted instead; the price of one unit."),
    ] = None,
    note: Annotated[str, typer.Option(help="For those who look at it later.")] = "",
    by: Annotated[str, typer.Option(help="customer, or agent, who may let the time to return it pass.")] = "agent",
    return_id: Annotated[
        str, typer.Option(help="Names this return: the same twice is one. New each time if not given.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Ask to send goods back. Exit status: 0 authorized, 1 declined."""
    if reason not in REASONS:
        raise typer.BadParameter(f"no reason {reason!r} to return goods; there are: {', '.join(REASONS)}")
    if by not in ("customer", "agent"):
        raise typer.BadParameter(f"--by {by!r}: expected customer or agent")
    asked = {"reason": reason, "note": note, "by": by, "return_id": return_id or f"R-{uuid4().hex[:12]}"}
    found = request_return(connect(), order, by_line(line), exchange or [], asked)
    _print_one(found, as_json)
    raise typer.Exit(WRONG if found["status"] == "declined" else DONE)


def request_return(
    client: Client, order: str, lines: dict[str, int], exchange: list[str], asked: dict[str, Any]
) -> dict[str, Any]:
    """The return as it stands: authorized, or declined with every reason."""
    order_id = find_order(client, [order])["order_id"]
    purchase = client.get("returns", f"/purchases/{part(order_id)}")
    skus = {each["line_id"]: each["sku"] for each in purchase["lines"]}
    body = {
        **asked,
        "order_id": order_id,
        "lines": with_skus(lines.items(), skus, f"order {order_id}"),
        "wanted": "exchange" if exchange else "refund",
        "exchange_for": exchanged(exchange, purchase["currency"]),
    }
    return dict(client.post("returns", "/returns", body))


@app.command()
def receive(
    name: ReturnArgument,
    location: LocationOption,
    line: Annotated[
        list[str] | None,
        typer.Option(metavar="LINE=QTY", help="Units that came; all that were asked for if not given."),
    ] = None,
    receipt_id: Annotated[
        str, typer.Option(help="Names this receipt: the same twice is one. New each time if not given.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Book in returned goods at a location. Exit status: 0 booked, 1 refused."""
    client = connect()
    found = find_return(client, name)
    due = {each["line_id"]: each["asked"] - each["received"] for each in found["lines"]}
    came = by_line(line or ()) or {line_id: units for line_id, units in due.items() if units}
    work = {
        "do": "receive",
        "receipt_id": receipt_id or f"cli-{uuid4().hex[:16]}",
        "location": location,
        "lines": with_skus(came.items(), _skus(found), f"return {found['return_id']}"),
    }
    _print_one(report(client, found, work), as_json)


@app.command()
def inspect(
    name: ReturnArgument,
    location: LocationOption,
    line: Annotated[
        list[str],
        typer.Option(metavar="LINE=QTY:WHAT", help=f"Units, and what becomes of them: {', '.join(DISPOSITIONS)}."),
    ],
    inspection_id: Annotated[
        str, typer.Option(help="Names this inspection: the same twice is one. New each time if not given.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Say what received goods are fit for; the last of them settles the return. Exit status: 0 done, 1 refused."""
    seen = inspected(line)
    client = connect()
    found = find_return(client, name)
    lines = with_skus([(line_id, units) for line_id, units, _ in seen], _skus(found), f"return {found['return_id']}")
    work = {
        "do": "inspect",
        "inspection_id": inspection_id or f"cli-{uuid4().hex[:16]}",
        "location": location,
        "lines": [{**each, "disposition": disposition} for each, (_, _, disposition) in zip(lines, seen, strict=True)],
    }
    _print_one(report(client, found, work), as_json)


@app.command()
def close(name: ReturnArgument, as_json: JsonOption = False) -> None:
    """Settle a return with what has come; nothing more will. Exit status: 0 done, 1 refused."""
    client = connect()
    _print_one(report(client, find_return(client, name), {"do": "close"}), as_json)


@app.command()
def waive(name: ReturnArgument, as_json: JsonOption = False) -> None:
    """Credit what has not come of a return as if it had: it is lost, or not worth its way. Settles the return.

    Exit status: 0 done, 1 refused.
    """
    client = connect()
    _print_one(report(client, find_return(client, name), {"do": "waive"}), as_json)


@app.command()
def retry_refund(name: ReturnArgument, as_json: JsonOption = False) -> None:
    """Ask again for a refund that failed, under its own id: it is paid once, whatever the provider did the first time.

    Exit status: 0 asked for, 1 no refund of it has failed.
    """
    client = connect()
    _print_one(report(client, find_return(client, name), {"do": "retry-refund"}), as_json)


def report(client: Client, found: dict[str, Any], work: dict[str, Any]) -> dict[str, Any]:
    """Work done on a return; the return after it. Raises TurnedDown, with the reason."""
    done = client.post("returns", "/returns/work", [{**work, "return_id": found["return_id"]}])[0]
    if done["code"]:
        raise TurnedDown(str(done["detail"]))
    return dict(client.get("returns", f"/returns/{part(found['return_id'])}"))


def _skus(found: dict[str, Any]) -> dict[str, str]:
    return {each["line_id"]: each["sku"] for each in found["lines"]}


def _print_one(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    print_pairs(
        [
            ("return", found["return_id"]),
            ("RMA", found["rma"]),
            ("order", found["order_id"]),
            ("status", found["status"]),
            ("reason", found["reason"]),
            ("wanted", found["wanted"]),
            ("instead", [f"{each['quantity']} {each['sku']}" for each in found["exchange_for"]]),
            ("note", found["note"]),
            ("declined for", found["declined_for"]),
            ("send back by", instant(found["expires_at"])),
            ("refund", found["refund"]),
            ("credit", found["credit"]),
            ("failure", found["failure"]),
        ]
    )
    heading("Lines")
    counts = ("asked", "received", "inspected", "missing", "waived")
    print_table(
        ["line", "SKU", *counts],
        [[each["line_id"], each["sku"], *(each[name] for name in counts)] for each in found["lines"]],
    )
    for each in found["to_inspect"]:
        print(f"to inspect at {each['location']}: {each['units']} of line {each['line_id']}")
