"""EasyPost: a hundred carriers behind one vocabulary, and its trackers as scans."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from ordermill.contracts.carrier import ParcelScanned
from ordermill.contracts.tracking import Milestone
from ordermill.ids import derived_id

from .codes import CodeTable

EASYPOST = CodeTable(
    "easypost",
    {
        "pre_transit": Milestone.LABEL_CREATED,
        "in_transit": Milestone.IN_TRANSIT,
        "out_for_delivery": Milestone.OUT_FOR_DELIVERY,
        "available_for_pickup": Milestone.READY_FOR_PICKUP,
        "delivered": Milestone.DELIVERED,
        "failure": Milestone.ATTEMPT_FAILED,
        "error": Milestone.EXCEPTION,
        "return_to_sender": Milestone.RETURNING,
        "cancelled": Milestone.UNKNOWN,  # their tracker ended; the parcel may well go on
        "unknown": Milestone.UNKNOWN,
    },
)
"""Source: the statuses of the Tracker object in the EasyPost API reference."""


def scans_of(tracker: Mapping[str, Any]) -> list[ParcelScanned]:
    """The scans of a Tracker, as `tracker.updated` webhooks bring it: each time all of them, from the first.

    EasyPost gives a scan no id, so what makes it that scan is its id here: parcel, time, status and words.
    """
    carrier = re.sub(r"[^a-z0-9]+", "-", str(tracker.get("carrier") or "").lower()).strip("-") or "easypost"
    number = re.sub(r"[^A-Z0-9]", "", str(tracker["tracking_code"]).upper())
    scans: list[ParcelScanned] = []
    for detail in tracker.get("tracking_details") or ():
        status, words = str(detail["status"]), str(detail.get("message") or "")
        signed = status == "delivered" and bool(tracker.get("signed_by"))
        proof: Literal["signature", "unknown"] = "signature" if signed else "unknown"
        where = detail.get("tracking_location") or {}
        scans.append(
            ParcelScanned(
                carrier=carrier,
                tracking_number=number,
                scan_id=derived_id("easypost", carrier, number, str(detail["datetime"]), status, words),
                code=status,
                scanned_at=datetime.fromisoformat(str(detail["datetime"])),
                place=", ".join(part for key in ("city", "state", "country") if (part := where.get(key))),
                proof=proof,
            )
        )
    return scans
