"""What an order is paid with: amounts by payment, oldest first, less what went back. Refunds draw on the newest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ordermill.contracts.fields import Money, PaymentShare
from ordermill.replacing import replace


@dataclass(frozen=True, slots=True)
class Fund:
    """So many minor units of one payment."""

    reference: str | None
    minor: int


Funds = tuple[Fund, ...]


def held_in(funds: Funds) -> int:
    return sum(fund.minor for fund in funds)


def shares(funds: Funds, reference: str | None, currency: str) -> tuple[PaymentShare, ...]:
    """To be told where it is not all of the payment that is named."""
    if all(fund.reference == reference for fund in funds):
        return ()
    return tuple(PaymentShare(reference=f.reference, amount=Money(minor=f.minor, currency=currency)) for f in funds)


def added(funds: Funds, minor: int, reference: str | None) -> Funds:
    """With so much more, of the payment that is named."""
    if not minor:
        return funds
    if funds and funds[-1].reference == reference:
        return (*funds[:-1], replace(funds[-1], minor=funds[-1].minor + minor))
    return (*funds, Fund(reference, minor))


def renamed(funds: Funds, reference: str | None) -> Funds:
    """The newest payment goes by another reference now."""
    return (*funds[:-1], replace(funds[-1], reference=reference)) if funds else funds


def draws(funds: Funds, minor: int) -> Iterator[Fund]:
    """How much of which payment makes up `minor`, newest first; no more than there is."""
    for fund in reversed(funds):
        if (part := min(fund.minor, minor)) > 0:
            minor -= part
            yield Fund(fund.reference, part)


def without(funds: Funds, minor: int, reference: str | None = None) -> Funds:
    """Less so much, of the payment that is named if it has that, else of the newest; never less than nothing."""
    left = list(funds)
    for at in sorted(range(len(left)), key=lambda at: (left[at].reference == reference, at), reverse=True):
        part = min(left[at].minor, minor)
        minor -= part
        left[at] = Fund(left[at].reference, left[at].minor - part)
    return tuple(fund for fund in left if fund.minor)
