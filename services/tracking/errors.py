"""What can go wrong in tracking, one class each."""

from __future__ import annotations

from datetime import datetime

from ordermill.errors import NotFound, Poison


class ParcelNameTooLong(Poison):
    """Carrier and tracking number together are longer than an id may be."""

    code = "tracking.parcel-name-too-long"

    def __init__(self, carrier: str, tracking_number: str) -> None:
        super().__init__(
            f"{carrier[:40]}… {tracking_number}: carrier and number have more than 115 characters together. "
            "Let the carrier's feed use a shorter name for itself."
        )


class ScanAhead(Poison):
    """A scan at a time that is yet to come, such as of a feed that guesses the year."""

    code = "tracking.scan-ahead"

    def __init__(self, shipment_id: str, scanned_at: datetime, now: datetime) -> None:
        super().__init__(
            f"{shipment_id}: scanned at {scanned_at:%Y-%m-%d %H:%M} UTC, {(scanned_at - now).days} days from now. Let "
            f"the carrier's feed send it with its true time, then: oms dlq drop tracking --code {self.code}"
        )


class TrackerUnreadable(Poison):
    """A carrier's relay sent something that is no tracker."""

    code = "tracking.tracker-unreadable"

    def __init__(self, fault: str) -> None:
        super().__init__(f"{fault}. Expected a Tracker as EasyPost's API reference describes it: send it again, whole.")


class OrderNotTracked(NotFound):
    """Nobody has told tracking of this order."""

    code = "tracking.order-not-tracked"

    def __init__(self) -> None:
        super().__init__("No step of this order is known here. It shows up once capture has taken it in.")
