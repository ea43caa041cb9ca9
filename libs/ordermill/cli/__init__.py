"""The command line, `oms`. One file a group; each command imports what it needs only when it runs.

A command parses and prints; a function beside it does the work, over a client or a store that it is given.
"""

from __future__ import annotations

import typer

from . import (
    adapt,
    as_of,
    deploy,
    dlq,
    doctor,
    explain,
    export,
    log,
    migrate,
    orders,
    prove,
    rebuild,
    returns,
    run,
    simulate,
    stock,
    what_if,
)
from .terminal import Oms

app = typer.Typer(
    name="oms",
    cls=Oms,
    help="Ordermill: orders from every channel, from the shelf to the door and back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(run.app)
app.add_typer(adapt.app)
app.add_typer(orders.app, name="orders")
app.add_typer(stock.app, name="stock")
app.add_typer(returns.app, name="returns")
app.add_typer(log.app, name="log")
app.add_typer(dlq.app, name="dlq")
app.add_typer(rebuild.app)
app.add_typer(as_of.app)
app.add_typer(prove.app)
app.add_typer(explain.app)
app.add_typer(what_if.app)
app.add_typer(export.app)
app.add_typer(doctor.app)
app.add_typer(simulate.app)
app.add_typer(migrate.app)
app.add_typer(deploy.app, name="deploy")


def main() -> None:
    app(prog_name="oms")
