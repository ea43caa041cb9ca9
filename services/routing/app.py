"""Routing on one page: what it consumes and follows, when it tries again, what it shows."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query

from ordermill.clock import Clock
from ordermill.contracts.base import decode
from ordermill.contracts.inventory import (
    AllocationRefused,
    Availability,
    OrderBackordered,
    OrderBackorderFilled,
    OrderDeallocated,
    OrderLetGo,
    OrderReserved,
)
from ordermill.contracts.routing import PolicyAdopted
from ordermill.decider import decision
from ordermill.network import text_of
from ordermill.service.declare import Follows, Service, on
from ordermill.service.http import WITHOUT_NUL, Actor, Key, NotHere, Running, browse, new_router
from ordermill.service.running import RunningService
from ordermill.service.settings import PlatformSettings

from . import handlers
from .answers import PlanDocument, PolicyDocument
from .domain import PLANS, POLICIES, POLICY_STREAM, AdoptPolicy, decide_policy
from .errors import PolicyInvalid
from .explain import Decision, Explanation, explain
from .handlers import Planning, deadlines
from .picture import Picture
from .policy import default_policy_text
from .rules import read_rules
from .settings import RoutingSettings
from .views import PLAN_VIEW, POLICY_VIEW


def build(platform: PlatformSettings, clock: Clock) -> Service:
    settings = RoutingSettings()
    policy = text_of(settings.policy_file, PolicyInvalid) if settings.policy_file else default_policy_text()
    network = platform.network_text()
    return replace(core(policy, network, clock), routes=routes())


def core(policy: str, network: str, clock: Clock) -> Service:
    """What it does with what comes in, whichever doors that comes through. `policy` and `network` as TOML."""
    read_rules(policy, network)
    picture = Picture()
    planning = Planning(picture, clock)

    async def adopt_policy(running: RunningService) -> None:
        adopt = decision(POLICY_STREAM, decide_policy, AdoptPolicy(policy, network))
        await running.execute([adopt], "system:routing")

    return Service(
        name="routing",
        deciders=(PLANS, POLICIES),
        consumes=(
            on(OrderReserved, planning.reserved),
            on(OrderBackorderFilled, planning.reserved),
            on(AllocationRefused, planning.allocation_refused),
            on(OrderDeallocated, planning.given_back),
            on(OrderLetGo, handlers.let_go),
            on(OrderBackordered, handlers.backordered),
        ),
        follows=(Follows(Availability, picture.absorb),),
        set_timers=deadlines,
        timers={"retry": planning.retry},
        views=(PLAN_VIEW, POLICY_VIEW),
        startup=adopt_policy,
    )


def routes() -> APIRouter:
    router = new_router()
    browse(router, "/plans", PLAN_VIEW, PlanDocument)
    browse(router, "/policies", POLICY_VIEW, PolicyDocument)

    @router.get("/plans/{order_id}/explanation", summary="Why a decision came out as it did")
    async def explanation(
        order_id: Key,
        service: Running,
        _: Actor,
        plan_id: Annotated[
            str, Query(max_length=140, pattern=WITHOUT_NUL, description="A decision's id; without it the latest.")
        ] = "",
    ) -> Explanation:
        """The decision made again from its record, and what each other location would have meant."""
        decisions = [
            fact
            for row in await service.engine.store.read_stream(PLANS.stream(order_id))
            if isinstance(fact := decode(row.type, row.data), Decision) and plan_id in ("", fact.plan_id)
        ]
        if not decisions:
            raise NotHere("decision", plan_id or order_id)
        policy = await policy_of(service, decisions[-1].inputs.policy_hash)
        return await asyncio.to_thread(explain, decisions[-1], policy.content, policy.network)

    return router


async def policy_of(service: RunningService, policy_hash: str) -> PolicyAdopted:
    """The policy that was adopted under this hash. Raises NotHere."""
    for row in await service.engine.store.read_stream(POLICY_STREAM):
        adopted = decode(row.type, row.data)
        if isinstance(adopted, PolicyAdopted) and adopted.policy_hash == policy_hash:
            return adopted
    raise NotHere("policy", policy_hash)
