"""Every carrier's adapter passes the same tests; EasyPost's also reads what EasyPost really sends."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ordermill.contracts.carrier import ParcelScanned
from ordermill.contracts.tracking import Milestone
from services.tracking.adapters import CARRIERS, milestone_of
from services.tracking.adapters.codes import CodeTable
from services.tracking.adapters.easypost import scans_of
from services.tracking.errors import TrackerUnreadable

RECORDED = Path(os.environ.get("OMS_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data") / "carriers"
MEANT = [each for each in Milestone if each is not Milestone.UNKNOWN]


@pytest.mark.parametrize("table", CARRIERS.values(), ids=CARRIERS.keys())
class TestEveryCarrier:
    def test_every_code_means_a_milestone(self, table: CodeTable) -> None:
        assert table.codes
        for code, milestone in table.codes.items():
            assert milestone_of(table.carrier, code) is milestone

    def test_codes_are_read_in_any_case_and_padding(self, table: CodeTable) -> None:
        for code, milestone in table.codes.items():
            assert milestone_of(table.carrier, f" {code.upper()}\t") is milestone

    @pytest.mark.parametrize("code", ["", "no-such-code", "999999", "\x00", "Zugestellt ✓", "x" * 10_000])
    def test_a_code_we_do_not_know_is_unknown_and_never_an_error(self, table: CodeTable, code: str) -> None:
        assert milestone_of(table.carrier, code) is Milestone.UNKNOWN

    def test_a_parcel_can_be_followed_from_label_to_door_and_back(self, table: CodeTable) -> None:
        told = set(table.codes.values())
        assert set(MEANT) <= told

    def test_codes_fit_on_the_wire(self, table: CodeTable) -> None:
        for code in table.codes:
            assert ParcelScanned(
                carrier=table.carrier,
                tracking_number="1234",
                scan_id="s",
                code=code,
                scanned_at=datetime(2026, 3, 2, tzinfo=UTC),
            )


def test_a_carrier_without_an_adapter_is_read_as_one_that_easypost_relays() -> None:
    assert milestone_of("usps", "out_for_delivery") is Milestone.OUT_FOR_DELIVERY
    assert milestone_of("usps", "whatever") is Milestone.UNKNOWN


TRACKER: dict[str, Any] = {
    "tracking_code": "EZ4000000004",
    "carrier": "DHL Express",
    "signed_by": "John Tester",
    "tracking_details": [
        {
            "message": "ORIGIN SCAN",
            "status": "in_transit",
            "datetime": "2014-11-21T14:48:00Z",
            "tracking_location": {"city": "HOUSTON", "state": "TX", "country": None},
        },
        {"message": "DELIVERED", "status": "delivered", "datetime": "2014-11-24T10:51:54Z"},
    ],
}


def test_a_tracker_is_read_as_scans_with_ids_of_their_own() -> None:
    on_the_way, arrived = scans_of(TRACKER)
    assert on_the_way == ParcelScanned(
        carrier="dhl-express",
        tracking_number="EZ4000000004",
        scan_id=on_the_way.scan_id,
        code="in_transit",
        scanned_at=datetime(2014, 11, 21, 14, 48, tzinfo=UTC),
        place="HOUSTON, TX",
    )
    assert (arrived.code, arrived.proof) == ("delivered", "signature")
    assert arrived.scan_id != on_the_way.scan_id


def test_a_tracker_sent_again_brings_the_same_scans() -> None:
    shorter = TRACKER | {"tracking_details": TRACKER["tracking_details"][:1]}
    assert scans_of(TRACKER)[0] == scans_of(shorter)[0]


NOT_TRACKERS: list[Any] = [
    [],
    {},
    TRACKER | {"tracking_code": None},
    TRACKER | {"tracking_details": [{"status": "delivered"}]},
    TRACKER | {"tracking_details": [{"status": "delivered", "datetime": "yesterday"}]},
    TRACKER | {"tracking_details": [{"status": "delivered", "datetime": "2014-11-24T10:51:54"}]},
    TRACKER | {"tracking_details": "DELIVERED"},
    TRACKER | {"tracking_code": "-"},
]


@pytest.mark.parametrize("tracker", NOT_TRACKERS)
def test_what_is_no_tracker_is_poison(tracker: Any) -> None:
    with pytest.raises(TrackerUnreadable, match="Expected a Tracker"):
        scans_of(tracker)


def test_what_is_delivered_on_its_way_back_is_at_its_sender() -> None:
    told = [("out_for_delivery", 1), ("return_to_sender", 4), ("in_transit", 5), ("delivered", 6)]
    details = [{"status": status, "datetime": f"2026-11-0{day}T09:00:00Z"} for status, day in told]

    def milestones(*shown: dict[str, str]) -> list[Milestone]:
        return [milestone_of("easypost", scan.code) for scan in scans_of(TRACKER | {"tracking_details": list(shown)})]

    assert milestones(*details)[-1] is Milestone.RETURNED
    assert milestones(details[0], details[3])[-1] is Milestone.DELIVERED
    earlier = {"status": "delivered", "datetime": "2026-11-03T09:00:00Z"}
    assert milestones(*details[:2], earlier)[-1] is Milestone.DELIVERED, "it was at the door before it went back"


def recorded_trackers() -> list[dict[str, Any]]:
    """Every Tracker inside EasyPost's recorded answers, however deep."""
    found: list[dict[str, Any]] = []

    def look(value: Any) -> None:
        if isinstance(value, dict):
            if value.get("object") == "Tracker":
                found.append(value)
            for each in value.values():
                look(each)
        elif isinstance(value, list):
            for each in value:
                look(each)

    for path in sorted([*RECORDED.glob("easypost*.json"), *RECORDED.glob("easypost/*.json")]):
        look(json.loads(path.read_bytes()))
    return found


@pytest.mark.skipif(not RECORDED.is_dir(), reason=f"EasyPost's recorded answers are not at {RECORDED}")
def test_what_easypost_really_sends_is_read_whole() -> None:
    trackers = recorded_trackers()
    assert len(trackers) >= 5
    for tracker in trackers:
        scans = scans_of(tracker)
        assert len(scans) == len(tracker.get("tracking_details") or [])
        for scan in scans:
            assert milestone_of("easypost", scan.code) is not Milestone.UNKNOWN
        if tracker["status"] != "unknown":
            assert milestone_of("easypost", tracker["status"]) is not Milestone.UNKNOWN
