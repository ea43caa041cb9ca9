"""Labels: bought from the carrier once, whatever it answers is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from ordermill.contracts.fulfillment import LabelFailed, LabelRequested
from ordermill.contracts.personal import Person
from ordermill.decider import Decision
from ordermill.keyring import Keyring
from ordermill.network import Network
from ordermill.service.declare import EffectOf

from .adapters.base import Carrier, LabelRequest
from .addresses import address_of, address_of_location
from .domain import RecordLabel, RecordLabelFailure
from .errors import CarrierRefused
from .handlers import work_decision


def labels(carriers: Mapping[str, Carrier], network: Network, keyring: Keyring) -> EffectOf:
    async def perform(event: LabelRequested, key: str, now: datetime) -> Decision:
        addressee = event.destination.addressee
        person = (await keyring.open([addressee]))[addressee] if addressee else Person()
        if person is None:
            return _failed(event, "the customer was forgotten: nobody knows where this goes. Cancel it", answered=False)
        carrier = carriers.get(event.carrier)
        if carrier is None:
            return _failed(event, f"no carrier {event.carrier!r}; there are {', '.join(carriers)}", answered=True)
        location = network.by_id.get(event.location)
        if location is None:
            reason = f"no location {event.location!r} in the network any more: its address would be on the label"
            return _failed(event, reason, answered=True)
        request = LabelRequest(
            service=event.service,
            weight_g=event.weight_g,
            sender=address_of_location(location),
            recipient=address_of(person, event.destination),
            reference=event.order_id,
        )
        try:
            bought = await carrier.buy_label(request, key)
        except CarrierRefused as error:
            return _failed(event, str(error), answered=True)
        return work_decision(
            RecordLabel(
                fulfillment_id=event.fulfillment_id,
                package=event.package,
                label_id=event.label_id,
                carrier=bought.carrier,
                service=bought.service,
                tracking_number=bought.tracking_number,
                cost=bought.cost,
            )
        )

    async def fetch_keys(events: Sequence[LabelRequested]) -> None:
        await keyring.open({event.destination.addressee for event in events if event.destination.addressee})

    def give_up(event: LabelRequested, error: Exception) -> Decision:
        return _failed(event, str(error), answered=False)

    return EffectOf(
        LabelRequested,
        lambda event: event.label_id,
        perform,
        give_up,
        lane=lambda event: event.carrier,
        ended_by=LabelFailed,
        prepare=fetch_keys,
    )


def _failed(event: LabelRequested, reason: str, answered: bool) -> Decision:
    return work_decision(
        RecordLabelFailure(event.fulfillment_id, event.package, event.label_id, reason[:500], answered)
    )
