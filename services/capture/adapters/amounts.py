"""Vendors' decimals to integer minor units and back, exactly. No float comes near."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ordermill.contracts.fields import MAX_MINOR, MINOR_DIGITS, Money
from ordermill.money import range_of_units

from .base import Unfit

_DECIMAL = re.compile(r"(-?)([0-9]{0,30})(?:\.([0-9]{1,30}))?", re.ASCII)


def decimal_to_minor(text: str, currency: str) -> int:
    """`"12.99"` dollars are 1299 cents; `"1299"` yen are 1299 yen.

    Takes a minus sign, digits and a point; zeros beyond the currency's decimals change nothing and are taken.
    Raises Unfit for other decimals beyond them, for NaN, Infinity, exponents, separators of thousands, and for
    more than fits a Money.
    """
    found = _DECIMAL.fullmatch(text)
    if not found or not (found[2] or found[3]):
        raise Unfit("not-an-amount", f"expected an amount such as 12.99 and found {text[:40]!r}. Send plain decimals")
    digits = MINOR_DIGITS.get(currency, 2)
    fraction = (found[3] or "").rstrip("0")
    if len(fraction) > digits:
        raise Unfit(
            "too-many-decimals",
            f"{text[:40]!r} has {len(fraction)} decimals and {currency} has {digits}. Round it where it comes from",
        )
    minor = int((found[2] or "0") + fraction.ljust(digits, "0"))
    if minor > MAX_MINOR:
        raise Unfit("amount-out-of-range", f"{text[:40]!r} {currency} is beyond {MAX_MINOR:,} minor units. Correct it")
    return -minor if found[1] else minor


def money_of(text: str, currency: str) -> Money:
    """`text` as decimal_to_minor takes it, in `currency`."""
    return Money(minor=decimal_to_minor(text, currency), currency=currency)


def decimal_of(amount: Money) -> str:
    """The way back: `1299` cents are `"12.99"` dollars."""
    return _decimal(amount.minor, MINOR_DIGITS.get(amount.currency, 2))


def _decimal(value: int, digits: int) -> str:
    sign, text = "-" if value < 0 else "", str(abs(value)).rjust(digits + 1, "0")
    return sign + (f"{text[:-digits]}.{text[-digits:]}" if digits else text)


def share_out(amount: Money, weights: Sequence[int]) -> list[Money]:
    """`amount` shared over `weights` (none negative), exact to the minor unit; evenly where all weigh nothing."""
    scale = list(weights) if any(weights) else [1] * len(weights)
    whole, shares, start = sum(scale), [], 0
    for weight in scale:
        shares.append(range_of_units(amount, start, start + weight, whole))
        start += weight
    return shares
