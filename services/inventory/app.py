"""Inventory on one page: what it consumes, what it publishes, its doors for the team."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import StringConstraints

from ordermill.clock import Clock
from ordermill.contracts.capture import CancellationRequested, OrderReleased
from ordermill.contracts.fields import Id, Part
from ordermill.contracts.fulfillment import (
    FulfillmentCancellationDeclined,
    FulfillmentLinesCanceled,
    FulfillmentRejected,
    FulfillmentShipped,
    FulfillmentShortPicked,
)
from ordermill.contracts.inventory import StockRejected
from ordermill.contracts.location import StockArrived, StockCorrected, StockCounted
from ordermill.contracts.returns import ReturnInspected
from ordermill.contracts.routing import OrderRerouted, OrderRouted
from ordermill.network import read_network
from ordermill.service.declare import Service, on
from ordermill.service.http import Actor, Done, Running, browse, done, new_router
from ordermill.service.running import RunningService
from ordermill.service.settings import PlatformSettings

from . import handlers
from .answers import ReservationDocument, StockDocument
from .domain import RESERVATION, STOCK, RerouteUnits, decision
from .handlers import Feeds
from .settings import InventorySettings
from .views import AVAILABILITY, RESERVATIONS, STOCK_VIEW

_PAGE = 1_000


def build(platform: PlatformSettings, clock: Clock) -> Service:
    settings = InventorySettings()
    network = read_network(platform.network_text())
    feeds = Feeds(network, settings.backorder_cap)
    return replace(core(feeds), routes=routes(feeds))


def core(feeds: Feeds) -> Service:
    """What it does with what comes in, whichever doors that comes through."""

    async def heed_network(running: RunningService) -> None:
        after = ""
        while page := await running.engine.store.documents(STOCK_VIEW.name, after=after, limit=_PAGE):
            after = page[-1][0]
            heeding = (([each], None) for each in feeds.at_start(page))
            for outcome in await running.execute_many(heeding, "system:inventory"):
                if outcome.error is not None:
                    raise outcome.error

    return Service(
        name="inventory",
        deciders=(STOCK, RESERVATION),
        consumes=(
            on(StockArrived, feeds.arrived),
            on(StockCorrected, feeds.corrected),
            on(StockCounted, feeds.counted),
            on(OrderReleased, feeds.released),
            on(CancellationRequested, handlers.cancellation_requested),
            on(OrderRouted, handlers.routed),
            on(OrderRerouted, handlers.routed),
            on(FulfillmentRejected, handlers.rejected),
            on(FulfillmentShortPicked, handlers.short_picked),
            on(FulfillmentShipped, handlers.shipped),
            on(FulfillmentLinesCanceled, handlers.recall_answered),
            on(FulfillmentCancellationDeclined, handlers.recall_declined),
            on(ReturnInspected, feeds.inspected),
        ),
        views=(STOCK_VIEW, RESERVATIONS),
        published=(AVAILABILITY,),
        startup=heed_network,
        contended=frozenset({STOCK.category}),
    )


class RerouteRequest(Part):
    """Take all units that are not packed back from this fulfillment order and route them again.

    `elsewhere` leaves its location out of the next plan; should only that one have the goods, it gets them again.
    """

    reroute_id: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._:-]+$")]
    """The same twice is done once."""
    fulfillment_id: Id
    elsewhere: bool = True


Lines = Body(min_length=1, max_length=1_000, description="Up to 1,000 lines; each succeeds or fails by itself.")


def routes(feeds: Feeds) -> APIRouter:
    router = new_router()
    browse(router, "/stock", STOCK_VIEW, StockDocument, any_key=True)
    browse(router, "/reservations", RESERVATIONS, ReservationDocument)

    @router.post("/stock/receive", summary="Goods came in")
    async def receive(lines: Annotated[list[StockArrived], Lines], service: Running, actor: Actor) -> list[Done]:
        now = service.engine.clock()
        outcomes = await service.execute_many((([decision(feeds.receive(line, now))], None) for line in lines), actor)
        return [done(outcome, StockRejected) for outcome in outcomes]

    @router.post("/stock/adjust", summary="Units were found or lost")
    async def adjust(lines: Annotated[list[StockCorrected], Lines], service: Running, actor: Actor) -> list[Done]:
        now = service.engine.clock()
        outcomes = await service.execute_many((([decision(feeds.correct(line, now))], None) for line in lines), actor)
        return [done(outcome, StockRejected) for outcome in outcomes]

    @router.post("/stock/count", summary="A person counted what is there")
    async def count(lines: Annotated[list[StockCounted], Lines], service: Running, actor: Actor) -> list[Done]:
        now = service.engine.clock()
        outcomes = await service.execute_many((([decision(feeds.count(line, now))], None) for line in lines), actor)
        return [done(outcome, StockRejected) for outcome in outcomes]

    @router.post("/reservations/{order_id}/reroute", summary="Have units at a location routed again")
    async def reroute(order_id: str, request: RerouteRequest, service: Running, actor: Actor) -> Done:
        """The location answers whether it is in time: what is packed stays."""
        command = RerouteUnits(order_id, request.fulfillment_id, request.reroute_id, request.elsewhere)
        return done(await service.execute([decision(command)], actor))

    return router
