"""Orders: sent in, looked at from all sides, held, released, canceled."""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any
from uuid import uuid4

import typer

from .adapt import (
    ChannelOption,
    CurrencyOption,
    FileArgument,
    Said,
    TopicOption,
    ZoneOption,
    adapt_payload,
    tell_reasons,
)
from .client import Client, NotThere, TurnedDown, connect, part
from .place import Unreachable
from .quantities import by_line
from .terminal import (
    DONE,
    UNREACHABLE,
    WRONG,
    JsonOption,
    cell,
    heading,
    instant,
    print_json,
    print_pairs,
    print_table,
    say,
)

app = typer.Typer(help="Orders: send in, look at, hold, release, cancel, forget who bought.", no_args_is_help=True)

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
HOLDS = ("payment", "fraud-risk", "bad-address", "manual")

QUESTIONS = (
    ("status", "tracking", "/order-status", False),
    ("reservation", "inventory", "/reservations", False),
    ("plan", "routing", "/plans", False),
    ("fulfillments", "fulfillment", "/fulfillments", True),
    ("shipments", "tracking", "/shipments", True),
    ("purchase", "returns", "/purchases", False),
    ("returns", "returns", "/returns", True),
)
"""What an order's page shows besides the order: its name there, whose it is, where, and whether it is a list."""

OrderArgument = Annotated[
    list[str], typer.Argument(metavar="ORDER", help="The order's id, its channel's id, or CHANNEL and that id.")
]


@app.command()
def submit(
    file: FileArgument,
    name: Annotated[str, typer.Option("--format", help="canonical, shopify, x12-850 or pos-csv.")] = "canonical",
    channel: ChannelOption = "",
    topic: TopicOption = None,
    currency: CurrencyOption = "USD",
    zone: ZoneOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send in the orders and cancellations of a file. Sending again changes nothing.

    With --json one line for each order, as capture sees it now. Exit status: 0 all were taken, 1 something was
    rejected, 3 capture does not answer.
    """
    adapted = adapt_payload(name, file.read(), Said(channel, topic, currency, zone))
    tell_reasons(adapted, as_json)
    if not adapted.messages:
        raise typer.Exit(WRONG)
    taken, refused = submit_messages(connect(), adapted.messages)
    if as_json:
        for order in taken:
            print_json(order)
    elif taken:
        _print_orders(taken)
    for reason in refused:
        say(reason)
    raise typer.Exit(WRONG if adapted.rejections or refused else DONE)


def submit_messages(client: Client, messages: Iterable[Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """The orders as capture sees them now, and why some were not taken. One that is refused stops no other."""
    from ordermill.contracts.channel import OrderCanceled, OrderPlaced

    taken: list[dict[str, Any]] = []
    refused: list[str] = []
    for message in messages:
        name = f"{message.channel} {message.external_id}"
        try:
            match message:
                case OrderPlaced():
                    order = client.post("capture", "/orders", message.model_dump(mode="json"))
                case OrderCanceled():
                    body = message.model_dump(mode="json", include={"cancellation_id", "lines", "reason"})
                    order = client.post("capture", f"/orders/{_id_of(message)}/cancel", body)
                case _:
                    refused.append(f"{name}: a change has no door of its own; publish it on {message.topic}")
                    continue
        except (TurnedDown, NotThere) as error:
            refused.append(f"{name}: {error}")
            continue
        taken.append(order)
        if order["status"] == "rejected":
            refused.append(f"{name}: rejected: {'; '.join(order['reasons'])}")
    return taken, refused


def _id_of(message: Any) -> str:
    from ordermill.ids import order_id_of

    return order_id_of(message.channel, message.external_id)


@app.command(name="list")
def list_orders(
    status: Annotated[str | None, typer.Option(help="held, released, shipped, canceled, rejected.")] = None,
    channel: Annotated[str | None, typer.Option(help="Only of this channel.")] = None,
    external_id: Annotated[str | None, typer.Option(help="Only with this id of their channel.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, by order id.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List orders. Exit status: 0 there are some, 1 none."""
    found = connect().pages("capture", "/orders", limit, status=status, channel=channel, external_id=external_id)
    if as_json:
        for order in found:
            print_json(order)
    elif found:
        _print_orders(found)
    if not found:
        say("no such orders")
    raise typer.Exit(DONE if found else WRONG)


def _print_orders(orders: Iterable[dict[str, Any]]) -> None:
    print_table(
        ["order", "channel", "external id", "placed", "status", "units", "total", "held for"],
        [
            [
                order["order_id"],
                order["channel"],
                order["external_id"],
                instant(order["placed_at"]),
                order["status"],
                sum(line["quantity"] - line["canceled"] for line in order["lines"]),
                order["total"],
                [hold["reason"] for hold in order["holds"]],
            ]
            for order in orders
        ],
    )


@app.command()
def show(order: OrderArgument, as_json: JsonOption = False) -> None:
    """Show one order over all services: bought, claimed, planned, packed, on its way, sent back.

    Exit status: 0 shown, 1 no such order, 3 a service does not answer (what the others say is shown).
    """
    page, silent = whole_order(connect(), order)
    if as_json:
        print_json(page)
    else:
        print_order(page)
    for reason in silent:
        say(reason)
    raise typer.Exit(UNREACHABLE if silent else DONE)


def find_order(client: Client, named: list[str]) -> dict[str, Any]:
    """The order by its id, by its channel and that channel's id, or by that id alone where it is one order's.

    Raises NotThere, and TurnedDown if several channels use the id.
    """
    from ordermill.ids import order_id_of

    match named:
        case [channel, external_id]:
            order_id = order_id_of(channel, external_id)
        case [name] if _UUID.fullmatch(name):
            order_id = name
        case [name]:
            found = client.pages("capture", "/orders", 10, external_id=name)
            if len(found) > 1:
                channels = ", ".join(sorted(order["channel"] for order in found))
                raise TurnedDown(f"{name!r} is an order of several channels ({channels}): name the channel before it")
            if not found:
                raise NotThere(f"no order {name!r} here, neither by our id nor by a channel's")
            return found[0]
        case _:
            raise typer.BadParameter("expected an order id, a channel's id, or a channel and its id")
    order = client.find("capture", f"/orders/{part(order_id)}")
    if order is None:
        raise NotThere(f"no order {' '.join(named)!r} here")
    return dict(order)


def whole_order(client: Client, named: list[str]) -> tuple[dict[str, Any], list[str]]:
    """What each service knows of an order, and why some did not say."""
    order = find_order(client, named)
    order_id = order["order_id"]
    silent: dict[str, str] = {}

    def ask(question: tuple[str, str, str, bool]) -> tuple[str, Any]:
        name, service, path, several = question
        try:
            if several:
                return name, client.pages(service, path, order_id=order_id)
            return name, client.find(service, f"{path}/{part(order_id)}")
        except Unreachable as error:
            silent[service] = str(error)
            return name, [] if several else None

    with ThreadPoolExecutor(len(QUESTIONS)) as threads:
        answers = dict(threads.map(ask, QUESTIONS))
    return {"order": order, **answers}, [silent[service] for service in sorted(silent)]


def print_order(page: dict[str, Any]) -> None:
    order, status = page["order"], page["status"] or {}
    to = order["destination"] or {}
    print_pairs(
        [
            ("order", order["order_id"]),
            ("of", f"{order['channel']} {order['external_id']}"),
            ("placed", instant(order["placed_at"])),
            ("status", order["status"] + (f"; the customer reads: {status['status']}" if status else "")),
            ("held for", [f"{hold['reason']} ({hold['note']})".replace(" ()", "") for hold in order["holds"]]),
            ("rejected for", order["reasons"]),
            ("refused changes", [f"{one['change_id']}: {one['reason']}" for one in order["refused_changes"]]),
            ("goes to", " ".join(filter(None, (to.get("postal_code"), to.get("region"), to.get("country"))))),
            ("service", order["service_level"]),
            ("promised by", instant(status.get("promised_by"))),
            ("late", "yes" if status.get("late") else ""),
            ("total", order["total"]),
            ("paid", order["payment"]),
            ("refunded", _unless_nothing(order["refunded"])),
            ("refunds pending", _unless_nothing(order["refunds_pending"])),
            ("refunds failed", _unless_nothing(order["refunds_failed"])),
        ]
    )
    if order["lines"]:
        heading("Lines")
        _print_lines(page)
    _print_plan(page["plan"])
    if page["fulfillments"]:
        heading("Fulfillment orders")
        print_table(
            ["fulfillment", "location", "status", "carrier", "ship by", "shipped", "units"],
            [
                [
                    one["fulfillment_id"],
                    one["location"],
                    one["status"],
                    f"{one['carrier']} {one['service']}",
                    instant(one["ship_by"]),
                    instant(one["shipped_at"]),
                    [f"{line['asked']} {line['sku']}" for line in one["lines"]],
                ]
                for one in page["fulfillments"]
            ],
        )
    if page["shipments"]:
        heading("Parcels")
        print_table(
            ["parcel", "tracking number", "milestone", "place", "promised by", "delivered", "trouble", "units"],
            [
                [
                    one["shipment_id"],
                    one["tracking_number"],
                    one["milestone"],
                    one["place"],
                    instant(one["promised_by"]),
                    instant(one["delivered_at"]),
                    [word for word in ("late", "lost") if one[word]],
                    [f"{line['quantity']} {line['sku']}" for line in one["lines"]],
                ]
                for one in page["shipments"]
            ],
        )
    if page["returns"]:
        heading("Returns")
        print_returns(page["returns"])


def _unless_nothing(amount: dict[str, Any] | None) -> dict[str, Any] | None:
    return amount if amount and amount["minor"] else None


def _print_lines(page: dict[str, Any]) -> None:
    claims = {line["line_id"]: line for line in (page["reservation"] or {}).get("lines", ())}
    bought = {line["line_id"]: line for line in (page["purchase"] or {}).get("lines", ())}
    claimed = ("reserved", "backordered", "allocated")
    print_table(
        ["line", "SKU", "title", "ordered", "canceled", *claimed, "shipped", "delivered", "returned"],
        [
            [
                line["line_id"],
                line["sku"],
                line["title"],
                line["quantity"],
                line["canceled"],
                *(claims.get(line["line_id"], {}).get(state, 0) for state in claimed),
                line["shipped"],
                bought.get(line["line_id"], {}).get("delivered", 0),
                bought.get(line["line_id"], {}).get("returned", 0),
            ]
            for line in page["order"]["lines"]
        ],
    )


def _print_plan(plan: dict[str, Any] | None) -> None:
    if plan is None:
        return
    if plan["shipments"]:
        heading("Plan")
        print_table(
            ["plan", "location", "carrier", "km", "ship by", "deliver by", "cost", "units"],
            [
                [
                    one["plan_id"].removeprefix(f"{plan['order_id']}."),
                    one["location"],
                    f"{one['carrier']} {one['service']}",
                    one["distance_km"],
                    instant(one["ship_by"]),
                    instant(one["deliver_by"]),
                    one["cost"]["total"],
                    [f"{line['quantity']} {line['sku']}" for line in one["lines"]],
                ]
                for one in plan["shipments"]
            ],
        )
    for one in plan["waiting"]:
        print(f"waits for stock to show, until {instant(one['retry_at'])}: {cell(one['reason'])}")
    for line in plan["unroutable"]:
        print(f"can't be shipped from anywhere: {line['quantity']} {cell(line['sku'])}")


def print_returns(returns: Iterable[dict[str, Any]]) -> None:
    print_table(
        ["return", "RMA", "order", "status", "reason", "wanted", "units", "refund", "credit"],
        [
            [
                one["return_id"],
                one["rma"],
                one["order_id"],
                one["status"],
                one["reason"],
                one["wanted"],
                [f"{line['asked']} {line['sku']}" for line in one["lines"]],
                one["refund"],
                one["credit"],
            ]
            for one in returns
        ],
    )


@app.command()
def hold(
    order: OrderArgument,
    reason: Annotated[str, typer.Option(help=f"One of {', '.join(HOLDS)}.")] = "manual",
    note: Annotated[str, typer.Option(help="Why, for those who look at it later.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Keep an order from being released. Exit status: 0 it is held, 1 too late or no such order."""
    body = {"reason": _hold_reason(reason), "note": note}
    client = connect()
    found = find_order(client, order)
    _print_one(client.post("capture", f"/orders/{found['order_id']}/hold", body), as_json)


@app.command()
def release(
    order: OrderArgument,
    reason: Annotated[str, typer.Option(help=f"The hold that has gone: one of {', '.join(HOLDS)}.")],
    note: Annotated[str, typer.Option(help="Why, for those who look at it later.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Take one hold off an order; without another it goes on. Exit status: 0 done, 1 it was not held for that."""
    body = {"reason": _hold_reason(reason), "note": note}
    client = connect()
    found = find_order(client, order)
    if reason not in [each["reason"] for each in found["holds"]]:
        held = ", ".join(each["reason"] for each in found["holds"]) or "nothing"
        raise TurnedDown(f"order {found['order_id']} is {found['status']} and held for {held}, not for {reason}")
    _print_one(client.post("capture", f"/orders/{found['order_id']}/release", body), as_json)


@app.command()
def cancel(
    order: OrderArgument,
    line: Annotated[
        list[str] | None, typer.Option(metavar="LINE=QTY", help="Units to cancel; all of the order if not given.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for those who look at it later.")] = "",
    cancellation_id: Annotated[
        str, typer.Option(help="Names this cancellation: the same twice is one. New each time if not given.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Call off an order, or units of it. What a location already works on is canceled once it agrees.

    Exit status: 0 canceled or asked for, 1 nothing of it can be canceled any more.
    """
    lines = by_line(line or ())
    after, units = cancel_order(connect(), order, lines, reason, cancellation_id)
    if units == 0:
        raise TurnedDown(
            f"order {after['order_id']} is {after['status']}: these units have shipped or were canceled before, "
            "nothing more can be. What has shipped can be returned (`oms returns request`)"
        )
    _print_one(after, as_json)


@app.command()
def retry_refund(
    order: OrderArgument,
    refund: Annotated[str, typer.Option(help="Its id; all that failed if not given.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Ask again for refunds of canceled units that failed, under their own ids: each is paid once.

    Exit status: 0 asked for, 1 none has failed.
    """
    _print_one(retry_refunds(connect(), order, refund), as_json)


@app.command()
def settle(
    order: OrderArgument,
    change: Annotated[str, typer.Option(help="Its id; all that wait if not given.")] = "",
    note: Annotated[str, typer.Option(help="What was done, for those who look at it later.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Say that changes by the channel that were refused have been dealt with, so that they wait for nobody any more.

    Exit status: 0 done, 1 none waits.
    """
    _print_one(settle_changes(connect(), order, change, note), as_json)


@app.command()
def forget(
    order: OrderArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. It can't be undone.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Forget who bought an order: name, address and e-mail of this and all their other orders can't be read again.

    Goods and money stay as they are. A label of another order of theirs can't be made any more. Exit status: 0 it is
    done or under way, 1 something of it is still to be shipped.
    """
    client = connect()
    found = find_order(client, order)
    if not yes:
        raise typer.BadParameter(f"forgets for good who bought order {found['order_id']}; say --yes to do it")
    _print_one(client.post("capture", f"/orders/{found['order_id']}/forget", {}), as_json)


def settle_changes(client: Client, named: list[str], change: str = "", note: str = "") -> dict[str, Any]:
    """Settle one refused change, or all that wait; the order after it. Raises TurnedDown if there is none."""
    found = find_order(client, named)
    wanted = [change] if change else [each["change_id"] for each in found["refused_changes"]]
    if not wanted:
        raise TurnedDown(f"order {found['order_id']}: no refused change of it waits for a person")
    for change_id in wanted:
        found = client.post("capture", f"/orders/{found['order_id']}/settle", {"change_id": change_id, "note": note})
    return found


def retry_refunds(client: Client, named: list[str], refund: str = "") -> dict[str, Any]:
    """Ask again for one refund, or for all that failed; the order after it. Raises TurnedDown if there is none."""
    found = find_order(client, named)
    wanted = [refund] if refund else [each["refund_id"] for each in found["refunds"] if each["status"] == "failed"]
    if not wanted:
        raise TurnedDown(f"order {found['order_id']}: no refund of it has failed")
    for refund_id in wanted:
        found = client.post("capture", f"/orders/{found['order_id']}/refunds/{part(refund_id)}/retry", {})
    return found


def cancel_order(
    client: Client, named: list[str], lines: dict[str, int], reason: str, cancellation_id: str = ""
) -> tuple[dict[str, Any], int]:
    """The order after it, and how many more units are canceled or asked to be."""
    before = find_order(client, named)
    known = [each["line_id"] for each in before["lines"]]
    if unknown := sorted(set(lines) - set(known)):
        raise typer.BadParameter(f"order {before['order_id']} has no line {unknown[0]!r}; it has: {', '.join(known)}")
    body = {
        "cancellation_id": cancellation_id or f"cli-{uuid4().hex[:16]}",
        "lines": [{"line_id": line_id, "quantity": units} for line_id, units in lines.items()],
        "reason": reason,
    }
    after = client.post("capture", f"/orders/{before['order_id']}/cancel", body)
    return after, _called_off(after) - _called_off(before)


def _called_off(order: dict[str, Any]) -> int:
    return sum(line["canceled"] + line["cancel_requested"] for line in order["lines"])


def _hold_reason(reason: str) -> str:
    if reason not in HOLDS:
        raise typer.BadParameter(f"no reason {reason!r} to hold an order; there are: {', '.join(HOLDS)}")
    return reason


def _print_one(order: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(order)
    else:
        _print_orders([order])
