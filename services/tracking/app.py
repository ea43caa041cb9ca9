"""Tracking on one page: what it consumes, when its timers ring, what it shows."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import replace

from fastapi import APIRouter, Response

from ordermill.clock import Clock
from ordermill.contracts.capture import (
    CancellationRefunded,
    HoldReleased,
    OrderCaptured,
    OrderHeld,
    OrderLinesCanceled,
    OrderRevised,
)
from ordermill.contracts.carrier import ParcelScanned
from ordermill.contracts.fulfillment import FulfillmentShipped
from ordermill.contracts.inventory import OrderBackordered, OrderBackorderFilled, OrderLetGo, OrderReserved
from ordermill.contracts.returns import GoodsWaived, RefundPaid, ReturnAuthorized, ReturnInspected, ReturnReceived
from ordermill.contracts.routing import PromiseChanged, PromiseMade
from ordermill.contracts.tracking import OrderStatus
from ordermill.customer import customer_token, in_words, order_of_token
from ordermill.service.declare import IN_A_MOMENT_S, Service, on
from ordermill.service.http import Actor, Key, NotHere, Running, browse, document_or_404, new_router, shown
from ordermill.service.settings import PlatformSettings

from .answers import CustomersOrder, Link, OrderStatusDocument, ShipmentDocument
from .domain import SHIPMENT
from .handlers import Deadlines, announce, record_scan, record_steps
from .settings import TrackingSettings
from .status import STATUS
from .views import ORDER_STATUS, PUBLISHED_STATUS, SHIPMENTS

STEPS = (
    OrderCaptured, OrderRevised, OrderHeld, HoldReleased, OrderLinesCanceled, CancellationRefunded,
    OrderReserved, OrderBackordered, OrderBackorderFilled, OrderLetGo, PromiseMade, PromiseChanged,
    ReturnAuthorized, ReturnReceived, ReturnInspected, GoodsWaived, RefundPaid,
)  # fmt: skip


def build(platform: PlatformSettings, clock: Clock) -> Service:
    settings = TrackingSettings()
    deadlines = Deadlines(settings.late_after, settings.lost_after)
    return replace(core(deadlines), routes=routes(b64decode(platform.link_secret.get_secret_value())))


def core(deadlines: Deadlines) -> Service:
    """What it does with what comes in, whichever doors that comes through."""
    return Service(
        name="tracking",
        pace_s=IN_A_MOMENT_S,
        deciders=(SHIPMENT, STATUS),
        consumes=(
            on(FulfillmentShipped, announce),
            on(ParcelScanned, record_scan),
            *(on(fact, record_steps) for fact in STEPS),
        ),
        set_timers=deadlines.of,
        timers={
            "promise": deadlines.check_promise,
            "lost": deadlines.check_lost,
            "order-promise": deadlines.check_order_promise,
        },
        views=(SHIPMENTS, ORDER_STATUS),
        published=(PUBLISHED_STATUS,),
    )


def routes(link_secret: bytes) -> APIRouter:
    router = new_router()
    browse(router, "/shipments", SHIPMENTS, ShipmentDocument)
    browse(router, "/order-status", ORDER_STATUS, OrderStatusDocument)

    @router.get("/orders/{order_id}/link", summary="The customer's link to an order")
    async def link(order_id: Key, service: Running, _: Actor) -> Link:
        await document_or_404(service, ORDER_STATUS, order_id)
        return Link(path=f"/track/{customer_token(link_secret, order_id)}")

    @router.get(
        "/track/{token}", summary="An order as its customer sees it; the link is the key", response_model=CustomersOrder
    )
    async def track(token: Key, service: Running) -> Response:
        order_id = order_of_token(link_secret, token)
        if order_id is None:
            raise NotHere("order behind the link", "…")
        found = await document_or_404(service, ORDER_STATUS, order_id)
        found.pop("key")
        return shown({"in_words": in_words(OrderStatus.model_validate({**found, "version": 0})), **found})

    return router
