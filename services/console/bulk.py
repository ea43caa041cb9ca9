"""One action on many orders: first what it will do to each, then what it did."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import Response

from ordermill.errors import OrdermillError

from . import acting
from .described import form, several
from .pages import Console, This, page
from .pictures.order import Order
from .possible import Action, actions
from .security import Form, Me, Once, Session

router = APIRouter()
MOST = 200
AT_ONCE = 8
BulkDo = Literal["hold", "release", "cancel", "reroute"]
VERBS = {
    "hold": ("Hold", "held"),
    "release": ("Release", "released"),
    "cancel": ("Cancel", "called off"),
    "reroute": ("Route again", "being routed again"),
}

TICKED = several(f"Ids of up to {MOST} orders.", MOST)
SHOWN = several(
    f"Ids of up to {MOST} orders. A field `shown-<id>` of each names what the page said would be done to it (the `of` "
    "of each action, with spaces between); what it did not say is not done.",
    MOST,
)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one order. `why` is empty where it was done."""

    order: Order
    why: str


def _chosen(do: str) -> BulkDo:
    if do not in get_args(BulkDo):
        raise HTTPException(422, "no such action")
    return do  # type: ignore[return-value]


async def _ticked(this: Console, keys: Sequence[str]) -> list[Order]:
    if not keys:
        raise HTTPException(422, "no order was ticked: tick the ones you mean in the queue")
    if len(keys) > MOST:
        raise HTTPException(422, f"{len(keys)} orders ticked: at most {MOST} at once")
    wanted = list(dict.fromkeys(keys))
    rows = await this.pool.fetch("SELECT key, doc FROM orders WHERE key = ANY($1)", wanted)
    found = {row["key"]: Order.model_validate_json(row["doc"]) for row in rows}
    return [found[key] for key in wanted if key in found]


def _plan(order: Order, do: BulkDo) -> tuple[list[Action], str]:
    """What can be done to this order; or why nothing can."""
    wanted = [each for each in actions(order) if each.do == do]
    possible = [each for each in wanted if each.possible]
    return possible, "" if possible else wanted[0].reason


@router.post(
    "/orders/bulk",
    summary="What an action will do to the ticked orders",
    openapi_extra=form("do", "order", form_id=False, do=[*VERBS], order=TICKED),
)
async def ask(request: Request, me: Me, this: This, form: Form) -> Response:
    do = _chosen(form["do"])
    planned = [(order, *_plan(order, do)) for order in await _ticked(this, form.all("order"))]
    return page(request, "queue/bulk.html", do=do, verb=VERBS[do][0], planned=planned)


@router.post(
    "/orders/bulk/do",
    summary="Do it, and say what became of each",
    openapi_extra=form(
        "do",
        "order",
        do=[*VERBS],
        order=SHOWN,
        note="Kept with each order.",
    ),
)
async def act(request: Request, me: Me, this: This, form: Once) -> Response:
    do = _chosen(form["do"])
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(order: Order) -> Result:
        async with gate:
            announced = [of for shown in form.all(f"shown-{order.order_id}") for of in shown.split(" ")]
            return Result(order, await _do(this, me, order, do, announced, form["note"], form.form_id))

    results = await asyncio.gather(*(one(order) for order in await _ticked(this, form.all("order"))))
    return page(request, "queue/bulk_done.html", do=do, results=results, told=summary(do, results))


async def _do(
    this: Console, me: Session, order: Order, do: BulkDo, announced: Sequence[str], note: str, form_id: str
) -> str:
    """Why it was not done; empty if it was. Of several parts (holds, locations) each is tried that was announced."""
    possible, why = _plan(order, do)
    if not possible:
        return why
    if not any(each.of in announced for each in possible):
        return "it was not possible when you looked: look again"
    faults: list[str] = []
    for each in possible:
        if each.of not in announced:
            faults.append("it was not there when you looked")
            continue
        try:
            await _do_one(this, me, order, each, note, form_id)
        except OrdermillError as error:
            faults.append(str(error))
    told = "; ".join(dict.fromkeys(faults))
    done = len(possible) - len(faults)
    return f"{done} of {len(possible)} done; the rest: {told}" if done and faults else told


async def _do_one(this: Console, me: Session, order: Order, wanted: Action, note: str, form_id: str) -> None:
    match wanted.do:
        case "hold":
            await acting.hold(this, me, order, note)
        case "release":
            await acting.release(this, me, order, wanted.of, note)
        case "reroute":
            await acting.reroute(this, me, order, wanted.of, True, form_id)
        case "cancel":
            units = {line.line_id: order.cancelable(line) for line in order.lines}
            await acting.cancel(this, me, order, units, note, form_id)


def summary(do: BulkDo, results: Sequence[Result]) -> str:
    """`12 held, 1 not: already shipped`"""
    done = sum(not result.why for result in results)
    not_done = Counter(result.why for result in results if result.why)
    parts = [f"{done} {VERBS[do][1]}"] if done or not not_done else []
    parts += [f"{count} not: {why}" for why, count in not_done.most_common()]
    return ", ".join(parts)
