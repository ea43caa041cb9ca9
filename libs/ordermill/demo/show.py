"""What the demo tells a person: where to look, and the table at the end."""

from __future__ import annotations

import getpass
import sys
from typing import Any, TextIO
from urllib.parse import urlencode

from rich.console import Console
from rich.table import Table

from ordermill.contracts.fields import Money

ROWS = (
    ("orders", "orders in"),
    ("turned_away", "turned away at the door"),
    ("backordered", "waited for stock"),
    ("split", "shipped from several locations"),
    ("rejected_by_a_location", "turned down by a location, routed again"),
    ("short_picked", "short picks, routed again"),
    ("canceled", "canceled whole"),
    ("shipped", "shipped"),
    ("delivered", "delivered"),
    ("delivered_by_promise_percent", "delivered by the promised day, %"),
    ("lost", "lost by a carrier"),
    ("came_back", "came back undelivered"),
    ("returned", "sent something back"),
    ("exchanged", "exchanged"),
    ("refunds", "refunds paid"),
)


def show_ready(environment: dict[str, str], seconds: float) -> None:
    """Once all processes run. To stderr: stdout is for data."""
    link = urlencode({"token": environment["OMS_CONSOLE_TOKEN"], "name": getpass.getuser()})
    print(
        f"six services and the console up after {seconds:.1f} s; logs in {environment['OMS_HOME']}/logs\n"
        f"open http://127.0.0.1:{environment['OMS_CONSOLE_PORT']}/login?{link}",
        file=sys.stderr,
    )


def show_report(report: dict[str, Any], out: TextIO) -> None:
    table = Table(title=f"Settled in {report['seconds']} s", show_header=False, title_justify="left")
    table.add_column("what")
    table.add_column("how many", justify="right")
    for channel, count in report["by_channel"].items():
        table.add_row(f"orders from {channel}", f"{count:,}")
    for key, label in ROWS:
        value = report[key]
        table.add_row(label, "–" if value is None else f"{value:,}")
    refunded = Money.model_validate(report["refunded"]) if report["refunded"] else None
    table.add_row("refunded", str(refunded or 0))
    violations = report["violations"]
    table.add_row("units, lines and money conserved", "yes" if not violations else f"NO: {len(violations)} violations")
    console = Console(file=out)
    console.print(table)
    for violation in violations[:20]:
        console.print(f"  {violation}", markup=False)
    console.print(
        "Where next: `oms orders list --status shipped`, `oms orders show ID`, `oms log show order-ID`, `oms verify`",
        markup=False,
    )
