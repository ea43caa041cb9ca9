"""A parcel's label, 4 by 6 inches: what stands where. Drawn from here as ZPL and as PDF, so that both look alike.

Places and sizes are in dots of a printer with 203 dots an inch, from the upper left corner.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..addresses import PostalAddress
from ..errors import BarcodeInvalid
from .text import LINE_HEIGHT, fit, printable

DOTS_PER_INCH = 203
WIDTH = 4 * DOTS_PER_INCH
HEIGHT = 6 * DOTS_PER_INCH

_MARGIN = 28
_INNER = WIDTH - 2 * _MARGIN
_QUIET_MODULES = 10
"""White on either side of a Code 128 symbol, in modules. Source: ISO/IEC 15417, 4.2.2."""

_TRACKING_NUMBER = re.compile(r"[A-Z0-9]{4,60}")


@dataclass(frozen=True, slots=True)
class ParcelLabel:
    """One package's label. `order_reference` is the order as its channel names it."""

    sender: PostalAddress
    recipient: PostalAddress
    carrier: str
    service: str
    tracking_number: str
    weight_g: int
    package: int
    packages: int
    order_reference: str


@dataclass(frozen=True, slots=True)
class Text:
    """One row of printable text; `y` is its upper edge. `right`: `x` is its right edge."""

    x: int
    y: int
    size: int
    text: str
    right: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    y: int
    thickness: int


@dataclass(frozen=True, slots=True)
class Barcode:
    """A Code 128 symbol, centered. `module` is the width of its thinnest bar."""

    y: int
    height: int
    module: int
    data: str


Item = Text | Rule | Barcode


def layout(label: ParcelLabel) -> list[Item]:
    """What to draw. Raises BarcodeInvalid."""
    if not _TRACKING_NUMBER.fullmatch(label.tracking_number):
        raise BarcodeInvalid(label.tracking_number)
    home = label.sender.country
    items: list[Item] = [Text(_MARGIN, 24, 20, "FROM")]
    items += _block(label.sender.lines(home), _MARGIN, 48, 500, 138, (26, 22, 18))
    items += [
        Text(WIDTH - _MARGIN, 24, 20, "PACKAGE", right=True),
        Text(WIDTH - _MARGIN, 46, 46, f"{label.package} of {label.packages}", right=True),
        Text(WIDTH - _MARGIN, 106, 20, "WEIGHT", right=True),
        Text(WIDTH - _MARGIN, 128, 28, weight(label.weight_g), right=True),
        Rule(194, 3),
        Text(_MARGIN, 208, 20, "SHIP TO"),
    ]
    items += _block(label.recipient.lines(home), 80, 238, WIDTH - 80 - _MARGIN, 352, (52, 46, 40, 34, 28, 24))
    items.append(Rule(604, 6))
    items += _block((label.service,), _MARGIN, 622, _INNER, 76, (60, 52, 44, 36, 28))
    items += _block((label.carrier,), _MARGIN, 700, _INNER, 42, (32, 26, 22))
    module = _module(label.tracking_number)
    items += [
        Rule(756, 3),
        Text(_MARGIN, 772, 20, "TRACKING NUMBER"),
        Barcode(y=858, height=216, module=module, data=label.tracking_number),
        Rule(1094, 3),
        Text(_MARGIN, 1108, 20, "ORDER"),
    ]
    items += _block((grouped(label.tracking_number),), _MARGIN, 796, _INNER, 50, (40, 34, 28, 22, 18))
    items += _block((label.order_reference,), _MARGIN, 1134, _INNER, 70, (36, 30, 24, 20))
    return items


def _block(lines: tuple[str, ...], x: int, y: int, width: int, height: int, sizes: tuple[int, ...]) -> list[Item]:
    clean = [text for line in lines if (text := printable(line))]
    size, rows = fit(clean, width, height, sizes)
    return [Text(x, y + int(row * size * LINE_HEIGHT), int(size), text) for row, text in enumerate(rows)]


def weight(grams: int) -> str:
    if grams < 100:
        return f"{grams} g ({grams / 28.349523125:.1f} oz)"
    return f"{grams / 1000:.2f} kg ({grams / 453.59237:.2f} lb)"


def grouped(tracking_number: str) -> str:
    """In fours, as people read numbers out."""
    return " ".join(tracking_number[start : start + 4] for start in range(0, len(tracking_number), 4))


def code_128_subsets(data: str) -> list[tuple[str, str]]:
    """`data` in runs of subset B (letters, digits) and C (pairs of digits), short rather than shortest.

    Source: ISO/IEC 15417, annex E: four digits at either end, six in the middle are worth a change to C.
    """
    runs: list[tuple[str, str]] = []
    for found in re.finditer(r"[0-9]+|[^0-9]+", data):
        run = found[0]
        at_end = found.start() == 0 or found.end() == len(data)
        pairs = len(run) - len(run) % 2
        if not run[0].isdigit() or pairs < (4 if at_end else 6):
            _append(runs, "B", run)
            continue
        odd_first = len(run) % 2 == 1 and found.start() > 0
        if odd_first:
            _append(runs, "B", run[0])
        _append(runs, "C", run[1:] if odd_first else run[:pairs])
        if len(run) % 2 == 1 and not odd_first:
            _append(runs, "B", run[-1])
    return runs


def _append(runs: list[tuple[str, str]], subset: str, text: str) -> None:
    if runs and runs[-1][0] == subset:
        runs[-1] = (subset, runs[-1][1] + text)
    else:
        runs.append((subset, text))


def modules_of(data: str) -> int:
    """Width of the symbol in modules: eleven a character, with a start, a check, the changes and a longer stop."""
    runs = code_128_subsets(data)
    characters = sum(len(text) // 2 if subset == "C" else len(text) for subset, text in runs)
    return 11 * (characters + len(runs) + 1) + 13


def _module(data: str) -> int:
    """As wide as fits with its quiet zones, 4 dots (0.5 mm) at most."""
    return max(1, min(4, WIDTH // (modules_of(data) + 2 * _QUIET_MODULES)))
