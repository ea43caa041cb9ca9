"""The product's doors as the outside uses them: topics, webhooks, files, HTTP. Each says whether it got through."""

from __future__ import annotations

import asyncio
import hmac
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ordermill.clock import Clock
from ordermill.contracts.base import Message
from ordermill.contracts.carrier import ParcelScanned
from ordermill.contracts.channel import ChannelMessage, OrderPlaced
from ordermill.contracts.location import StockMessage
from ordermill.network import LocationKind, Network
from ordermill.service.messages import outside_headers

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the doors are. `urls` by service."""

    kafka: str
    urls: dict[str, str]
    api_token: str
    shopify_secret: str
    inbox: Path


class Doors:
    """Sends what the world does. `go` never raises over an outage: what did not get through is tried again."""

    def __init__(self, address: Address, network: Network, clock: Clock) -> None:
        self.locations = sorted(network.location_ids)
        self.hubs = hubs_of(network)
        self._address = address
        self._clock = clock
        self._producer: AIOKafkaProducer | None = None
        self._http = httpx.AsyncClient(
            timeout=20,
            headers={"Authorization": f"Bearer {address.api_token}", "X-Actor": "world"},
            limits=httpx.Limits(max_connections=40),
        )
        self._starting = asyncio.Lock()

    async def close(self) -> None:
        await self._http.aclose()
        await self._drop_producer()

    async def ready(self) -> bool:
        """Whether all services consume."""
        try:
            answers = await asyncio.gather(
                *(self._http.get(self._url(service, "/readyz")) for service in self._address.urls)
            )
        except httpx.HTTPError:
            return False
        return all(answer.status_code == 200 for answer in answers)

    async def quiet(self) -> bool:
        """Whether no service has an effect waiting, an event that is not published, or a message that is not settled:
        as of when it last measured.
        """
        try:
            answers = await asyncio.gather(
                *(self._http.get(self._url(service, "/metrics")) for service in self._address.urls)
            )
        except httpx.HTTPError:
            return False
        waiting = ("oms_effects ", "oms_unpublished_events ", "oms_unsequenced_events ", "oms_lag_events{")
        lines = [line for answer in answers for line in answer.text.splitlines() if line.startswith(waiting)]
        return all(float(line.split()[1]) == 0 for line in lines)

    async def go(self, door: str, items: Sequence[Any]) -> bool:
        """Take all `items` through one kind of door; whether they got through."""
        try:
            match door:
                case "stock" | "scan" | "channel" | "canonical":
                    await self._publish(items)
                case "shopify":
                    await asyncio.gather(*(self._webhook(order) for order in items))
                case "x12-850" | "pos-csv":
                    await asyncio.to_thread(self._drop_files, door, items)
                case "work":
                    for start in range(0, len(items), 500):
                        await self._post("fulfillment", "/work", items[start : start + 500])
                case _:
                    await asyncio.gather(*(self._post(door, path, body) for path, body in items))
        except (KafkaError, httpx.HTTPError, OSError) as error:
            logger.warning("a door is closed", door=door, items=len(items), error=repr(error))
            if isinstance(error, KafkaError):
                await self._drop_producer()
            return False
        return True

    async def _publish(self, messages: Sequence[Message]) -> None:
        producer = await self._started()
        now = self._clock()
        sent = []
        for message in messages:
            source, message_id, key = named(message)
            sent.append(
                await producer.send(
                    message.topic, message.to_json(), key=key, headers=outside_headers(message, source, message_id, now)
                )
            )
        await asyncio.gather(*sent)

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(bootstrap_servers=self._address.kafka, acks="all", linger_ms=5)
                try:
                    await producer.start()
                except KafkaError:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    async def _drop_producer(self) -> None:
        if self._producer is not None:
            with suppress(Exception):
                await asyncio.wait_for(self._producer.stop(), 2)
            self._producer = None

    async def _webhook(self, order: OrderPlaced) -> None:
        body = _render("shopify", order)
        digest = hmac.digest(self._address.shopify_secret.encode(), body, sha256)
        answer = await self._http.post(
            self._url("capture", f"/channels/{order.channel}/shopify"),
            content=body,
            headers={"X-Shopify-Hmac-SHA256": b64encode(digest).decode(), "X-Shopify-Topic": "orders/create"},
        )
        answer.raise_for_status()

    def _drop_files(self, door: str, orders: Sequence[OrderPlaced]) -> None:
        for order in orders:
            folder = self._address.inbox / door / order.channel
            folder.mkdir(parents=True, exist_ok=True)
            name = f"{order.external_id}-{uuid4().hex[:8]}"
            part = folder / f".{name}.part"
            part.write_bytes(_render(door, order))
            part.rename(folder / f"{name}.{'edi' if door == 'x12-850' else 'csv'}")

    async def _post(self, service: str, path: str, body: Any) -> None:
        answer = await self._http.post(self._url(service, path), json=body)
        if answer.status_code >= 500:
            answer.raise_for_status()
        if answer.status_code >= 400:
            logger.warning("turned away", path=path, status=answer.status_code, detail=answer.json().get("detail"))
            return
        told = answer.json()
        for one in told if isinstance(told, list) else ():
            if one.get("code"):
                logger.info("refused", path=path, code=one["code"], detail=one["detail"])

    def _url(self, service: str, path: str) -> str:
        return self._address.urls[service] + path


def _render(name: str, order: OrderPlaced) -> bytes:
    return import_module("services.capture.adapters").render(name, order)  # type: ignore[no-any-return]


def hubs_of(network: Network) -> tuple[str, str]:
    """The two warehouses that have most of everything."""
    warehouses = [location.id for location in network.locations if location.kind is LocationKind.WAREHOUSE]
    return warehouses[0], warehouses[-1]


def named(message: Message) -> tuple[str, str, bytes]:
    """Source, id and key of what the outside publishes; the same thing said again has the same id."""
    match message:
        case OrderPlaced():
            return f"/channels/{message.channel}", f"placed-{message.external_id}", message.external_id.encode()
        case ChannelMessage():
            what = getattr(message, "cancellation_id", None) or f"revision-{getattr(message, 'revision', 0)}"
            return f"/channels/{message.channel}", f"{message.external_id}-{what}", message.external_id.encode()
        case ParcelScanned():
            return f"/carriers/{message.carrier}", message.scan_id, message.tracking_number.encode()
        case StockMessage():
            return f"/locations/{message.location}", message.reference, message.sku.encode()
        case _:
            raise TypeError(f"nobody outside publishes {type(message).__name__}")
