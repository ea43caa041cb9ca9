"""Returns on one page: what it consumes, its effect and timer, its doors for customers' requests and the desk."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Response
from pydantic import Field

from ordermill.clock import Clock
from ordermill.contracts.capture import ChannelRefunded, OrderCaptured, OrderLinesCanceled, OrderRevised
from ordermill.contracts.fields import Id, LineQuantity, LocationId, Part, Text
from ordermill.contracts.returns import ExchangeLine, InspectedLine, ReturnReason
from ordermill.contracts.tracking import ShipmentAnnounced, ShipmentCameBack, ShipmentDelivered, ShipmentLost
from ordermill.network import read_network
from ordermill.payments import PaymentProvider
from ordermill.payments.http import http_payments
from ordermill.service.declare import IN_A_MOMENT_S, Service, on
from ordermill.service.http import Actor, Done, Running, browse, document_or_404, done, new_router, shown
from ordermill.service.outbound import Outbound, OutboundSettings
from ordermill.service.settings import PlatformSettings

from .answers import PurchaseDocument, ReturnDocument
from .domain import (
    PARCEL,
    PURCHASE,
    RETURN,
    CloseReceipt,
    Command,
    InspectReturn,
    ReceiveReturn,
    RequestReturn,
    RetryRefund,
    WaiveGoods,
)
from .handlers import Desk, deadlines
from .policy import BUILT_IN, read_policy
from .settings import ReturnsSettings
from .views import PURCHASES, RETURNS


def build(platform: PlatformSettings, clock: Clock) -> Service:
    outbound = Outbound(OutboundSettings())
    settings = ReturnsSettings()
    desk = Desk(read_policy(settings.policy_file or BUILT_IN))
    locations = read_network(platform.network_text()).location_ids
    return replace(core(desk, http_payments(outbound)), outbound=outbound, routes=routes(desk, locations))


def core(desk: Desk, payments: PaymentProvider) -> Service:
    """What it does with what comes in, whichever doors that comes through."""
    facts = (
        OrderCaptured, OrderRevised, OrderLinesCanceled, ChannelRefunded,
        ShipmentAnnounced, ShipmentDelivered, ShipmentLost, ShipmentCameBack,
    )  # fmt: skip
    return Service(
        name="returns",
        pace_s=IN_A_MOMENT_S,
        deciders=(PURCHASE, PARCEL, RETURN),
        consumes=tuple(on(fact, desk.record) for fact in facts),
        set_timers=deadlines,
        timers={"expires": desk.expire},
        effects=(desk.refunds(payments),),
        views=(RETURNS, PURCHASES),
    )


class ReturnRequest(Part):
    """What shall come back, and why. Asking again under the same `return_id` changes nothing."""

    return_id: Id
    order_id: Id
    lines: Annotated[tuple[LineQuantity, ...], Field(min_length=1, max_length=1_000)]
    reason: ReturnReason
    wanted: Literal["refund", "exchange"] = "refund"
    exchange_for: Annotated[tuple[ExchangeLine, ...], Field(max_length=100)] = ()
    by: Literal["customer", "agent"] = "customer"
    note: Text = ""


class ReceiveWork(Part):
    """Goods arrived; `receipt_id` tells one receipt from another with the same goods."""

    do: Literal["receive"]
    return_id: Id
    receipt_id: Id
    location: LocationId
    lines: Annotated[tuple[LineQuantity, ...], Field(min_length=1, max_length=1_000)]


class InspectWork(Part):
    do: Literal["inspect"]
    return_id: Id
    inspection_id: Id
    location: LocationId
    lines: Annotated[tuple[InspectedLine, ...], Field(min_length=1, max_length=1_000)]


class WaiveWork(Part):
    """What has not come need not, as it is lost or not worth its way: credit it all the same, and settle."""

    do: Literal["waive"]
    return_id: Id


class CloseWork(Part):
    """Nothing more will come: settle what did."""

    do: Literal["close"]
    return_id: Id


class RetryRefundWork(Part):
    """The refund failed: ask for it again under its own id, so that it is paid once."""

    do: Literal["retry-refund"]
    return_id: Id


Work = Annotated[ReceiveWork | InspectWork | WaiveWork | CloseWork | RetryRefundWork, Field(discriminator="do")]


def routes(desk: Desk, locations: frozenset[str]) -> APIRouter:
    router = new_router()
    browse(router, "/returns", RETURNS, ReturnDocument)
    browse(router, "/purchases", PURCHASES, PurchaseDocument)

    @router.post("/returns", status_code=201, summary="Ask to send goods back", response_model=ReturnDocument)
    async def request(request: ReturnRequest, service: Running, actor: Actor) -> Response:
        """The return as it stands: authorized, or declined with every reason."""
        command = request_of(request, service.engine.clock())
        await service.execute([desk.decision(command)], actor)
        return shown(await document_or_404(service, RETURNS, request.return_id), 201)

    @router.post("/returns/work", summary="Report goods received and inspected")
    async def work(
        work: Annotated[list[Work], Body(min_length=1, max_length=1_000)], service: Running, actor: Actor
    ) -> list[Done]:
        """Up to 1,000 reports, in order; each succeeds or fails by itself, and reporting again changes nothing."""
        now = service.engine.clock()
        commands = (command_of(one, now, locations) for one in work)
        outcomes = await service.execute_many((([desk.decision(command)], None) for command in commands), actor)
        return [done(outcome) for outcome in outcomes]

    return router


def request_of(request: ReturnRequest, now: datetime) -> RequestReturn:
    """What a request that came `now` asks for."""
    return RequestReturn(
        return_id=request.return_id,
        order_id=request.order_id,
        lines=request.lines,
        reason=request.reason,
        wanted=request.wanted,
        requested_at=now,
        by=request.by,
        exchange_for=request.exchange_for,
        note=request.note,
    )


def command_of(report: Any, now: datetime, locations: frozenset[str]) -> Command:
    """What one report asks for. `now` is when it came, `locations` are all that we know."""
    match report:
        case ReceiveWork():
            return ReceiveReturn(report.return_id, report.receipt_id, report.location, report.lines, locations)
        case InspectWork():
            return InspectReturn(report.return_id, report.inspection_id, report.location, report.lines, now)
        case WaiveWork():
            return WaiveGoods(report.return_id, now)
        case RetryRefundWork():
            return RetryRefund(report.return_id)
        case _:
            return CloseReceipt(report.return_id, now)
