"""Routing on one page: what it consumes and follows, when it tries again, what it shows."""

from __future__ import annotations

from fastapi import APIRouter

from ordermill.clock import Clock
from ordermill.contracts.inventory import (
    AllocationRefused,
    Availability,
    OrderBackorderFilled,
    OrderDeallocated,
    OrderReserved,
)
from ordermill.decider import decision
from ordermill.service.declare import Follows, Service, on
from ordermill.service.http import browse, new_router
from ordermill.service.running import RunningService
from ordermill.service.settings import PlatformSettings

from .answers import PlanDocument, PolicyDocument
from .domain import PLANS, POLICIES, POLICY_STREAM, AdoptPolicy, decide_policy
from .handlers import Planning, deadlines
from .picture import Picture
from .policy import default_policy_text
from .rules import read_rules
from .settings import RoutingSettings
from .views import PLAN_VIEW, POLICY_VIEW


def build(platform: PlatformSettings, clock: Clock) -> Service:
    settings = RoutingSettings()
    policy = settings.policy_file.read_text() if settings.policy_file else default_policy_text()
    network = platform.network_text()
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
        ),
        follows=(Follows(Availability, picture.absorb),),
        set_timers=deadlines,
        timers={"retry": planning.retry},
        views=(PLAN_VIEW, POLICY_VIEW),
        startup=adopt_policy,
        routes=routes(),
    )


def routes() -> APIRouter:
    router = new_router()
    browse(router, "/plans", PLAN_VIEW, PlanDocument)
    browse(router, "/policies", POLICY_VIEW, PolicyDocument)
    return router
