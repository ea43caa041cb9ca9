"""Capture on one page: what it consumes, its effects, its doors for channels and for the team."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Request, Response
from pydantic import BaseModel, Field, SecretStr

from ordermill.clock import Clock
from ordermill.contracts.capture import HoldReason
from ordermill.contracts.channel import LineChange, OrderCanceled, OrderChanged, OrderPlaced
from ordermill.contracts.fields import ChannelId, ExternalId, Part, Text
from ordermill.contracts.fulfillment import FulfillmentCancellationDeclined
from ordermill.contracts.inventory import CancellationTooLate, OrderLetGo, OrderRefused, OrderShippedOut
from ordermill.contracts.returns import ExchangeRequested
from ordermill.contracts.routing import OrderUnroutable
from ordermill.errors import NotFound
from ordermill.ids import order_id_of
from ordermill.keyring import Keyring, PostgresKeyStore
from ordermill.payments import PaymentProvider
from ordermill.payments.http import http_payments
from ordermill.service.declare import Service, on
from ordermill.service.http import Actor, IdempotencyKey, Key, Running, browse, document_or_404, new_router, shown
from ordermill.service.openapi import problem_answer
from ordermill.service.outbound import Outbound, OutboundSettings
from ordermill.service.settings import PlatformSettings

from . import handlers
from .adapters import verify_shopify_hmac
from .answers import OrderDocument
from .domain import CancelOrder, ForgetCustomer, HoldOrder, ReleaseHold, RetryRefund, SettleChange, orders
from .effects import forgetting, refunds
from .errors import KeyUsed
from .handlers import Intake, order_decision
from .intake import Folder, Payloads
from .settings import CaptureSettings
from .views import ORDERS


def build(platform: PlatformSettings, clock: Clock) -> Service:
    outbound = Outbound(OutboundSettings())
    settings = CaptureSettings()
    keys = PostgresKeyStore(platform.keyring_url.get_secret_value())
    intake = Intake(Keyring(keys, b64decode(platform.master_key.get_secret_value())))
    payloads = Payloads(intake, settings.trusted_channels, settings.zones, settings.currencies)
    folder = Folder(settings.inbox, platform.member, payloads) if settings.inbox else None
    return replace(
        core(intake, http_payments(outbound)),
        outbound=outbound,
        background=(folder.watch,) if folder else (),
        routes=routes(intake, payloads, settings.shopify_secret),
    )


def core(intake: Intake, payments: PaymentProvider) -> Service:
    """What it does with what comes in, whichever doors that comes through."""
    return Service(
        name="capture",
        deciders=(orders,),
        consumes=(
            on(OrderPlaced, intake.handle),
            on(OrderChanged, intake.handle),
            on(OrderCanceled, intake.handle),
            on(OrderLetGo, handlers.let_go),
            on(OrderRefused, handlers.refused),
            on(OrderShippedOut, handlers.shipped_out),
            on(OrderUnroutable, handlers.unroutable),
            on(FulfillmentCancellationDeclined, handlers.declined),
            on(CancellationTooLate, handlers.declined),
            on(ExchangeRequested, intake.exchange),
        ),
        prepare=intake.prepare,
        effects=(refunds(payments), forgetting(intake)),
        views=(ORDERS,),
    )


class Accepted(BaseModel):
    """Orders that a payload touched, and what was turned away."""

    orders: list[str]
    rejected: list[str] = []


class HoldRequest(Part):
    reason: HoldReason = HoldReason.MANUAL
    note: Text = ""


class SettleRequest(Part):
    change_id: ExternalId
    note: Text = ""


class CancelRequest(Part):
    cancellation_id: ExternalId
    lines: Annotated[tuple[LineChange, ...], Field(max_length=1_000)] = ()
    reason: Text = ""


def routes(intake: Intake, payloads: Payloads, shopify_secret: SecretStr | None) -> APIRouter:
    router = new_router()
    browse(router, "/orders", ORDERS, OrderDocument)

    @router.post("/orders", status_code=201, summary="Place an order", response_model=OrderDocument)
    async def place(
        order: OrderPlaced, service: Running, actor: Actor, idempotency_key: IdempotencyKey = None
    ) -> Response:
        """The order as capture sees it now. Placing it again changes nothing."""
        await intake.prepare([order])
        command = intake.command(order, service.engine.clock())
        await service.execute([order_decision(command)], actor, idempotency_key=idempotency_key)
        try:
            found = await document_or_404(service, ORDERS, order_id_of(order.channel, order.external_id))
        except NotFound:
            raise KeyUsed(idempotency_key or "") from None
        return shown(found, 201)

    @router.post("/channels/{channel}/shopify", summary="A Shopify webhook", responses={401: problem_answer(401)})
    async def shopify(
        channel: ChannelId,
        request: Request,
        service: Running,
        signature: Annotated[str, Header(alias="X-Shopify-Hmac-SHA256", max_length=100)] = "",
        topic: Annotated[str | None, Header(alias="X-Shopify-Topic", max_length=100)] = None,
    ) -> Accepted:
        """Taken only with a valid signature over the raw body. Answers once all of it is committed."""
        body = await request.body()
        if shopify_secret is None or not verify_shopify_hmac(shopify_secret.get_secret_value(), body, signature):
            raise HTTPException(401, "the signature does not fit the body: check the shop's webhook secret")
        taken = await payloads.take(service, "shopify", body, channel, topic)
        return Accepted(orders=list(taken.orders), rejected=list(taken.rejected))

    @router.post("/orders/{order_id}/hold", summary="Hold an order", response_model=OrderDocument)
    async def hold(order_id: Key, hold: HoldRequest, service: Running, actor: Actor) -> Response:
        await service.execute([order_decision(HoldOrder(order_id, hold.reason, hold.note))], actor)
        return shown(await document_or_404(service, ORDERS, order_id))

    @router.post("/orders/{order_id}/release", summary="Release a hold", response_model=OrderDocument)
    async def release(order_id: Key, hold: HoldRequest, service: Running, actor: Actor) -> Response:
        await service.execute([order_decision(ReleaseHold(order_id, hold.reason, hold.note))], actor)
        return shown(await document_or_404(service, ORDERS, order_id))

    @router.post(
        "/orders/{order_id}/cancel", summary="Cancel an order, or units of its lines", response_model=OrderDocument
    )
    async def cancel(order_id: Key, request: CancelRequest, service: Running, actor: Actor) -> Response:
        await document_or_404(service, ORDERS, order_id)
        now = service.engine.clock()
        command = CancelOrder(order_id, request.cancellation_id, now, request.lines, request.reason)
        await service.execute([order_decision(command)], actor)
        return shown(await document_or_404(service, ORDERS, order_id))

    @router.post(
        "/orders/{order_id}/refunds/{refund_id}/retry",
        summary="Try a failed refund again",
        response_model=OrderDocument,
    )
    async def retry_refund(order_id: Key, refund_id: Key, service: Running, actor: Actor) -> Response:
        """Asked again under its own id, so that it is paid once, whatever the provider did the first time."""
        await service.execute([order_decision(RetryRefund(order_id, refund_id))], actor)
        return shown(await document_or_404(service, ORDERS, order_id))

    @router.post("/orders/{order_id}/settle", summary="A refused change was dealt with", response_model=OrderDocument)
    async def settle(order_id: Key, request: SettleRequest, service: Running, actor: Actor) -> Response:
        """No more than a mark: what the channel wants was done otherwise, or need not be. It waits for nobody then."""
        await service.execute([order_decision(SettleChange(order_id, request.change_id, request.note))], actor)
        return shown(await document_or_404(service, ORDERS, order_id))

    @router.post("/orders/{order_id}/forget", summary="Forget who bought it", response_model=OrderDocument)
    async def forget(order_id: Key, service: Running, actor: Actor) -> Response:
        """The customer's keys are destroyed: nothing personal of this and their other orders can be read again."""
        await service.execute([order_decision(ForgetCustomer(order_id))], actor)
        return shown(await document_or_404(service, ORDERS, order_id))

    return router
