"""Text as paper can show it: which characters there are, how wide they are, where lines break."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib import resources
from io import BytesIO

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

REGULAR = "OrdermillSans"
BOLD = "OrdermillSans-Bold"
LINE_HEIGHT = 1.18
"""Of a row of text, in units of its size."""

ASCENT = 0.76
"""Height of the tallest letters over the baseline, in units of the size."""

_FILES = {REGULAR: "DejaVuSansCondensed.ttf", BOLD: "DejaVuSansCondensed-Bold.ttf"}
_PLAIN = str.maketrans({"\u2010": "-", "\u2011": "-", "\u2212": "-", "\u2044": "/"})
_LIKE_PLAIN_LETTERS = ("<wide>", "<narrow>", "<font>")
_UNKNOWN = "?"


@cache
def fonts() -> frozenset[int]:
    """Makes the fonts known to reportlab. Returns the code points that both can show: Latin, Greek, Cyrillic."""
    shown: set[int] = set(range(0x20, 0x110000))
    for name, file in _FILES.items():
        data = (resources.files(__package__) / "fonts" / file).read_bytes()
        font = TTFont(name, BytesIO(data))
        pdfmetrics.registerFont(font)
        shown &= font.face.charToGlyph.keys()
    return frozenset(shown)


def printable(text: str) -> str:
    """`text` in one line, of characters that every font in use has.

    Control characters and line breaks become spaces; marks that only steer the direction or the shape of others go.
    What can't be shown becomes its plain letter where it has one, and a question mark where it has none.
    """
    known = unicodedata.normalize("NFC", text).translate(_PLAIN)
    return " ".join("".join(map(_shown, known)).split())


@lru_cache(maxsize=4096)
def _shown(char: str) -> str:
    category = unicodedata.category(char)
    if category in ("Cc", "Zs", "Zl", "Zp"):
        return " "
    if category in ("Cf", "Mn", "Me"):
        return ""
    if ord(char) in fonts():
        return char
    tag = unicodedata.decomposition(char).partition(" ")[0]
    if not tag:
        return _UNKNOWN
    plain = "".join(part for part in unicodedata.normalize("NFKD", char) if unicodedata.category(part) != "Mn")
    same = not tag.startswith("<") or tag in _LIKE_PLAIN_LETTERS or plain.isalpha()
    return plain if same and plain and fonts().issuperset(map(ord, plain)) else _UNKNOWN


def width_of(text: str, size: float, font: str = BOLD) -> float:
    fonts()
    return float(pdfmetrics.stringWidth(text, font, size))


def wrap(text: str, width: float, size: float, font: str = BOLD) -> list[str]:
    """Rows of at most `width`, broken between words, or inside one that is wider than a row."""
    rows: list[str] = []
    row = ""
    for word in text.split():
        longer = f"{row} {word}" if row else word
        if width_of(longer, size, font) <= width:
            row = longer
            continue
        if row:
            rows.append(row)
        row = word
        while width_of(row, size, font) > width:
            cut = _fitting(row, width, size, font)
            rows.append(row[:cut])
            row = row[cut:]
    return [*rows, row] if row else rows


def _fitting(word: str, width: float, size: float, font: str) -> int:
    """How many of its first characters fit, at least one."""
    fits, beyond = 1, len(word)
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        if width_of(word[:middle], size, font) <= width:
            fits = middle
        else:
            beyond = middle
    return fits


def shorten(text: str, rows: int, width: float, size: float, font: str = BOLD) -> list[str]:
    """At most `rows` rows; if `text` needs more, its middle is left out, and an ellipsis says so."""
    best = wrap(text, width, size, font)
    if len(best) <= rows:
        return best
    best, fits, beyond = ["…"], 0, len(text)
    while beyond - fits > 1:
        kept = (fits + beyond) // 2
        end = kept // 3
        wrapped = wrap(f"{text[: kept - end]}…{text[len(text) - end :]}", width, size, font)
        if len(wrapped) <= rows:
            best, fits = wrapped, kept
        else:
            beyond = kept
    return best


def fit(
    lines: Sequence[str], width: float, height: float, sizes: Sequence[float], font: str = BOLD
) -> tuple[float, list[str]]:
    """The first of `sizes` at which all `lines` fit into `width` and `height`, and the rows they make.

    If even the last is too large, each line gets the same number of rows, at least one, and loses its middle.
    """
    size = sizes[-1]
    for size in sizes:
        rows = [row for line in lines for row in wrap(line, width, size, font)]
        if len(rows) * size * LINE_HEIGHT <= height:
            return size, rows
    each = max(1, int(height / (size * LINE_HEIGHT)) // max(1, len(lines)))
    return size, [row for line in lines for row in shorten(line, each, width, size, font)]
