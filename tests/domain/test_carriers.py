"""What every carrier adapter must do, and what the simulated carriers do besides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import cast
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordermill.contracts.fields import Destination, Money
from ordermill.contracts.personal import Person
from ordermill.errors import Refused, Transient
from ordermill.network import default_network_text, read_network
from ordermill.service.outbound import Provider, ProviderRefused
from ordermill.simulation.providers import MemoryCarrier, memory_carriers
from ordermill.simulator.carriers import check_digit, tracking_number, valid_tracking_number
from services.fulfillment.adapters.base import Carrier, LabelRequest
from services.fulfillment.adapters.http import HttpCarrier
from services.fulfillment.addresses import PostalAddress, address_of, address_of_location
from services.fulfillment.errors import CarrierRefused, CarrierUnavailable

NETWORK = read_network(default_network_text())
PORTLAND = PostalAddress("Zoë Ångström", "", ("1200 SW Morrison St",), "Portland", "OR", "97205", "US")
REQUEST = LabelRequest(
    service="ground",
    weight_g=1250,
    sender=address_of_location(NETWORK.by_id["edison"]),
    recipient=PORTLAND,
    reference="shop #1001",
)


class CarrierConformance:
    """Subclass it and give the fixtures: the suite that a carrier adapter must pass before it may buy labels."""

    @pytest.fixture
    def carrier(self) -> Carrier:
        raise NotImplementedError

    @pytest.fixture
    def key(self) -> str:
        """One that the carrier has not seen before."""
        return f"F-{uuid4()}.1"

    @pytest.fixture
    def request_sold(self) -> LabelRequest:
        """One that the carrier sells a label for."""
        return REQUEST

    @pytest.fixture
    def cut_off(self) -> Callable[[bool], None]:
        """Called with True, the carrier can't be reached; with False, it can again."""
        raise NotImplementedError

    async def test_a_label_names_its_carrier_service_and_price(
        self, key: str, carrier: Carrier, request_sold: LabelRequest
    ) -> None:
        label = await carrier.buy_label(request_sold, key)
        assert (label.carrier, label.service) == (carrier.name, request_sold.service)
        assert label.cost.minor > 0

    async def test_the_same_key_is_the_same_label(self, key: str, carrier: Carrier, request_sold: LabelRequest) -> None:
        first = await carrier.buy_label(request_sold, key)
        assert await carrier.buy_label(request_sold, key) == first

    async def test_the_same_key_at_the_same_time_is_the_same_label(
        self, key: str, carrier: Carrier, request_sold: LabelRequest
    ) -> None:
        labels = await asyncio.gather(*(carrier.buy_label(request_sold, key) for _ in range(10)))
        assert len({label.tracking_number for label in labels}) == 1

    async def test_another_key_is_another_label(self, key: str, carrier: Carrier, request_sold: LabelRequest) -> None:
        numbers = {(await carrier.buy_label(request_sold, f"{key}.{n}")).tracking_number for n in range(200)}
        assert len(numbers) == 200

    async def test_an_unknown_service_is_refused_for_good(
        self, key: str, carrier: Carrier, request_sold: LabelRequest
    ) -> None:
        with pytest.raises(CarrierRefused, match="teleport"):
            await carrier.buy_label(replace(request_sold, service="teleport"), key)

    async def test_an_empty_addressee_is_refused_for_good(
        self, key: str, carrier: Carrier, request_sold: LabelRequest
    ) -> None:
        nobody = replace(request_sold.recipient, name=" ", company="")
        with pytest.raises(CarrierRefused, match="addressee"):
            await carrier.buy_label(replace(request_sold, recipient=nobody), key)

    async def test_after_an_outage_the_same_key_is_sold_once(
        self, key: str, carrier: Carrier, request_sold: LabelRequest, cut_off: Callable[[bool], None]
    ) -> None:
        before = await carrier.buy_label(request_sold, key)
        cut_off(True)
        with pytest.raises(CarrierUnavailable) as unavailable:
            await carrier.buy_label(request_sold, key)
        assert isinstance(unavailable.value, Transient)
        cut_off(False)
        assert await carrier.buy_label(request_sold, key) == before

    async def test_a_refusal_holds_no_personal_data(
        self, key: str, carrier: Carrier, request_sold: LabelRequest
    ) -> None:
        bad = replace(request_sold, recipient=replace(request_sold.recipient, street=()))
        with pytest.raises(CarrierRefused) as refused:
            await carrier.buy_label(bad, key)
        assert isinstance(refused.value, Refused)
        assert request_sold.recipient.name not in str(refused.value)


class _InMemory(CarrierConformance):
    name = ""

    @pytest.fixture
    def carrier(self) -> MemoryCarrier:
        return MemoryCarrier(NETWORK, self.name)

    @pytest.fixture
    def cut_off(self, carrier: MemoryCarrier) -> Callable[[bool], None]:
        return lambda away: setattr(carrier, "reachable", not away)


class TestCedarInMemory(_InMemory):
    name = "cedar"


class TestSwiftInMemory(_InMemory):
    name = "swift"


# The simulated carriers


def test_the_network_s_carriers_are_all_there() -> None:
    assert sorted(memory_carriers(NETWORK)) == ["cedar", "swift"]


async def test_a_restart_or_a_second_process_sells_the_same_label() -> None:
    labels = [await memory_carriers(NETWORK)["cedar"].buy_label(REQUEST, "F1.1") for _ in range(2)]
    assert labels[0] == labels[1]
    assert labels[0].tracking_number == "CE568182351023107678"


async def test_the_price_is_the_network_s_for_weight_and_distance() -> None:
    cedar = memory_carriers(NETWORK)["cedar"]
    far = await cedar.buy_label(REQUEST, "F1.1")  # Edison to Portland: zone 8
    assert far.cost == Money(minor=590 + 325, currency="USD")
    next_door = replace(PORTLAND, city="Edison", region="NJ", postal_code="08837")
    near = await cedar.buy_label(replace(REQUEST, recipient=next_door, weight_g=1001), "F1.0")
    assert near.cost == Money(minor=590 + 61, currency="USD")
    express = await cedar.buy_label(replace(REQUEST, service="express"), "F1.2")
    assert express.cost == Money(minor=1490 + 700, currency="USD")


async def test_abroad_goes_only_what_has_a_price_for_abroad() -> None:
    cedar = memory_carriers(NETWORK)["cedar"]
    london = PostalAddress("A. Bell", "", ("1 High Street",), "London", "", "N1 9GU", "GB")
    with pytest.raises(CarrierRefused, match="ground does not ship to GB"):
        await cedar.buy_label(replace(REQUEST, recipient=london), "F1.1")
    label = await cedar.buy_label(replace(REQUEST, recipient=london, service="express", weight_g=1000), "F1.1")
    assert label.cost.minor == 1490 + 1450


async def test_a_parcel_weighs_something_and_goes_somewhere() -> None:
    cedar = memory_carriers(NETWORK)["cedar"]
    with pytest.raises(CarrierRefused, match="no weight"):
        await cedar.buy_label(replace(REQUEST, weight_g=0), "F1.1")
    with pytest.raises(CarrierRefused, match="a street is needed"):
        await cedar.buy_label(replace(REQUEST, recipient=replace(PORTLAND, street=("",))), "F1.1")


@given(st.sampled_from(["cedar", "swift", "x", "dhl-2"]), st.text(max_size=40))
def test_every_tracking_number_has_twenty_characters_and_a_valid_check_digit(carrier: str, key: str) -> None:
    number = tracking_number(carrier, key)
    assert len(number) == 20
    assert valid_tracking_number(number)


@given(st.text(max_size=20), st.integers(2, 19), st.integers(1, 9))
def test_one_wrong_digit_makes_a_tracking_number_invalid(key: str, place: int, off: int) -> None:
    number = tracking_number("cedar", key)
    wrong = str((int(number[place]) + off) % 10)
    assert not valid_tracking_number(number[:place] + wrong + number[place + 1 :])


def test_the_check_digit_is_luhn_s_as_in_securities_numbers() -> None:
    # US0378331005 is the example that ISO 6166 is usually explained with.
    assert check_digit("US037833100") == "5"


@pytest.mark.parametrize("number", ["", "CE5568", "ce568182351023107678", "CE56818235102310767x", "٣" * 20])
def test_what_no_simulated_carrier_gives_is_not_valid(number: str) -> None:
    assert not valid_tracking_number(number)


# Refusals


class Refusing:
    """A provider that refuses everything, in these words."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    async def post(self, path: str, body: object, idempotency_key: str) -> dict[str, object]:
        raise ProviderRefused("cedar", self.reason)


@pytest.mark.parametrize(
    ("quoted", "told"),
    [
        ("Zoë Ångström has moved", "… has moved"),
        ("can't deliver to ZOË ÅNGSTRÖM, 1200 SW MORRISON ST", "can't deliver to …, …"),
        ("no 1200 SW Morrison St in PORTLAND 97205", "no … in … 97205"),
        ("MS ANGSTROM is unknown at 1200 MORRISON STREET", "MS … is unknown at 1200 … STREET"),
        ("no Aangstroem, Zoe there", "no …, … there"),
        ("no such street: SW Morrison, Portland OR", "no such street: SW …, … OR"),
        ("too heavy", "too heavy"),
    ],
)
async def test_a_refusal_names_nobody_however_the_carrier_writes_who_it_is(quoted: str, told: str) -> None:
    recipient = replace(PORTLAND, name="Zoë Ångström ")
    with pytest.raises(CarrierRefused) as refused:
        await HttpCarrier("cedar", cast(Provider, Refusing(quoted))).buy_label(
            replace(REQUEST, recipient=recipient), "F1.1"
        )
    assert str(refused.value) == str(CarrierRefused("cedar", told))


# Addresses


def test_an_address_is_put_together_from_what_is_sealed_and_what_is_not() -> None:
    person = Person(name="Zoë Ångström", company="Söhne", street=("Hauptstr. 1", "Hof"), city="Köln", phone="1")
    destination = Destination(country="DE", postal_code="50667")
    address = address_of(person, destination)
    assert address.lines("US") == ("Zoë Ångström", "Söhne", "Hauptstr. 1", "Hof", "50667 Köln", "DE")
    assert address.lines("DE")[-1] == "50667 Köln"


def test_where_the_postal_code_follows_the_city_it_does() -> None:
    assert PORTLAND.lines("US")[-1] == "Portland, OR 97205"
    assert replace(PORTLAND, city="").lines("US")[-1] == "OR 97205"
    assert address_of_location(NETWORK.by_id["edison"]).lines("US") == (
        "Edison warehouse",
        "40 Mill Race Road",
        "Edison, NJ 08837",
    )
