"""Why an order ships from where it does."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from .client import Client, NotThere, connect, part
from .orders import OrderArgument, find_order
from .terminal import JsonOption, cell, heading, instant, print_json, print_pairs, print_table

app = typer.Typer()


@app.command()
def explain(
    order: OrderArgument,
    plan: Annotated[str, typer.Option(help="A decision's id; the latest if not given.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Tell why routing decided as it did: each location and what it would have meant, made again from the record.

    Exit status: 0 told, 1 nothing was decided of this order.
    """
    found = explanation(connect(), order, plan)
    if as_json:
        print_json(found)
    else:
        _print(found)


def explanation(client: Client, named: list[str], plan: str = "") -> dict[str, Any]:
    """Of the order's latest decision, or of that one. Raises NotThere."""
    order_id = find_order(client, named)["order_id"]
    asked = f"?{urlencode({'plan_id': plan})}" if plan else ""
    found = client.find("routing", f"/plans/{part(order_id)}/explanation{asked}")
    if found is None:
        raise NotThere(f"routing has decided nothing of order {order_id}" + (f" under {plan}" if plan else " yet"))
    return dict(found)


def _print(found: dict[str, Any]) -> None:
    chosen = found["chosen"]
    agrees = {True: "the same", False: "another", None: "not to be made"}[found["agrees"]]
    print_pairs(
        [
            ("order", found["order_id"]),
            ("decision", f"{found['plan_id']}: {found['decision']}, because of {found['cause'].replace('-', ' ')}"),
            ("decided at", instant(found["decided_at"])),
            ("made again", agrees),
            ("in short", found["reason"]),
            ("wanted", [f"{line['quantity']} {line['sku']}" for line in found["lines"]]),
            ("cost", chosen and chosen["cost"]["total"]),
            ("of it postage", chosen and chosen["cost"]["shipping"]),
            ("handling", chosen and chosen["cost"]["handling"]),
            ("time", chosen and chosen["cost"]["delay"]),
        ]
    )
    heading("Locations")
    print_table(
        ["location", "km", "verdict", "why"],
        [[each["location"], each["distance_km"], each["verdict"], each["reason"]] for each in found["locations"]],
    )
    if found["alternatives"]:
        heading("The cheapest others")
        print_table(
            ["from", "cost", "more", "arrives"],
            [
                [
                    ", ".join(each["locations"]),
                    each["cost"]["total"],
                    each["more"] and cell(each["more"]["total"]),
                    instant(each["deliver_by"]),
                ]
                for each in found["alternatives"]
            ],
        )
