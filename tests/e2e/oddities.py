"""What the demo has no use for, said by outsiders after it: counts, corrections, nonsense, changes that come too early.

`python -m tests.e2e.oddities` says it to the installation of this machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ordermill.installation import home
from tests.e2e.running import Installation

AT = "2026-03-02T09:00:00Z"
CHANNEL = "odd-shop"


def say_odd_things(installation: Installation) -> None:
    """Returns once all of it was heard."""
    stock, orders = "oms.location.stock", "oms.channel.orders"
    for name, sku, data in (
        ("stock-arrived", "ODD-TEA", {"quantity": 5}),
        ("stock-corrected", "ODD-TEA", {"delta": -1, "reason": "broken"}),
        ("stock-counted", "ODD-TEA", {"counted": 3}),
        ("stock-corrected", "ODD-CUP", {"delta": -1, "reason": "never there"}),
    ):
        line = {"location": "edison", "sku": sku, "reference": f"{name}-{sku}", "happened_at": AT, **data}
        installation.send(stock, f"oms.location.{name}.v1", sku, line)
    placed = json.loads((Path(__file__).parents[2] / "docs/examples/order.json").read_bytes())
    placed = {name: value for name, value in placed.items() if name != "type"} | {"channel": CHANNEL}
    change = {"channel": CHANNEL, "revision": 1, "changed_at": AT, "lines": [{"line_id": "1", "quantity": 1}]}
    wrong = placed | {"external_id": "wrong-total", "total": {"minor": 1, "currency": "USD"}}
    for name, number, message in (
        ("order-changed", "early", change),
        ("order-placed", "wrong-total", wrong),
        ("order-changed", "wrong-total", change),
    ):
        installation.send(orders, f"oms.channel.{name}.v1", number, message | {"external_id": number})
    installation.send(orders, "oms.channel.order-placed.v1", "odd", b"no JSON at all")
    send_back(installation)
    dropped = eventually(lambda: _oms(installation, "dlq", "drop", "capture", "--note", "nonsense"))
    assert dropped, "the message that is none came to no dead letter"
    eventually(lambda: installation.get("capture", "/orders", external_id="wrong-total")["items"])


def send_back(installation: Installation) -> None:
    """A unit each of two parcels of which nothing came back: one broken, one as new; then more than was sent."""
    asked = {found["order_id"] for found in installation.get("returns", "/returns")["items"]}
    delivered = installation.get("tracking", "/shipments", milestone="delivered")["items"]
    parcels = {found["order_id"]: found for found in delivered if found["order_id"] not in asked}
    for disposition, parcel in zip(("write-off", "restock"), parcels.values(), strict=False):
        name, goods = f"odd-{disposition}", parcel["lines"][0] | {"quantity": 1}
        back = {"return_id": name, "order_id": parcel["order_id"], "lines": [goods], "reason": "damaged"}
        found = installation.post("returns", "/returns", back)
        assert found["status"] == "authorized", found
        work = {"return_id": name, "location": "edison"}
        done = installation.post(
            "returns",
            "/returns/work",
            [
                {"do": "receive", "receipt_id": name, "lines": [goods], **work},
                {"do": "inspect", "inspection_id": name, "lines": [goods | {"disposition": disposition}], **work},
            ],
        )
        assert all(one["code"] is None for one in done), done
        greedy = back | {"return_id": f"{name}-greedy", "lines": [goods | {"quantity": 1_000}]}
        refused = installation.post("returns", "/returns", greedy)
        assert refused["status"] == "declined", refused


def eventually(answer: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """What `answer` says once that is something."""
    until = time.monotonic() + timeout_s
    while not (found := answer()) and time.monotonic() < until:
        time.sleep(0.2)
    return found


def _oms(installation: Installation, *command: str) -> bool:
    """Whether it found anything to do."""
    environment = os.environ | installation.environment | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "ordermill.cli", *command], env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode == 0


if __name__ == "__main__":
    say_odd_things(Installation(json.loads((home() / "environment.json").read_text())))
