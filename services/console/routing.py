"""Routing: the policy in force and what it leads to; and for one order where its parcels go, and why from there."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from ordermill.contracts.base import decode
from ordermill.contracts.routing import CostParts, PolicyAdopted
from ordermill.errors import NotFound, OrdermillError
from ordermill.geo import Point
from ordermill.service.http import WITHOUT_NUL

from .described import EventStream
from .live import stream
from .maps import draw_map, labels, way
from .movements import who
from .order import OrderId
from .pages import Console, This, page, render
from .pictures.routes import Route
from .security import Me

router = APIRouter()
PAGE = 50
_POLICY_STREAM = "policy-default"
CAUSES = {
    "reserved": "stock was claimed",
    "backorder-filled": "stock that was waited for came",
    "allocation-refused": "a location had less than was thought",
    "rejected": "the location turned it down",
    "short-pick": "the picker found too few",
    "manual": "a person asked for it",
    "retry": "tried again",
}
VERDICTS = {
    "chosen": "chosen",
    "costs-more": "costs more",
    "costs-the-same": "a tie",
    "not-looked-at": "not looked at",
    "too-many-parcels": "too many parcels",
    "not-enough": "too little",
    "waits": "not asked",
    "no-stock": "no stock",
    "no-service": "no carrier",
    "ruled-out": "ruled out",
    "left-out-by-policy": "policy",
    "disabled": "switched off",
}
PARTS = ("shipping", "handling", "delay")


class NeverRouted(NotFound):
    """Routing has not decided on this order so far, or never will."""

    code = "console.never-routed"

    def __init__(self, order_id: str) -> None:
        super().__init__(
            f"order {order_id[:120]}: routing has decided nothing on it so far. Its page says where it is."
        )


class NoSuchPolicy(NotFound):
    """No policy was adopted under this hash."""

    code = "console.no-such-policy"

    def __init__(self, policy_hash: str) -> None:
        super().__init__(f"no policy {policy_hash[:64]!r} was ever adopted here. The routing page lists them.")


@dataclass(frozen=True)
class Filters:
    """Which orders' decisions are listed."""

    show: Literal["", "unroutable", "deferred", "split", "again"] = ""
    page: Annotated[int, Query(ge=1, le=10_000)] = 1

    def query(self, **changes: Any) -> dict[str, Any]:
        now = {"show": self.show, "page": 1} | changes
        return {name: value for name, value in now.items() if value not in ("", 1)}


@dataclass(frozen=True, slots=True)
class Adopted:
    """A policy, when it came into force and by whose word."""

    fact: PolicyAdopted
    at: datetime
    actor: str

    @property
    def content(self) -> dict[str, Any]:
        return tomllib.loads(self.fact.content)


async def policies(this: Console) -> list[Adopted]:
    """All that were adopted, the one in force first."""
    rows = await this.pool.fetch(
        "SELECT type, data, happened_at, actor FROM events WHERE stream = $1 ORDER BY version DESC LIMIT 50",
        _POLICY_STREAM,
    )
    found = [(decode(row["type"], row["data"]), row["happened_at"], who(row["actor"])) for row in rows]
    return [Adopted(fact, at, actor) for fact, at, actor in found if isinstance(fact, PolicyAdopted)]


async def overview(this: Console, filters: Filters) -> dict[str, Any]:
    totals = await this.pool.fetch(
        """SELECT currency, count(*) AS orders, count(*) FILTER (WHERE parcels > 1) AS split,
                  sum(parcels) AS parcels, avg(cost_minor)::bigint AS cost
           FROM routes WHERE parcels > 0 GROUP BY currency ORDER BY orders DESC"""
    )
    counts = await this.pool.fetchrow(
        """SELECT count(*) AS every, count(*) FILTER (WHERE status = 'unroutable') AS unroutable,
                  count(*) FILTER (WHERE status = 'deferred') AS deferred,
                  count(*) FILTER (WHERE parcels > 1) AS split, count(*) FILTER (WHERE again > 0) AS again
           FROM routes"""
    )
    rows = await this.pool.fetch(
        """SELECT routes.key, routes.doc, routes.status, routes.parcels, routes.decided_at,
                  orders.channel, orders.external_id
           FROM routes LEFT JOIN orders USING (key)
           WHERE $1 = '' OR ($1 = 'split' AND parcels > 1) OR ($1 = 'again' AND again > 0) OR routes.status = $1
           ORDER BY decided_at DESC NULLS LAST, key LIMIT $2 OFFSET $3""",
        filters.show,
        PAGE + 1,
        (filters.page - 1) * PAGE,
    )
    routes = [(row, Route.model_validate_json(row["doc"])) for row in rows[:PAGE]]
    return {
        "filters": filters, "totals": totals, "counts": counts, "routes": routes, "more": len(rows) > PAGE,
        "policies": await policies(this), "causes": CAUSES,
    }  # fmt: skip


@router.get("/routing", summary="Routing")
async def routing(request: Request, me: Me, this: This, filters: Annotated[Filters, Depends()]) -> Response:
    return page(request, "routing/page.html", **await overview(this, filters))


@router.get("/routing/live", summary="Routing, as it changes", response_class=EventStream)
async def live(request: Request, me: Me, this: This, filters: Annotated[Filters, Depends()]) -> Response:
    async def html() -> str:
        return render(request, "routing/overview.html", **await overview(this, filters))

    return await stream(request, ["routes"], html, this.live)


@router.get("/routing/policies/{policy_hash}", summary="A policy, as it was adopted")
async def policy(request: Request, policy_hash: str, me: Me, this: This) -> Response:
    found = await policies(this)
    adopted = next((one for one in found if one.fact.policy_hash == policy_hash), None)
    if adopted is None:
        raise NoSuchPolicy(policy_hash)
    return page(request, "routing/policy.html", adopted=adopted, in_force=adopted is found[0])


async def explained(this: Console, order_id: str, plan_id: str) -> tuple[Any, str]:
    """Routing's explanation of a decision; or none, and why there is none just now."""
    try:
        query = {"plan_id": plan_id} if plan_id else {}
        return await this.doors.get("routing", f"/plans/{order_id}/explanation", **query), ""
    except OrdermillError as error:
        return None, str(error)


def bar(cost: CostParts, most: int, width: int = 460) -> list[tuple[str, float, float]]:
    """(part, x, width) of a stacked bar; `most` minor units fill it."""
    x, found = 0.0, []
    for part in PARTS:
        long = round(getattr(cost, part).minor / most * width, 1) if most else 0.0
        found.append((part, x, long))
        x = round(x + long, 1)
    return found


async def shown(this: Console, order_id: str, plan_id: str) -> dict[str, Any]:
    """Raises NeverRouted."""
    row = await this.pool.fetchrow(
        """SELECT routes.doc, orders.channel, orders.external_id, orders.status, orders.doc AS order_doc
           FROM routes LEFT JOIN orders USING (key) WHERE routes.key = $1""",
        order_id,
    )
    if row is None:
        raise NeverRouted(order_id)
    route = Route.model_validate_json(row["doc"])
    chosen = plan_id or (route.decisions[-1].plan_id if route.decisions else "")
    if plan_id and not any(decision.plan_id == plan_id for decision in route.decisions):
        raise NeverRouted(f"{order_id}, decision {plan_id}")
    explanation, fault = await explained(this, order_id, chosen)
    parcels = sorted(route.parcels.items())
    sites = [location for location in this.network.locations if location.enabled]
    points = [Point(*location.point) for location in sites]
    if route.place is not None:
        points.append(Point(*route.place))
    drawn = draw_map(points)
    names = {location.id: location.name for location in this.network.locations}
    spots = {location.id: spot for location, spot in zip(sites, drawn.spots, strict=False)}
    goal = drawn.spots[-1] if route.place is not None else None
    ways = [
        (number, parcel.shipment, way(spots[parcel.shipment.location], goal))
        for number, (_, parcel) in enumerate(parcels, 1)
        if goal is not None and parcel.shipment.location in spots
    ]
    named = [(spots[shipment.location], f"{n} {names[shipment.location]}") for n, shipment, _ in ways]
    if goal is not None:
        named.insert(0, (goal, f"{route.region} {route.postal_code}".strip() or route.country))
    most = max((parcel.shipment.cost.total.minor for _, parcel in parcels), default=0)
    return {
        "order_id": order_id, "row": row, "route": route, "parcels": parcels, "map": drawn, "sites": sites,
        "spots": spots, "goal": goal, "ways": ways, "bars": [bar(p.shipment.cost, most) for _, p in parcels],
        "ships": {parcel.shipment.location for _, parcel in parcels}, "explanation": explanation, "fault": fault,
        "plan_id": chosen, "causes": CAUSES, "verdicts": VERDICTS, "parts": PARTS, "at": datetime.fromisoformat,
        "names": names, "labels": labels(named),
    }  # fmt: skip


PlanId = Annotated[str, Query(max_length=140, pattern=WITHOUT_NUL)]


@router.get("/orders/{order_id}/routing", summary="Where an order ships from, and why")
async def of_order(request: Request, order_id: OrderId, me: Me, this: This, plan: PlanId = "") -> Response:
    return page(request, "routing/order.html", **await shown(this, order_id, plan))


@router.get("/orders/{order_id}/routing/live", summary="An order's routing, as it changes", response_class=EventStream)
async def of_order_live(request: Request, order_id: OrderId, me: Me, this: This, plan: PlanId = "") -> Response:
    async def html() -> str:
        return render(request, "routing/order_live.html", **await shown(this, order_id, plan))

    return await stream(request, [f"routes:{order_id}"], html, this.live)
