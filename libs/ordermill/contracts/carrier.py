"""What carriers publish on `oms.carrier.events`: scans of parcels, in the carrier's own codes."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import StringConstraints

from .base import Message
from .fields import ExternalId, Id, Instant, Text

TOPIC = "oms.carrier.events"

TrackingNumber = Annotated[str, StringConstraints(min_length=4, max_length=60, pattern=r"^[A-Z0-9]+$")]


class ParcelScanned(Message):
    """One scan. The same `scan_id` twice is one scan; order of arrival means nothing, `scanned_at` does."""

    type: ClassVar[str] = "oms.carrier.parcel-scanned.v1"
    topic: ClassVar[str] = TOPIC

    carrier: Id
    tracking_number: TrackingNumber
    scan_id: ExternalId
    code: Annotated[str, StringConstraints(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f]+$")]
    """The carrier's own status code; a carrier adapter in tracking says which milestone it means."""
    scanned_at: Instant
    place: Text = ""
    proof: Literal["signature", "photo", "none", "unknown"] = "unknown"
