"""Fulfillment on one page: what it consumes, its effect, its doors for warehouses and shops."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Path, Response
from pydantic import Field

from ordermill.clock import Clock
from ordermill.contracts.fields import Id, Instant, LineQuantity, Part, Text
from ordermill.contracts.fulfillment import PackedPackage, RejectReason
from ordermill.contracts.inventory import AllocationRecalled, OrderAllocated
from ordermill.keyring import Keyring, PostgresKeyStore
from ordermill.network import Network, read_network
from ordermill.service.declare import IN_A_MOMENT_S, Service, on
from ordermill.service.http import Actor, Done, Key, Running, browse, done, new_router
from ordermill.service.outbound import Outbound, OutboundSettings
from ordermill.service.settings import PlatformSettings

from .adapters.base import Carrier
from .adapters.http import http_carriers
from .answers import FulfillmentDocument
from .domain import FULFILLMENT, Accept, Command, HandOver, Pack, Pick, Reject, RetryLabel
from .effects import labels
from .handlers import allocated, recalled, work_decision
from .paper import Paper
from .settings import FulfillmentSettings
from .views import FULFILLMENTS


def build(platform: PlatformSettings, clock: Clock) -> Service:
    settings = FulfillmentSettings()
    network = read_network(platform.network_text())
    keys = PostgresKeyStore(platform.keyring_url.get_secret_value())
    keyring = Keyring(keys, b64decode(platform.master_key.get_secret_value()))
    outbound = Outbound(OutboundSettings())
    carriers = http_carriers((carrier.id for carrier in network.carriers), settings, outbound)
    return replace(core(carriers, network, keyring), outbound=outbound, routes=routes(Paper(network, keyring)))


def core(carriers: Mapping[str, Carrier], network: Network, keyring: Keyring) -> Service:
    """What it does with what comes in, whichever doors that comes through."""
    return Service(
        name="fulfillment",
        pace_s=IN_A_MOMENT_S,
        deciders=(FULFILLMENT,),
        consumes=(on(OrderAllocated, allocated), on(AllocationRecalled, recalled)),
        effects=(labels(carriers, network, keyring),),
        views=(FULFILLMENTS,),
    )


class Report(Part):
    """Work done on one fulfillment order."""

    fulfillment_id: Id
    report_id: Annotated[
        Id | None,
        Field(description="Under an id that was taken for the same work and the same `do`, nothing changes any more."),
    ] = None


class AcceptWork(Report):
    do: Literal["accept"]


class RejectWork(Report):
    """The location will not do it, as of now unless `rejected_at` says when it did so."""

    do: Literal["reject"]
    reason: RejectReason
    note: Text = ""
    rejected_at: Instant | None = None


class PickWork(Report):
    """All that was found, now unless `picked_at` says when; what is missing from `lines` was not there."""

    do: Literal["pick"]
    lines: Annotated[tuple[LineQuantity, ...], Field(max_length=1_000)]
    picked_at: Instant | None = None


class PackWork(Report):
    do: Literal["pack"]
    packages: Annotated[tuple[PackedPackage, ...], Field(max_length=100)]


class RetryLabelWork(Report):
    do: Literal["retry-label"]
    package: Annotated[int, Field(ge=1, le=999, strict=True)]
    carrier: Id | None = None
    service: Id | None = None


class HandOverWork(Report):
    """The carrier took the packages, now unless `shipped_at` says when."""

    do: Literal["hand-over"]
    shipped_at: Instant | None = None


Work = Annotated[
    AcceptWork | RejectWork | PickWork | PackWork | RetryLabelWork | HandOverWork, Field(discriminator="do")
]


def report_key(report: Work) -> str | None:
    """What is taken once. Who sends reports may number them anew for each work, so its id alone is not enough."""
    return report.report_id and f"{report.do}:{report.fulfillment_id}:{report.report_id}"


PackageNumber = Annotated[int, Path(ge=1, le=999, description="Counts from 1 within the fulfillment order.")]


class Zpl(Response):
    media_type = "application/zpl"


class Pdf(Response):
    media_type = "application/pdf"


def routes(paper: Paper) -> APIRouter:
    router = new_router()
    browse(router, "/fulfillments", FULFILLMENTS, FulfillmentDocument)

    @router.post("/work", summary="Report work done on fulfillment orders")
    async def work(
        work: Annotated[list[Work], Body(min_length=1, max_length=1_000)], service: Running, actor: Actor
    ) -> list[Done]:
        """Up to 1,000 reports, in order; each succeeds or fails by itself, and reporting again changes nothing."""
        now = service.engine.clock()
        outcomes = await service.execute_many(
            (([work_decision(command_of(report, now))], report_key(report)) for report in work), actor
        )
        return [done(outcome) for outcome in outcomes]

    @router.get(
        "/fulfillments/{fulfillment_id}/packages/{package}/label.zpl",
        summary="A label for a ZPL printer",
        response_class=Zpl,
    )
    async def label_zpl(fulfillment_id: Key, package: PackageNumber, service: Running, _: Actor) -> Response:
        return Zpl(await paper.label_zpl(service, fulfillment_id, package))

    @router.get(
        "/fulfillments/{fulfillment_id}/packages/{package}/label.pdf", summary="A label as PDF", response_class=Pdf
    )
    async def label_pdf(fulfillment_id: Key, package: PackageNumber, service: Running, _: Actor) -> Response:
        return Pdf(await paper.label_pdf(service, fulfillment_id, package))

    @router.get(
        "/fulfillments/{fulfillment_id}/packages/{package}/slip.pdf", summary="A packing slip", response_class=Pdf
    )
    async def slip(fulfillment_id: Key, package: PackageNumber, service: Running, _: Actor) -> Response:
        return Pdf(await paper.slip_pdf(service, fulfillment_id, package))

    return router


def command_of(report: Any, now: datetime) -> Command:
    """What one report asks for. `now` is when it came."""
    match report:
        case AcceptWork():
            return Accept(report.fulfillment_id)
        case RejectWork():
            return Reject(report.fulfillment_id, report.reason, report.note, min(report.rejected_at or now, now))
        case PickWork():
            return Pick(report.fulfillment_id, report.lines, min(report.picked_at or now, now))
        case PackWork():
            return Pack(report.fulfillment_id, report.packages)
        case RetryLabelWork():
            return RetryLabel(report.fulfillment_id, report.package, report.carrier, report.service)
        case _:
            return HandOver(report.fulfillment_id, report.shipped_at or now, now)
