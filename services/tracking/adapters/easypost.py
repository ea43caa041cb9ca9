"""EasyPost: a hundred carriers behind one vocabulary, and its trackers as scans."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ValidationError

from ordermill.contracts.base import explain
from ordermill.contracts.carrier import ParcelScanned
from ordermill.contracts.tracking import Milestone
from ordermill.ids import derived_id

from ..errors import TrackerUnreadable
from .codes import CodeTable

_TO_SENDER = "delivered_to_sender"
"""Ours, for `delivered` of a parcel that was on its way back."""

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
        _TO_SENDER: Milestone.RETURNED,
        "cancelled": Milestone.UNKNOWN,  # their tracker ended; the parcel may well go on
        "unknown": Milestone.UNKNOWN,
    },
)
"""Source: the statuses of the Tracker object in the EasyPost API reference."""


_Told = Annotated[str, AfterValidator(lambda text: text.encode(errors="replace").decode())]
"""Halves of characters, which JSON can hold and UTF-8 can't, become question marks."""


class _Where(BaseModel):
    city: _Told | None = None
    state: _Told | None = None
    country: _Told | None = None


class _Detail(BaseModel):
    status: _Told
    datetime: _Told
    message: _Told | None = None
    tracking_location: _Where | None = None


class _Tracker(BaseModel):
    """What of a Tracker tells something; the rest may be anything."""

    tracking_code: str
    carrier: str | None = None
    signed_by: str | None = None
    tracking_details: tuple[_Detail, ...] | None = None


def scans_of(tracker: Any) -> list[ParcelScanned]:
    """The scans of a Tracker, as `tracker.updated` webhooks bring it: each time all of them, from the first.

    `tracker` is JSON, parsed. Raises TrackerUnreadable. EasyPost gives a scan no id, so what makes it that scan is its
    id here: parcel, time, status and words.
    """
    try:
        return _scans_of(_Tracker.model_validate(tracker))
    except ValidationError as error:
        raise TrackerUnreadable(explain(error)) from None


def _scans_of(tracker: _Tracker) -> list[ParcelScanned]:
    carrier = re.sub(r"[^a-z0-9]+", "-", (tracker.carrier or "").lower()).strip("-") or "easypost"
    number = re.sub(r"[^A-Z0-9]", "", tracker.tracking_code.upper())
    details = tracker.tracking_details or ()
    back_since = min((_moment(one.datetime) for one in details if one.status == "return_to_sender"), default=None)
    scans: list[ParcelScanned] = []
    for detail in details:
        at = _moment(detail.datetime)
        status, words = detail.status, detail.message or ""
        signed = status == "delivered" and bool(tracker.signed_by)
        proof: Literal["signature", "unknown"] = "signature" if signed else "unknown"
        where = detail.tracking_location or _Where()
        scans.append(
            ParcelScanned(
                carrier=carrier,
                tracking_number=number,
                scan_id=derived_id("easypost", carrier, number, detail.datetime, status, words),
                code=_TO_SENDER if status == "delivered" and back_since is not None and at >= back_since else status,
                scanned_at=at,
                place=", ".join(part for part in (where.city, where.state, where.country) if part),
                proof=proof,
            )
        )
    return scans


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise TrackerUnreadable(f"datetime: {text[:40]!r} is not an ISO 8601 time with its zone")
    return moment
