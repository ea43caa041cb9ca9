"""What can go wrong in fulfillment, one class each."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from ordermill.errors import NotFound, Poison, Refused, Transient


class FulfillmentNotFound(NotFound):
    """Nobody asked a location for this."""

    code = "fulfillment.not-found"

    def __init__(self, fulfillment_id: str) -> None:
        self.fulfillment_id = fulfillment_id
        super().__init__(f"{fulfillment_id}: no such fulfillment order. Look for its order: oms orders list")


class FulfillmentNotCreated(Transient):
    """Units are called off of a fulfillment order that was never created; its allocation may be a dead letter."""

    code = "fulfillment.not-created"

    def __init__(self, fulfillment_id: str) -> None:
        self.fulfillment_id = fulfillment_id
        super().__init__(
            f"{fulfillment_id}: recalled, but never created here. Retried, then kept as a dead letter. "
            "If its OrderAllocated is one too, redrive that first: oms dlq list fulfillment"
        )


class FulfillmentIdTaken(Poison):
    """One id for two different pieces of work."""

    code = "fulfillment.id-taken"

    def __init__(self, fulfillment_id: str) -> None:
        self.fulfillment_id = fulfillment_id
        super().__init__(
            f"{fulfillment_id}: created earlier with other content; the first stands. "
            f"Compare both with: oms log show fulfillment-{fulfillment_id}"
        )


class WrongState(Refused):
    """The work is not where this step could be done."""

    code = "fulfillment.wrong-state"

    def __init__(self, fulfillment_id: str, wanted: str, now: str, remedy: str = "") -> None:
        self.fulfillment_id = fulfillment_id
        super().__init__(f"{fulfillment_id}: can't {wanted}: it {now}. {remedy}".rstrip())


class UnknownLine(Refused):
    """A line that this fulfillment order does not have, or has with another SKU."""

    code = "fulfillment.unknown-line"

    def __init__(self, fulfillment_id: str, line_id: str, sku: str, has_sku: str | None) -> None:
        self.fulfillment_id = fulfillment_id
        has = f"its SKU is {has_sku}" if has_sku else "no such line here"
        super().__init__(f"{fulfillment_id}: line {line_id}, SKU {sku}: {has}. Scan the item again.")


class TooManyUnits(Refused):
    """More units of a line than there are to pick."""

    code = "fulfillment.too-many-units"

    def __init__(self, fulfillment_id: str, line_id: str, sku: str, found: int, expected: int) -> None:
        self.fulfillment_id = fulfillment_id
        super().__init__(
            f"{fulfillment_id}: line {line_id}, SKU {sku}: {found} picked, {expected} to pick. "
            f"Put {found - expected} back and pick again."
        )


class PackagesWrong(Refused):
    """The packages are not numbered 1, 2, 3 …, or one is empty or has no weight."""

    code = "fulfillment.packages-wrong"

    def __init__(self, fulfillment_id: str, reason: str) -> None:
        self.fulfillment_id = fulfillment_id
        super().__init__(f"{fulfillment_id}: {reason}. Pack it again.")


class PackedUnitsDiffer(Refused):
    """The packages do not hold exactly what was picked."""

    code = "fulfillment.packed-units-differ"

    def __init__(self, fulfillment_id: str, differences: Iterable[tuple[str, str, int, int]]) -> None:
        """`differences`: line id, SKU, units packed, units picked and not canceled."""
        self.fulfillment_id = fulfillment_id
        named = "; ".join(
            f"line {line_id}, SKU {sku}: {packed} packed, {picked} to pack"
            for line_id, sku, packed, picked in differences
        )
        super().__init__(f"{fulfillment_id}: {named}. Pack exactly what was picked and not canceled since.")


class NoSuchPackage(Refused):
    """A package number that this fulfillment order does not have."""

    code = "fulfillment.no-such-package"

    def __init__(self, fulfillment_id: str, package: int, packages: int) -> None:
        self.fulfillment_id = fulfillment_id
        has = f"there are packages 1 to {packages}" if packages else "nothing is packed yet"
        super().__init__(f"{fulfillment_id}: no package {package}: {has}.")


class LabelNotWanted(Refused):
    """A label, or word of one, that does not fit what is known of the package."""

    code = "fulfillment.label-not-wanted"

    def __init__(self, fulfillment_id: str, package: int, found: str, now: str, remedy: str) -> None:
        self.fulfillment_id = fulfillment_id
        super().__init__(f"{fulfillment_id}, package {package}: {found}, but {now}. {remedy}")


class LabelsMissing(Refused):
    """Not every package has a label."""

    code = "fulfillment.labels-missing"

    def __init__(self, fulfillment_id: str, waiting: Iterable[int], failed: Iterable[tuple[int, str]]) -> None:
        self.fulfillment_id = fulfillment_id
        parts = [f"package {package}: label not bought yet" for package in waiting]
        parts += [f"package {package}: no label ({reason})" for package, reason in failed]
        super().__init__(
            f"{fulfillment_id}: can't hand over: {'; '.join(parts)}. "
            "Wait for labels that are being bought, ask again for those that failed."
        )


class HandedOverAhead(Refused):
    """A hand-over at a time that is yet to come."""

    code = "fulfillment.handed-over-ahead"

    def __init__(self, fulfillment_id: str, shipped_at: datetime, now: datetime) -> None:
        self.fulfillment_id = fulfillment_id
        super().__init__(
            f"{fulfillment_id}: can't be handed over at {shipped_at:%Y-%m-%d %H:%M} UTC, {(shipped_at - now).days} "
            "days from now. Report it when it is done, or correct the time."
        )


class CarrierRefused(Refused):
    """The carrier will not sell this label, however often it is asked."""

    code = "fulfillment.carrier-refused"

    def __init__(self, carrier: str, reason: str) -> None:
        self.carrier = carrier
        self.reason = reason
        super().__init__(f"{carrier}: {reason}")


class CarrierUnavailable(Transient):
    """The carrier gave no answer that says whether it sold the label; ask again under the same key."""

    code = "fulfillment.carrier-unavailable"

    def __init__(self, carrier: str, reason: str, retry_after_s: float | None = None, counts: bool = True) -> None:
        self.carrier, self.retry_after_s, self.counts = carrier, retry_after_s, counts
        super().__init__(f"{carrier}: {reason}. Asked again under the same key, so nothing is bought twice.")


class BarcodeInvalid(Refused):
    """A tracking number that can't be printed so that a scanner reads it."""

    code = "fulfillment.barcode-invalid"

    def __init__(self, tracking_number: str) -> None:
        super().__init__(
            f"{tracking_number[:80]!r}: not a tracking number: 4 to 60 capital letters and digits expected. "
            "Buy the label again, then print it."
        )
