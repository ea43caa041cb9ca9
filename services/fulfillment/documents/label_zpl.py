"""A parcel's label as ZPL II, for a printer with 203 dots an inch on 4 by 6 inches.

The output is ASCII: what is not plain stands as hexadecimal UTF-8 (`^FH`, `^CI28`), so no name or address can hold a
command, whatever lies between us and the printer. Source: Zebra, ZPL II Programming Guide, `^FH`, `^BC`, `^CI`.
"""

from __future__ import annotations

import string

from .label import (
    HEIGHT,
    WIDTH,
    Barcode,
    ParcelLabel,
    Rule,
    Text,
    code_128_subsets,
    layout,
    modules_of,
)

_PLAIN = frozenset((string.ascii_letters + string.digits + " .,-/#&'()+:@").encode())
_START = {"B": ">:", "C": ">;"}
_CHANGE = {"B": ">6", "C": ">5"}


def label_zpl(label: ParcelLabel) -> bytes:
    """The label, ready to be sent to a printer. Raises BarcodeInvalid."""
    drawn = [_draw(item) for item in layout(label)]
    return "\n".join(["^XA", "^CI28", f"^PW{WIDTH}", f"^LL{HEIGHT}", "^LH0,0", *drawn, "^PQ1", "^XZ", ""]).encode()


def _draw(item: Text | Rule | Barcode) -> str:
    match item:
        case Text(x=x, y=y, size=size, text=text, right=right):
            # Zebra's font 0 is narrower than the one that `layout` measures with, so what fits there fits here.
            return f"^FO{x},{y},{int(right)}^A0N,{size}^FH^FD{field_data(text)}^FS"
        case Rule(y=y, thickness=thickness):
            return f"^FO0,{y}^GB{WIDTH},{thickness},{thickness}^FS"
        case Barcode(y=y, height=height, module=module, data=data):
            left = (WIDTH - modules_of(data) * module) // 2
            return f"^FO{left},{y}^BY{module}^BCN,{height},N,N,N,N^FD{_code_128(data)}^FS"


def field_data(text: str) -> str:
    """`text` for a `^FD` after `^FH`: nothing in it can end the field or begin a command."""
    return "".join(chr(byte) if byte in _PLAIN else f"_{byte:02X}" for byte in text.encode())


def _code_128(data: str) -> str:
    """With the changes of subset spelled out: left to itself a printer may need more room than was measured."""
    runs = code_128_subsets(data)
    coded = [(_CHANGE[subset] if number else _START[subset]) + text for number, (subset, text) in enumerate(runs)]
    return "".join(coded)
