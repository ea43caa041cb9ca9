"""What stands on a command line as LINE=QTY and its like. All raise BadParameter: wrong usage."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import typer

DISPOSITIONS = ("restock", "write-off", "missing")


def units(text: str, shape: str) -> tuple[str, int]:
    name, equals, count = text.rpartition("=")
    if not equals or not name or not re.fullmatch(r"[0-9]{1,7}", count) or int(count) < 1:
        raise typer.BadParameter(f"{text!r}: expected {shape}, with one unit or more, like `1=2`")
    return name, int(count)


def by_line(texts: Sequence[str], shape: str = "LINE=QTY") -> dict[str, int]:
    """Units by order line; a line that is named twice is added up."""
    found: dict[str, int] = {}
    for text in texts:
        line, count = units(text, shape)
        found[line] = found.get(line, 0) + count
    return found


def inspected(texts: Sequence[str]) -> list[tuple[str, int, str]]:
    """Line, units and what becomes of them."""
    shape = "LINE=QTY:restock, :write-off or :missing"
    found = []
    for text in texts:
        what, _, disposition = text.rpartition(":")
        if disposition not in DISPOSITIONS:
            raise typer.BadParameter(f"{text!r}: expected {shape}, like `1=2:restock`")
        found.append((*units(what, shape), disposition))
    return found


def exchanged(texts: Sequence[str], currency: str) -> list[dict[str, Any]]:
    """Goods wanted instead, SKU=QTY@PRICE, the price of one unit in the order's currency."""
    from ordermill.contracts.fields import MINOR_DIGITS

    shape = "SKU=QTY@PRICE"
    found = []
    for text in texts:
        what, _, price = text.rpartition("@")
        sku, count = units(what, shape)
        try:
            minor = Decimal(price).scaleb(MINOR_DIGITS.get(currency, 2))
        except InvalidOperation:
            minor = Decimal("NaN")
        if not minor.is_finite() or minor != minor.to_integral_value() or not 0 <= minor < 10**15:
            raise typer.BadParameter(f"{text!r}: expected {shape}, the price in {currency}, like `TEA-1=1@12.50`")
        found.append({"sku": sku, "quantity": count, "unit_price": {"minor": int(minor), "currency": currency}})
    return found


def with_skus(lines: Iterable[tuple[str, int]], skus: Mapping[str, str], what: str) -> list[dict[str, Any]]:
    """Lines as the services take them; `skus` by line is what `what` has."""
    found = []
    for line_id, count in lines:
        if line_id not in skus:
            raise typer.BadParameter(f"{what} has no line {line_id!r}; it has: {', '.join(sorted(skus))}")
        found.append({"line_id": line_id, "sku": skus[line_id], "quantity": count})
    return found
