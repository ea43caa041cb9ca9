"""Labels and packing slips on demand: unsealed, drawn, sent, kept nowhere."""

from __future__ import annotations

import asyncio

from ordermill.contracts.fulfillment import FulfillmentCreated
from ordermill.contracts.personal import Person
from ordermill.keyring import Keyring
from ordermill.network import Network
from ordermill.service.http import NotHere
from ordermill.service.running import RunningService

from .addresses import PostalAddress, address_of, address_of_location
from .documents import PackingSlip, ParcelLabel, SlipLine, label_pdf, label_zpl, packing_slip_pdf
from .domain import FULFILLMENT, FulfillmentOrder, Package

FORGOTTEN = Person(name="(customer forgotten)")


class Paper:
    def __init__(self, network: Network, keyring: Keyring) -> None:
        self._network = network
        self._keyring = keyring

    async def label_zpl(self, service: RunningService, fulfillment_id: str, package: int) -> bytes:
        return label_zpl(await self._label(service, fulfillment_id, package))

    async def label_pdf(self, service: RunningService, fulfillment_id: str, package: int) -> bytes:
        return await asyncio.to_thread(label_pdf, await self._label(service, fulfillment_id, package))

    async def slip_pdf(self, service: RunningService, fulfillment_id: str, package: int) -> bytes:
        created, order, packed = await self._package(service, fulfillment_id, package)
        titles = {line.line_id: line.title for line in created.lines}
        slip = PackingSlip(
            order_reference=created.external_id,
            fulfillment_id=fulfillment_id,
            sender=self._sender(created),
            recipient=await self._recipient(created),
            package=package,
            packages=len(order.packages),
            lines=tuple(
                SlipLine(line.sku, titles.get(line.line_id, ""), line.quantity) for line in packed.packed.lines
            ),
        )
        return await asyncio.to_thread(packing_slip_pdf, slip)

    async def _label(self, service: RunningService, fulfillment_id: str, package: int) -> ParcelLabel:
        created, order, packed = await self._package(service, fulfillment_id, package)
        if not packed.tracking_number:
            raise NotHere("label yet for package", f"{fulfillment_id}.{package}")
        return ParcelLabel(
            sender=self._sender(created),
            recipient=await self._recipient(created),
            carrier=packed.carrier,
            service=packed.service,
            tracking_number=packed.tracking_number,
            weight_g=packed.packed.weight_g,
            package=package,
            packages=len(order.packages),
            order_reference=created.external_id,
        )

    async def _package(
        self, service: RunningService, fulfillment_id: str, package: int
    ) -> tuple[FulfillmentCreated, FulfillmentOrder, Package]:
        order: FulfillmentOrder = (await service.engine.state(FULFILLMENT.stream(fulfillment_id))).state
        packed = order.packages.get(package)
        if order.created is None or packed is None:
            raise NotHere("package", f"{fulfillment_id}.{package}")
        return order.created, order, packed

    def _sender(self, created: FulfillmentCreated) -> PostalAddress:
        location = self._network.by_id.get(created.location)
        if location is None:
            raise NotHere("location", created.location)
        return address_of_location(location)

    async def _recipient(self, created: FulfillmentCreated) -> PostalAddress:
        addressee = created.destination.addressee
        person = (await self._keyring.open([addressee]))[addressee] if addressee else Person()
        return address_of(person or FORGOTTEN, created.destination)
