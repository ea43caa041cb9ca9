"""What all pages write alike, and where a page of the queue begins."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from starlette.requests import Request

from services.console.filters import _place
from services.console.pages import address, day, moment
from services.console.settings import ConsoleSettings
from services.console.timeline import day_in

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC)
RENO, KIRITIMATI = ZoneInfo("America/Los_Angeles"), ZoneInfo("Pacific/Kiritimati")


@pytest.mark.parametrize(("at", "zone"), [(FIRST, RENO), (LAST, KIRITIMATI)])
def test_a_time_that_the_readers_calendar_does_not_reach_is_told_in_utc(at: datetime, zone: ZoneInfo) -> None:
    """A channel that knows no time sends the year 1; its order stops no page."""
    assert f"{at:%H:%M:%S} UTC" in moment(at, zone, NOW)
    assert f"{at:%a, %b} {at.day}" in day(at, zone)
    assert day_in(zone)(at) == f"{at:%a, %b} {at.day}"


def test_a_time_is_told_on_the_readers_clock() -> None:
    assert "01:00:00" in moment(NOW, RENO, NOW)
    assert "2026-03-02 01:00:00 America/Los_Angeles" in moment(NOW, RENO, NOW)


@pytest.mark.parametrize("place", ["", "_o-1", "2026-03-02", "soon_o-1", "0001-01-01T00:00+14:00_o-1"])
def test_a_place_in_the_queue_that_makes_no_sense_counts_as_not_given(place: str) -> None:
    assert _place(place) is None


@pytest.mark.parametrize(
    ("at", "utc"),
    [
        ("infinity", "infinity"),
        ("2026-03-02T09:00:00.000001+00", "2026-03-02T09:00:00.000001+00:00"),
        ("2026-03-02T09:00", "2026-03-02T09:00:00+00:00"),
        ("2026-03-02T09:00+23:59", "2026-03-01T09:01:00+00:00"),
        ("2026-03-02T09:00+00:00:30.5", "2026-03-02T08:59:29.500000+00:00"),
    ],
)
def test_a_place_in_the_queue_is_a_time_that_the_database_can_read_and_an_order(at: str, utc: str) -> None:
    assert _place(f"{at}_o-1") == (utc, "o-1")


@pytest.mark.parametrize(("secure", "said"), [(False, "http://oms.example:8443"), (True, "https://oms.example:8443")])
def test_a_customers_link_names_the_address_that_people_use_also_behind_a_proxy_with_tls(
    secure: bool, said: str
) -> None:
    headers = [(b"host", b"oms.example:8443")]
    request = Request({"type": "http", "scheme": "http", "path": "/", "headers": headers, "query_string": b""})
    assert address(request, ConsoleSettings.model_construct(secure_cookies=secure)) == said
