"""What all pages write alike, and where a page of the queue begins."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from starlette.requests import Request

from services.console import queue, returns
from services.console.filters import _place
from services.console.pages import address, day, environment, moment
from services.console.pictures.returns import STATES, Line, Return
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


def written(template: str, **context: Any) -> str:
    """A page's part as a reader in Reno has it, in one line."""
    told = {
        "when": lambda at: moment(at, RENO, NOW),
        "day": lambda at: day(at, RENO),
        "ago": str,
        "csrf": "",
        "me": None,
    }
    return " ".join(environment().get_template(template).render(**told, **context).split())


def return_page(**found: Any) -> str:
    back = Return(return_id="r-1", order_id="o-1", reason="not-delivered", expires_at=NOW, **found)
    return written(
        "returns/parts.html", back=back, order=None, titles={}, states=STATES, reasons=returns.REASONS,
        dispositions=returns.DISPOSITIONS, places=(), names={}, exchange="", exchange_here=False,
    )  # fmt: skip


def test_of_what_never_arrived_no_page_says_that_the_customer_keeps_it() -> None:
    some_came = [Line(line_id="1", sku="TEA", asked=3, received=1, inspected=1)]
    expired = return_page(status="expired", lines=some_came)
    assert "What never arrived may be asked for again." in expired
    assert "The other 2 units never arrived and may be asked for again." in return_page(
        status="received", lines=some_came
    )
    for page in (expired, return_page(status="received", lines=some_came), return_page(status="authorized")):
        assert "the customer" not in page.replace("never reached the customer", "")


def test_what_settling_a_return_does_is_told_as_it_is() -> None:
    def settled(reason: str, received: int) -> str:
        return returns.settled(Return(reason=reason, lines=[Line(line_id="1", sku="TEA", asked=2, received=received)]))

    assert settled("damaged", 1) == "Nothing more is expected: what came is credited, the rest stays with the customer."
    assert settled("not-delivered", 1).endswith("what came is credited, the rest may be asked for again.")
    assert settled("damaged", 0) == "The return is closed without money."


def test_a_day_on_the_page_of_a_new_return_is_the_readers() -> None:
    line = {
        "line_id": "1", "sku": "TEA", "title": "Tea", "quantity": 1, "final_sale": False, "canceled": 0, "delivered": 1,
        "undelivered": 0, "in_returns": 0, "returned": 0, "returnable": 1, "creditable": 0,
        "last_delivered_at": "2026-03-02T05:00:00+00:00",
    }  # fmt: skip
    purchase = {"lines": [line], "currency": "USD"}
    page = written(
        "returns/new.html", order_id="o-1", order=None, purchase=purchase, others=(), states=STATES,
        reasons=returns.REASONS, path="/returns", navigation=(), notice=None, zone="America/Los_Angeles", now=NOW,
        at=datetime.fromisoformat,
    )  # fmt: skip
    assert "Sun, Mar 1" in page
    assert "2026-03-02<" not in page


def test_a_file_that_could_not_hold_all_orders_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MOST_IN_A_FILE", 2)
    row = {
        "key": "o-1", "channel": "store", "external_id": "A-1", "what": "Tea", "status": "shipped", "attention": [],
        "why": [], "placed_at": NOW, "promised_by": None, "locations": [], "units": 1, "total_minor": 1,
        "currency": "JPY",
    }  # fmt: skip
    assert len("".join(queue._lines([row, row])).splitlines()) == 3
    *orders, last = "".join(queue._lines([row, row, row])).splitlines()
    assert len(orders) == 3
    assert last == '"Only the first 2 orders are in this file: narrow the filters for the others."'
