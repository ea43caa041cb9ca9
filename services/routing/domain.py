"""Which location ships which units of an order, and what the customer is promised. Pure: the picture comes in.

Stream `plan-<order>`: every decision on units of that order, with all it saw. Stream `policy-default`: what is weighed
and between which places. An order's units may be decided on in several goes: those reserved at once, those that
waited for stock, those that a location refused or gave back.

Exclusions. Who rejected the work gets nothing of this order again; who picked short gets none of those SKUs again. That
yields where units that no plan has had yet, or that have waited for stock since, are seen nowhere else. A
location that had too little when units were to be allocated is left out of the next try only: by then the picture
of availability is newer; and so is one from which a person took units back to have them shipped from elsewhere. Where
it may be what is in the way, units wait for it (`OrderDeferred`), and after the policy's `attempts` they are
unroutable; of an order's units only those that really cannot be had.

Units given up, or waiting for stock. Inventory leaves them out of a plan under way by itself, so only those that wait
to be tried again are taken off here. What routing still counts costs a needless try; what it wrongly dropped would lie
at inventory for ever. So what is said of units touches only those that waited when it was said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, assert_never
from zoneinfo import ZoneInfo

from ordermill.contracts.capture import ReleasedLine
from ordermill.contracts.channel import ServiceLevel
from ordermill.contracts.fields import Destination, LineQuantity
from ordermill.contracts.inventory import DeallocationCause
from ordermill.contracts.routing import (
    OrderDeferred,
    OrderRerouted,
    OrderRouted,
    OrderUnroutable,
    PlanEvent,
    PlannedShipment,
    PolicyAdopted,
    PromiseChanged,
    PromiseMade,
    RouteCause,
    RoutingInputs,
    WaitingUnitsGone,
)
from ordermill.decider import Decider
from ordermill.replacing import replace

from .errors import OrderNotRouted, PolicyMismatch, PolicyNotAdopted
from .planner import PREFERENCES, Plan, Unroutable, plan
from .rules import Rules, read_rules

Picture = Mapping[str, Mapping[str, int]]
"""Unclaimed units by location, then SKU."""

TRIES_IN_A_ROW = 2
"""Refused so often, units wait for a newer picture before they are tried again."""

Exclusion = tuple[str, str | None]
"""A location, and the SKU that it may not ship; None: nothing of this order."""


@dataclass(frozen=True, slots=True)
class RouteOrder:
    """Units are claimed and have no location so far. `caused_by` is the id of the message that said so."""

    order_id: str
    caused_by: str
    cause: Literal["reserved", "backorder-filled"]
    lines: tuple[ReleasedLine, ...]
    destination: Destination
    placed_at: datetime
    service_level: ServiceLevel
    decided_at: datetime
    available: Picture
    heard: int = 0


@dataclass(frozen=True, slots=True)
class RerouteRefused:
    """Nothing of this plan was allocated, because these locations had too little of these SKUs.

    `wanted`: the units of it that still want a location; all if there are none.
    """

    order_id: str
    caused_by: str
    plan_id: str
    short: tuple[tuple[str, str], ...]
    decided_at: datetime
    available: Picture
    wanted: tuple[LineQuantity, ...] = ()
    heard: int = 0


@dataclass(frozen=True, slots=True)
class RerouteGivenBack:
    """A location will not, or cannot, ship these units of its fulfillment order."""

    order_id: str
    caused_by: str
    fulfillment_id: str
    location: str
    cause: DeallocationCause
    lines: tuple[ReleasedLine, ...]
    decided_at: datetime
    available: Picture
    avoid: bool = True
    heard: int = 0


@dataclass(frozen=True, slots=True)
class DropUnits:
    """Inventory has given up these reserved units, or lets them wait for stock."""

    order_id: str
    caused_by: str
    lines: tuple[LineQuantity, ...]
    heard: int


@dataclass(frozen=True, slots=True)
class RetryRouting:
    """The wait that the decision `plan_id` began is over."""

    order_id: str
    plan_id: str
    decided_at: datetime
    available: Picture


@dataclass(frozen=True, slots=True)
class AdoptPolicy:
    """Decide by these files (TOML) from now on."""

    content: str
    network: str


PlanCommand = RouteOrder | RerouteRefused | RerouteGivenBack | RetryRouting
"""`heard` in these is the version of inventory's stream on the order that the fact behind it has; 0 if not known."""


@dataclass(frozen=True, slots=True)
class LivePlan:
    """A plan in force; units that fell through are gone from its shipments, and shipments without units with them."""

    plan_id: str
    attempt: int
    shipments: tuple[PlannedShipment, ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Units tried again at `retry_at`. `planned_before`: an earlier plan for them fell through.

    `heard`: of which version of inventory's stream it is that they want a location.
    """

    plan_id: str
    attempt: int
    lines: tuple[ReleasedLine, ...]
    planned_before: bool
    retry_at: datetime
    reason: str
    heard: int = 0


@dataclass(frozen=True, slots=True)
class OrderPlan:
    """Routing's knowledge of one order; `OrderPlan()` is one it never heard of."""

    order_id: str = ""
    country: str = ""
    region: str = ""
    postal_code: str = ""
    service_level: ServiceLevel = ServiceLevel.STANDARD
    placed_at: datetime | None = None
    decisions: int = 0
    answered: tuple[str, ...] = ()
    live: tuple[LivePlan, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    unroutable: tuple[ReleasedLine, ...] = ()
    excluded: tuple[tuple[str, str | None], ...] = ()
    promised_by: datetime | None = None

    @property
    def shipments(self) -> Iterable[PlannedShipment]:
        """All that is under way, as far as routing was told."""
        return (shipment for live in self.live for shipment in live.shipments)


@dataclass(frozen=True, slots=True)
class PolicyInForce:
    """The policy and network decided by; empty before the first is adopted."""

    policy_hash: str = ""
    content: str = ""
    network: str = ""


def route(states: Mapping[str, Any], command: PlanCommand) -> list[tuple[str, PlanEvent]]:
    """`decide` under the policy in force. Sees `plan-<order>` and `policy-default`. Raises PolicyNotAdopted."""
    policy: PolicyInForce = states[POLICY_STREAM]
    if not policy.policy_hash:
        raise PolicyNotAdopted(command.order_id)
    stream = PLANS.stream(command.order_id)
    return [(stream, event) for event in decide(states[stream], command, read_rules(policy.content, policy.network))]


def decide(state: OrderPlan, command: PlanCommand, rules: Rules) -> list[PlanEvent]:
    """The events that `command` causes under `rules`; `[]` if it was answered before. Raises OrderNotRouted."""
    units = _units(state, command)
    if units is None:
        return []
    events = _decide_on(units, state, command, rules)
    if isinstance(events[0], OrderDeferred):
        return events
    after = state
    for event in events:
        after = evolve(after, event)
    return [*events, *_promise(after, units.cause, rules)]


def drop(state: OrderPlan, command: DropUnits) -> list[WaitingUnitsGone]:
    """Of the units that wait to be tried again, these are tried no more; those that wait longest go first.

    Units that came to wait after inventory said it are others.
    """
    if command.caused_by in state.answered:
        return []
    rest: dict[str, int] = {}
    for line in command.lines:
        rest[line.line_id] = rest.get(line.line_id, 0) + line.quantity
    events: list[WaitingUnitsGone] = []
    for one in state.waiting:
        if one.heard > command.heard:
            continue
        gone = _cut(one.lines, rest)
        if gone:
            for part in gone:
                rest[part.line_id] -= part.quantity
            left = sum(part.quantity for part in one.lines) - sum(part.quantity for part in gone)
            events.append(
                WaitingUnitsGone(
                    order_id=command.order_id,
                    plan_id=one.plan_id,
                    caused_by=command.caused_by,
                    lines=tuple(LineQuantity(line_id=p.line_id, sku=p.sku, quantity=p.quantity) for p in gone),
                    left=left,
                )
            )
    return events


@dataclass(frozen=True, slots=True)
class _Units:
    """What a command asks to decide on."""

    lines: tuple[ReleasedLine, ...]
    cause: RouteCause
    caused_by: str
    attempt: int = 1
    instead_of: str | None = None
    planned_before: bool = True
    excluded: tuple[Exclusion, ...] = ()
    excluded_once: tuple[Exclusion, ...] = ()
    heard: int = 0


def _units(state: OrderPlan, command: PlanCommand) -> _Units | None:
    """The units to decide on, None if there are none (any more)."""
    match command:
        case RouteOrder():
            if command.caused_by in state.answered:
                return None
            return _Units(
                lines=command.lines,
                cause=command.cause,
                caused_by=command.caused_by,
                planned_before=False,
                excluded=state.excluded,
                heard=command.heard,
            )
        case RerouteRefused():
            _must_be_known(state, command.order_id, command.plan_id)
            refused = next((live for live in state.live if live.plan_id == command.plan_id), None)
            if refused is None:
                return None
            lines = _merged(line for shipment in refused.shipments for line in shipment.lines)
            if command.wanted:
                lines = _cut(lines, {line.line_id: line.quantity for line in command.wanted})
            if not lines:
                return None
            return _Units(
                lines=lines,
                cause="allocation-refused",
                caused_by=command.caused_by,
                attempt=refused.attempt + 1,
                instead_of=command.plan_id,
                excluded=state.excluded,
                excluded_once=command.short,
                heard=command.heard,
            )
        case RerouteGivenBack():
            _must_be_known(state, command.order_id, command.fulfillment_id)
            lines = _still_under_way(state, command.fulfillment_id, command.lines)
            if not lines or command.caused_by in state.answered:
                return None
            new, once = _exclusions(command, lines)
            return _Units(
                lines=lines,
                cause=command.cause,
                caused_by=command.caused_by,
                instead_of=command.fulfillment_id,
                excluded=tuple(dict.fromkeys((*state.excluded, *new))),
                excluded_once=once,
                heard=command.heard,
            )
        case RetryRouting():
            waiting = next((one for one in state.waiting if one.plan_id == command.plan_id), None)
            if waiting is None:
                return None
            return _Units(
                lines=waiting.lines,
                cause="retry",
                caused_by=f"retry:{command.plan_id}",
                attempt=waiting.attempt + 1,
                instead_of=command.plan_id,
                planned_before=waiting.planned_before,
                excluded=state.excluded,
                heard=waiting.heard,
            )
        case _:
            assert_never(command)


def _exclusions(
    command: RerouteGivenBack, lines: Iterable[ReleasedLine]
) -> tuple[tuple[Exclusion, ...], tuple[Exclusion, ...]]:
    """What the location may not ship for good, and what for the next try."""
    match command.cause:
        case "rejected":
            return ((command.location, None),), ()
        case "short-pick":
            return tuple((command.location, sku) for sku in dict.fromkeys(line.sku for line in lines)), ()
        case "manual":
            return (), ((command.location, None),) if command.avoid else ()
        case _:
            assert_never(command.cause)


def _must_be_known(state: OrderPlan, order_id: str, what: str) -> None:
    if not state.decisions:
        raise OrderNotRouted(order_id, what)


def _decide_on(units: _Units, state: OrderPlan, command: PlanCommand, rules: Rules) -> list[PlanEvent]:
    """One decision, or two where some units can be shipped and others never."""
    inputs = _inputs(units, state, command, rules)
    decided = _Facts(units, state, command)
    limit = rules.policy.attempts
    retry_at = command.decided_at + timedelta(seconds=rules.policy.retry_after_s)
    if units.attempt > limit:
        reason = f"given up after {limit} tries: each time a location had less than routing knew of"
        return [decided.unroutable(inputs, reason)]
    if units.cause == "allocation-refused" and TRIES_IN_A_ROW < units.attempt < limit:
        return [decided.deferred(inputs, "locations have less than routing knows of", retry_at)]
    found = plan(inputs, decided.plan_id, rules)
    if isinstance(found, Unroutable) and not units.planned_before and units.attempt >= min(2, limit):
        inputs = inputs.model_copy(update={"excluded": ()})
        found = plan(inputs, decided.plan_id, rules)
    if isinstance(found, Plan):
        return [decided.routed(inputs, found)]
    if units.attempt < limit and (found.may_pass or _only_this_once(units, inputs, rules)):
        return [decided.deferred(inputs, found.reason, retry_at)]
    possible, impossible = _parted(units.lines, dict(found.missing))
    if not possible:
        return [decided.unroutable(inputs, found.reason)]
    inputs = inputs.model_copy(update={"lines": possible})
    part = plan(inputs, decided.plan_id, rules)
    assert isinstance(part, Plan), "what is not missing can be shipped"
    routed = decided.routed(inputs, part)
    left = inputs.model_copy(update={"lines": impossible, "available": _less(inputs.available, part.shipments)})
    none = plan(left, decided.plan_id, rules)
    assert isinstance(none, Unroutable), "what is missing cannot be shipped"
    return [routed, decided.unroutable(left, none.reason)]


def _only_this_once(units: _Units, inputs: RoutingInputs, rules: Rules) -> bool:
    """Whether without the exclusions that end with this try there is, or may be, a plan."""
    lasting = units.excluded if units.planned_before else ()
    if inputs.excluded == lasting:
        return False
    found = plan(inputs.model_copy(update={"excluded": lasting}), "unnamed", rules)
    return isinstance(found, Plan) or found.may_pass


def _inputs(units: _Units, state: OrderPlan, command: PlanCommand, rules: Rules) -> RoutingInputs:
    skus = sorted({line.sku for line in units.lines})
    if isinstance(command, RouteOrder):
        placed_at, level = command.placed_at, command.service_level
        country, region, postal_code = (
            command.destination.country,
            command.destination.region,
            command.destination.postal_code,
        )
    else:
        assert state.placed_at is not None, "an order that is routed again was routed"
        placed_at, level = state.placed_at, state.service_level
        country, region, postal_code = state.country, state.region, state.postal_code
    seen = {
        location: {sku: stock[sku] for sku in skus if stock.get(sku, 0) > 0}
        for location, stock in sorted(command.available.items())
    }
    return RoutingInputs(
        policy_hash=rules.hash,
        decided_at=command.decided_at,
        placed_at=placed_at,
        country=country,
        region=region,
        postal_code=postal_code,
        place=rules.place_of(country, region, postal_code),
        service_level=level,
        lines=units.lines,
        available={location: stock for location, stock in seen.items() if stock},
        excluded=tuple(dict.fromkeys((*units.excluded, *units.excluded_once))),
        preferences=PREFERENCES,
    )


class _Facts:
    """The facts of one decision; each takes the next plan id."""

    def __init__(self, units: _Units, state: OrderPlan, command: PlanCommand) -> None:
        self.units = units
        self.order_id = command.order_id
        self.number = state.decisions + 1

    @property
    def plan_id(self) -> str:
        return f"{self.order_id}.{self.number}"

    def _head(self, inputs: RoutingInputs) -> dict[str, Any]:
        plan_id = self.plan_id
        self.number += 1
        return {
            "order_id": self.order_id,
            "plan_id": plan_id,
            "caused_by": self.units.caused_by,
            "instead_of": self.units.instead_of,
            "attempt": self.units.attempt,
            "cause": self.units.cause,
            "inputs": inputs,
        }

    def routed(self, inputs: RoutingInputs, found: Plan) -> OrderRouted | OrderRerouted:
        fact = OrderRerouted if self.units.planned_before else OrderRouted
        return fact(**self._head(inputs), shipments=found.shipments, cost=found.cost, proven_best=found.proven_best)

    def deferred(self, inputs: RoutingInputs, reason: str, retry_at: datetime) -> OrderDeferred:
        return OrderDeferred(**self._head(inputs), reason=reason, retry_at=retry_at, heard=self.units.heard)

    def unroutable(self, inputs: RoutingInputs, reason: str) -> OrderUnroutable:
        return OrderUnroutable(**self._head(inputs), reason=reason)


def _promise(state: OrderPlan, cause: RouteCause, rules: Rules) -> list[PlanEvent]:
    """The customer is told the latest delivery of what is under way, if that is news."""
    latest = max((shipment.deliver_by for shipment in state.shipments), default=None)
    if latest is None or latest == state.promised_by:
        return []
    there = ZoneInfo(rules.place_of(state.country, state.region, state.postal_code).zone)
    told: dict[str, Any] = {"promised_by": latest, "promised_on": latest.astimezone(there).date()}
    if state.promised_by is None:
        return [PromiseMade(order_id=state.order_id, **told)]
    return [PromiseChanged(order_id=state.order_id, **told, was=state.promised_by, reason=cause)]


def _merged(lines: Iterable[ReleasedLine]) -> tuple[ReleasedLine, ...]:
    """Parts of the same line put together again."""
    merged: dict[str, ReleasedLine] = {}
    for line in lines:
        known = merged.get(line.line_id)
        merged[line.line_id] = _of(line, known.quantity + line.quantity) if known else line
    return tuple(merged.values())


def _of(line: ReleasedLine, quantity: int) -> ReleasedLine:
    return line if quantity == line.quantity else line.model_copy(update={"quantity": quantity})


def _still_under_way(state: OrderPlan, fulfillment_id: str, lines: Sequence[ReleasedLine]) -> tuple[ReleasedLine, ...]:
    """As much of `lines` as that fulfillment order still has."""
    has: dict[str, int] = {}
    for shipment in state.shipments:
        if shipment.fulfillment_id == fulfillment_id:
            has = {line.line_id: line.quantity for line in shipment.lines}
    return _cut(_merged(lines), has)


def _cut(lines: Iterable[ReleasedLine], most: Mapping[str, int]) -> tuple[ReleasedLine, ...]:
    """`lines`, of each no more units than it has in `most`."""
    found = ((line, min(line.quantity, most.get(line.line_id, 0))) for line in lines)
    return tuple(_of(line, quantity) for line, quantity in found if quantity)


def _parted(
    lines: Sequence[ReleasedLine], missing: dict[str, int]
) -> tuple[tuple[ReleasedLine, ...], tuple[ReleasedLine, ...]]:
    """`lines` without the `missing` units of each SKU, and those units, taken from the last lines."""
    possible: list[ReleasedLine] = []
    impossible: list[ReleasedLine] = []
    for line in reversed(lines):
        without = min(missing.get(line.sku, 0), line.quantity)
        if without:
            missing[line.sku] -= without
            impossible.append(_of(line, without))
        if without < line.quantity:
            possible.append(_of(line, line.quantity - without))
    return tuple(reversed(possible)), tuple(reversed(impossible))


def _less(available: Picture, shipments: Sequence[PlannedShipment]) -> dict[str, dict[str, int]]:
    left = {location: dict(stock) for location, stock in available.items()}
    for shipment in shipments:
        stock = left[shipment.location]
        for line in shipment.lines:
            stock[line.sku] -= line.quantity
            if not stock[line.sku]:
                del stock[line.sku]
    return {location: stock for location, stock in left.items() if stock}


def decide_policy(state: PolicyInForce, command: AdoptPolicy) -> list[PolicyAdopted]:
    """Adopts files that say something else than those in force. Raises PolicyInvalid or NetworkInvalid."""
    rules = read_rules(command.content, command.network)
    if rules.hash == state.policy_hash:
        return []
    return [PolicyAdopted(policy_hash=rules.hash, content=command.content, network=command.network)]


def evolve(state: OrderPlan, event: PlanEvent) -> OrderPlan:
    """Fold one event in. Never refuses."""
    match event:
        case PromiseMade() | PromiseChanged():
            return replace(state, promised_by=event.promised_by)
        case OrderRouted() | OrderRerouted():
            live = LivePlan(event.plan_id, event.attempt, event.shipments)
            state = _without_earlier(state, event)
            return replace(state, live=(*state.live, live))
        case OrderDeferred():
            waiting = Waiting(
                plan_id=event.plan_id,
                attempt=event.attempt,
                lines=event.inputs.lines,
                planned_before=_planned_before(state, event),
                retry_at=event.retry_at,
                reason=event.reason,
                heard=event.heard,
            )
            state = _without_earlier(state, event)
            return replace(state, waiting=(*state.waiting, waiting))
        case OrderUnroutable():
            state = _without_earlier(state, event)
            return replace(state, unroutable=_merged((*state.unroutable, *event.inputs.lines)))
        case WaitingUnitsGone():
            gone = {line.line_id: line.quantity for line in event.lines}
            waits = (
                replace(one, lines=_without(one.lines, gone)) if one.plan_id == event.plan_id else one
                for one in state.waiting
            )
            return replace(
                state, waiting=tuple(one for one in waits if one.lines), answered=_answered(state, event.caused_by)
            )
        case _:
            assert_never(event)


_Decided = OrderRouted | OrderRerouted | OrderDeferred | OrderUnroutable


def _planned_before(state: OrderPlan, event: _Decided) -> bool:
    if event.cause == "retry":
        return any(one.plan_id == event.instead_of and one.planned_before for one in state.waiting)
    return event.cause not in ("reserved", "backorder-filled")


def _without_earlier(state: OrderPlan, event: _Decided) -> OrderPlan:
    """The order after a decision was taken, with its units gone from where they were before."""
    inputs, live, waiting, excluded = event.inputs, state.live, state.waiting, state.excluded
    if event.cause == "retry":
        waiting = tuple(one for one in waiting if one.plan_id != event.instead_of)
    elif event.cause == "allocation-refused":
        live = tuple(one for one in live if one.plan_id != event.instead_of)
    elif event.cause in ("rejected", "short-pick", "manual"):
        live = tuple(
            replace(one, shipments=kept)
            for one in live
            if (kept := _given_back(one.shipments, event.instead_of, inputs.lines))
        )
        excluded = excluded if event.cause == "manual" else inputs.excluded
    return replace(
        state,
        order_id=event.order_id,
        country=inputs.country,
        region=inputs.region,
        postal_code=inputs.postal_code,
        service_level=ServiceLevel(inputs.service_level),
        placed_at=inputs.placed_at,
        decisions=state.decisions + 1,
        answered=_answered(state, event.caused_by),
        live=live,
        waiting=waiting,
        excluded=excluded,
    )


def _answered(state: OrderPlan, caused_by: str) -> tuple[str, ...]:
    return state.answered if caused_by in state.answered else (*state.answered, caused_by)


def _without(lines: Iterable[ReleasedLine], gone: Mapping[str, int]) -> tuple[ReleasedLine, ...]:
    left = ((line, line.quantity - gone.get(line.line_id, 0)) for line in lines)
    return tuple(_of(line, quantity) for line, quantity in left if quantity > 0)


def _given_back(
    shipments: tuple[PlannedShipment, ...], fulfillment_id: str | None, lines: Sequence[ReleasedLine]
) -> tuple[PlannedShipment, ...]:
    """`shipments` without those `lines` of that fulfillment order."""
    back = {line.line_id: line.quantity for line in lines}
    kept = []
    for shipment in shipments:
        if shipment.fulfillment_id != fulfillment_id:
            kept.append(shipment)
            continue
        rest = _without(shipment.lines, back)
        if rest:
            kept.append(shipment.model_copy(update={"lines": rest}))
    return tuple(kept)


def evolve_policy(state: PolicyInForce, event: PolicyAdopted) -> PolicyInForce:
    return PolicyInForce(event.policy_hash, event.content, event.network)


def skus_to_route(state: OrderPlan, what: str) -> tuple[str, ...]:
    """The SKUs of which a picture is needed to route again what `what` holds: a plan, refused or waiting."""
    refused = (line for live in state.live if live.plan_id == what for one in live.shipments for line in one.lines)
    waited = (line for one in state.waiting if one.plan_id == what for line in one.lines)
    return tuple(dict.fromkeys(line.sku for line in (*refused, *waited)))


def recompute(event: _Decided, policy_content: str, network_content: str) -> Plan | Unroutable:
    """The decision made again from its record; a plan's shipments and cost equal the event's.

    Give the texts of the PolicyAdopted event with its policy_hash. Raises PolicyMismatch for others.
    """
    rules = read_rules(policy_content, network_content)
    if rules.hash != event.inputs.policy_hash:
        raise PolicyMismatch(event.plan_id, event.inputs.policy_hash, rules.hash)
    return plan(event.inputs, event.plan_id, rules)


def plan_summary(state: OrderPlan) -> dict[str, Any]:
    """What the view shows of an order's plan; JSON all through."""
    return {
        "order_id": state.order_id,
        "status": _status(state),
        "promised_by": state.promised_by.isoformat() if state.promised_by else None,
        "decisions": state.decisions,
        "shipments": [
            {"plan_id": live.plan_id, "attempt": live.attempt, **shipment.model_dump(mode="json")}
            for live in state.live
            for shipment in live.shipments
        ],
        "waiting": [
            {
                "plan_id": one.plan_id,
                "attempt": one.attempt,
                "retry_at": one.retry_at.isoformat(),
                "reason": one.reason,
                "lines": [line.model_dump(mode="json") for line in one.lines],
            }
            for one in state.waiting
        ],
        "unroutable": [line.model_dump(mode="json") for line in state.unroutable],
        "excluded": [{"location": location, "sku": sku} for location, sku in state.excluded],
    }


def _status(state: OrderPlan) -> str:
    if state.waiting:
        return "waiting"
    if state.unroutable:
        return "partly-unroutable" if state.live else "unroutable"
    if state.live:
        return "routed"
    return "nothing-to-route" if state.decisions else "unknown"


PLANS = Decider("plan", OrderPlan(), evolve)
POLICIES = Decider("policy", PolicyInForce(), evolve_policy, shared=True)
POLICY_STREAM = POLICIES.stream("default")
