"""The merchant's network as a file says it, and where addresses lie from it."""

from __future__ import annotations

from datetime import time
from math import isclose
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ordermill.contracts.routing import Place
from ordermill.geo import ABROAD, Point, great_circle_km, locate, postal_area, zone_of
from ordermill.network import LocationKind, NetworkInvalid, default_network_text, read_network, text_of

TEXT = default_network_text()


def test_the_default_network_has_warehouses_and_shops_and_two_carriers():
    network = read_network(TEXT)
    assert {location.id for location in network.locations if location.kind is LocationKind.SHOP} == {
        "brooklyn",
        "chicago",
        "seattle",
    }
    assert len(network.location_ids) == 8
    assert [carrier.id for carrier in network.carriers] == ["cedar", "swift"]
    assert network.by_id["sparks"].cut_off == time(16)
    assert network.by_id["sparks"].zone == "America/Los_Angeles"


def test_every_default_location_lies_where_its_postal_code_does():
    for location in read_network(TEXT).locations:
        place = locate(location.country, location.region, location.postal_code)
        assert place is not None
        assert place.zone == location.zone
        assert great_circle_km(Point(*location.point), Point(place.lat, place.lon)) < 5


@pytest.mark.parametrize(
    ("wrong", "instead_of", "told"),
    [
        ('cut_off = "noon"', "cut_off = 16:00:00", ["`locations[edison].cut_off`", '"noon"', "cut_off = 15:00:00"]),
        ("handling_dayz = 1", "handling_days = 1", ["`locations[seattle].handling_dayz`", "mean `handling_days`"]),
        ('base_minor = "5"', "base_minor = 590", ["`carriers[cedar].services[ground].base_minor`", "integer", '"5"']),
        ("[60, -70, 85", "[60, 70, 85", ["`carriers[cedar].services[ground].per_kg_minor[1]`", "-70"]),
        ('zone = "Amerika"', 'zone = "America/Chicago"', ["`elsewhere.zone`", "IANA", 'zone = "America/New_York"']),
        ('kind = "kiosk"', 'kind = "shop"', ["`locations[brooklyn].kind`", "'warehouse' or 'shop'", '"kiosk"']),
        ("", 'currency = "USD"', ["`currency`", "missing", 'currency = "USD"']),
        ('id = "fairburn"', 'id = "edison"', ["location ids must differ", "fairburn"]),
        ("transit_days = [1]", "transit_days = [1, 1, 2, 3, 3, 4, 5, 5]", ["transit_days`", "at least 8"]),
        ("5, 6, 7]", "5, 6, 7, 12]", ["`carriers[swift].services[ground]`", "for the same zones"]),
        ("currency =", 'currency = "USD"', ["not TOML"]),
    ],
)
def test_a_faulty_network_is_refused_by_key_with_what_was_expected_and_how_to_set_it(wrong, instead_of, told):
    assert instead_of in TEXT
    with pytest.raises(NetworkInvalid) as refused:
        read_network(TEXT.replace(instead_of, wrong, 1))
    assert [part for part in told if part not in str(refused.value)] == [], str(refused.value)


def test_all_faults_are_told_at_once():
    with pytest.raises(NetworkInvalid) as refused:
        read_network(TEXT.replace('"warehouse"', '"depot"', 2))
    assert "locations[edison].kind" in str(refused.value)
    assert "locations[fairburn].kind" in str(refused.value)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (("US", "NY", "10001"), Place(lat=40.7484, lon=-73.9967, zone="America/New_York", found_by="postal-code")),
        (("US", "", "10001-1234"), Place(lat=40.7484, lon=-73.9967, zone="America/New_York", found_by="postal-code")),
        (("US", "", "501"), Place(lat=40.8154, lon=-73.0451, zone="America/New_York", found_by="postal-code")),
        (("US", "AE", "09012"), Place(lat=40.6413, lon=-73.7781, zone="America/New_York", found_by="postal-code")),
        (("DE", "BE", "10115"), Place(lat=52.5, lon=13.3667, zone="Europe/Berlin", found_by="country")),
        (("BR", "SP", "01000"), Place(lat=-23.5333, lon=-46.6167, zone="America/Sao_Paulo", found_by="country")),
        (("XX", "", "10115"), None),
    ],
)
def test_an_address_lies_where_its_postal_code_or_its_country_says(address, expected):
    assert locate(*address) == expected


@pytest.mark.parametrize(
    ("address", "zone", "found_by"),
    [
        (("US", "WA", "99999"), "America/Sitka", "prefix"),
        (("US", "AK", "unknown"), "America/Anchorage", "region"),
        (("US", "us-ca", ""), "America/Los_Angeles", "region"),
        (("PR", "", ""), "America/Puerto_Rico", "region"),
        (("US", "Somewhere", ""), "America/Chicago", "country"),
    ],
)
def test_an_unknown_postal_code_falls_back_to_prefix_then_region_then_country_and_says_so(address, zone, found_by):
    place = locate(*address)
    assert place is not None
    assert (place.zone, place.found_by) == (zone, found_by)


def test_the_middle_of_places_on_both_sides_of_the_date_line_is_between_them_not_half_the_earth_away():
    place = locate("US", "", "96999")  # Guam, the Marianas, Palau, and one code east of 180 degrees
    assert place is not None
    assert place.found_by == "prefix"
    assert great_circle_km(Point(place.lat, place.lon), Point(13.4443, 144.7937)) < 700


@settings(max_examples=100)
@given(st.text(max_size=12))
def test_any_postal_code_lies_somewhere(code):
    assert locate("US", "", code) is not None


@pytest.mark.parametrize(
    ("miles", "zone"),
    [(0, 1), (50, 1), (51, 2), (150, 2), (299, 3), (600, 4), (601, 5), (1400, 6), (1800, 7), (5000, 8)],
)
def test_zones_go_by_distance(miles, zone):
    assert zone_of(miles * 1.609344) == zone


def test_territories_are_no_foreign_country_for_the_post():
    assert postal_area("PR") == postal_area("US") == "US"
    assert postal_area("CA") == "CA"
    assert ABROAD == 9


def test_a_degree_of_longitude_on_the_equator_is_111_km_and_half_the_earth_is_the_farthest():
    assert isclose(great_circle_km(Point(0, 0), Point(0, 1)), 111.195, abs_tol=0.001)
    assert isclose(great_circle_km(Point(90, 0), Point(-90, 50)), 20015.1, abs_tol=0.1)


POINTS = st.builds(Point, st.floats(-90, 90), st.floats(-180, 180))


@settings(max_examples=100)
@given(POINTS, POINTS)
def test_distance_is_the_same_both_ways(one, other):
    assert isclose(great_circle_km(one, other), great_circle_km(other, one), abs_tol=1e-6)
    assert 0 <= great_circle_km(one, other) < 20016


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "network.toml"
    path.write_bytes('currency = "€"'.encode("utf-16"))
    with pytest.raises(NetworkInvalid, match=r"network\.toml can't be read: .*Save it as UTF-8"):
        text_of(path, NetworkInvalid)
    with pytest.raises(NetworkInvalid, match="can't be read"):
        text_of(tmp_path, NetworkInvalid)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (TEXT.replace("point = [39.8283, -98.5795]", "point = [39.8283]"), "elsewhere.point"),
        (f"currency = {'9' * 5_000}", "is not TOML"),
        (f"currency = {'[' * 5_000}", "is not TOML"),
    ],
)
def test_a_network_that_is_cut_short_or_a_bomb_is_invalid(text: str, fault: str) -> None:
    with pytest.raises(NetworkInvalid, match=fault):
        read_network(text)
