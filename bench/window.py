"""A short window of whole lives at full speed, for all that compares one circumstance with another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .driver import Driver
from .goods import LINES
from .life import QUICK, RETURNS_PERCENT, Size, drain, saturated
from .stand import Place, Stand
from .usage import memory_mb

SHORT, SHORTEST = replace(QUICK, warm_s=30, life_s=15), replace(QUICK, life_s=8)
_LIMIT_S = 240
"""A window takes a minute; nobody waits longer than this."""
_TOLD = (
    "orders_per_s",
    "orders_per_s_if_all_cores_were_free",
    "cpu_ms_per_order",
    "events_per_order",
    "in_flight",
    "cores_busy",
    "cores_others",
)
_TROUBLE = ("oms_retries_total", 'oms_messages_total{result="dead-lettered"}')


@dataclass(frozen=True)
class Window:
    """What was found. `figures` are those of the life's that are told here, `cpu_us_per_event`, which a window that is
    not steady yet distorts less, `conflicts` of writers, and `trouble`: what was refused, tried again or kept as a dead
    letter.
    """

    figures: dict[str, float]
    cpu_ms: dict[str, float]
    """By process, an order."""
    events: dict[str, float]
    """By service, an order."""
    polls: dict[str, float]
    """By service: how many brought something, be it none of its business."""
    batch_messages: dict[str, float]
    """By service: messages in a transaction, of polls that had any for it."""
    memory_mb: dict[str, float]
    """By process, shared pages counted once."""
    next_order: int


def measure_window(at: Stand, size: Size, lines: int = LINES, first: int = 0, settle: bool = False) -> Window:
    """Orders of `lines` lines, the first one's number as of Driver: goods come before them only where it is 0.

    At most `size.in_flight` orders are on their way, and no more lines than so many orders of five have. `settle`: all
    that is on its way at the end is waited for. Services must have been started.
    """
    return Window(**at.measure("window", lambda place: _window(place, size, lines, first, settle), _LIMIT_S))


async def _window(place: Place, size: Size, lines: int, first: int, settle: bool) -> dict[str, Any]:
    size = replace(size, in_flight=min(size.in_flight, size.in_flight * LINES // lines))
    async with Driver(place, size.skus, RETURNS_PERCENT, lines, first) as driver:
        await driver.until_ready(place.ports)
        if not first:
            await driver.stock_up()
        life = await saturated(driver, size, lines)
        memory = {name: used["pss"] for name, used in memory_mb(place.pids).items()}
        if settle:
            await drain(driver, life, size.patience_s)
        told = {service: await driver.metrics(service) for service in place.ports}
        trouble = driver.refused + sum(metrics.get(name, 0.0) for metrics in told.values() for name in _TROUBLE)
        more = {
            "cpu_us_per_event": 1000 * life["life.cpu_ms_per_order"] / life["life.events_per_order"],
            "conflicts": sum(metrics["oms_conflicts"] for metrics in told.values()),
            "trouble": trouble,
        }
        return {
            "figures": {name: life[f"life.{name}"] for name in _TOLD} | more,
            "cpu_ms": life["life.cpu_ms_by_process"],
            "events": life["life.events_by_service"],
            "polls": {service: metrics["oms_batch_messages_count"] for service, metrics in told.items()},
            "batch_messages": {service: _mean_batch(metrics) for service, metrics in told.items()},
            "memory_mb": memory,
            "next_order": driver.sent,
        }


def _mean_batch(metrics: dict[str, float]) -> float:
    name = "oms_batch_messages"
    batches = metrics[f"{name}_count"] - metrics[f'{name}_bucket{{le="0.0"}}']
    return metrics[f"{name}_sum"] / max(1.0, batches)
