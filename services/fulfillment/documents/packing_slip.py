"""The paper in the box: what it holds, for whom. US Letter; as many pages as the lines need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from reportlab.lib.pagesizes import LETTER
from reportlab.pdfgen.canvas import Canvas

from ..addresses import PostalAddress
from .text import ASCENT, BOLD, LINE_HEIGHT, REGULAR, fit, fonts, printable, wrap

_WIDTH, _HEIGHT = LETTER
_MARGIN = 54.0
_RIGHT = _WIDTH - _MARGIN
_SIZE = 9.5
_ROW = _SIZE * LINE_HEIGHT
_PADDING = 4.0
_SKU_WIDTH, _TITLE_WIDTH, _GAP = 132.0, 304.0, 12.0
_TITLE_X = _MARGIN + _SKU_WIDTH + _GAP
_BOTTOM = _MARGIN + 20
"""Nothing of the table stands below it."""


@dataclass(frozen=True, slots=True)
class SlipLine:
    sku: str
    title: str
    quantity: int


@dataclass(frozen=True, slots=True)
class PackingSlip:
    """One package's slip. `order_reference` is the order as its channel names it."""

    order_reference: str
    fulfillment_id: str
    sender: PostalAddress
    recipient: PostalAddress
    package: int
    packages: int
    lines: tuple[SlipLine, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the table, wrapped."""

    sku: list[str]
    title: list[str]
    quantity: str

    @property
    def height(self) -> float:
        return max(len(self.sku), len(self.title), 1) * _ROW + 2 * _PADDING


def packing_slip_pdf(slip: PackingSlip) -> bytes:
    fonts()
    file = BytesIO()
    canvas = Canvas(file, pagesize=LETTER, invariant=1)
    canvas.setTitle(f"Packing slip {slip.fulfillment_id}")
    canvas.setCreator("Ordermill")
    rows = [_row(line) for line in slip.lines]
    first_top, next_top = _HEIGHT - 268, _HEIGHT - _MARGIN - 44
    pages = _pages(rows, first_top - _BOTTOM, next_top - _BOTTOM)
    units = sum(line.quantity for line in slip.lines)
    for number, page in enumerate(pages, 1):
        if number == 1:
            _draw_head(canvas, slip)
        else:
            _draw_short_head(canvas, slip)
        y = _draw_table(canvas, page, first_top if number == 1 else next_top)
        if number == len(pages):
            canvas.setFont(BOLD, _SIZE)
            canvas.drawRightString(_RIGHT - _GAP / 2, y - _PADDING - ASCENT * _SIZE, f"Units in this package: {units}")
        canvas.setFont(REGULAR, 8)
        canvas.drawString(_MARGIN, _MARGIN - 14, printable(slip.fulfillment_id))
        canvas.drawRightString(_RIGHT, _MARGIN - 14, f"Page {number} of {len(pages)}")
        canvas.showPage()
    canvas.save()
    return file.getvalue()


def _row(line: SlipLine) -> _Row:
    return _Row(
        sku=wrap(printable(line.sku), _SKU_WIDTH, _SIZE, BOLD),
        title=wrap(printable(line.title), _TITLE_WIDTH, _SIZE, REGULAR),
        quantity=str(line.quantity),
    )


def _pages(rows: Sequence[_Row], first: float, following: float) -> list[list[_Row]]:
    """Rows by page. `first` and `following` are the heights for heading, rows and, on the last page, the sum."""
    pages: list[list[_Row]] = [[]]
    heading = footing = _ROW + 2 * _PADDING
    left = first - heading - footing
    for row in rows:
        if row.height > left and pages[-1]:
            pages.append([])
            left = following - heading - footing
        pages[-1].append(row)
        left -= row.height
    return pages


def _draw_head(canvas: Canvas, slip: PackingSlip) -> None:
    top = _HEIGHT - _MARGIN
    canvas.setFont(BOLD, 22)
    canvas.drawString(_MARGIN, top - ASCENT * 22, "Packing slip")
    canvas.setFont(BOLD, 14)
    canvas.drawRightString(_RIGHT, top - ASCENT * 14, f"Package {slip.package} of {slip.packages}")
    _draw_block(canvas, "Order", (slip.order_reference,), _MARGIN, top - 38, _RIGHT - _MARGIN, 30, (13, 11, 9))
    canvas.line(_MARGIN, top - 86, _RIGHT, top - 86)
    home, half = slip.sender.country, (_RIGHT - _MARGIN) / 2 - _GAP
    _draw_block(canvas, "Ship to", slip.recipient.lines(home), _MARGIN, top - 94, half, 98, (11.5, 10, 8.5))
    middle = _MARGIN + half + 2 * _GAP
    _draw_block(canvas, "Shipped from", slip.sender.lines(home), middle, top - 94, half, 98, (11.5, 10, 8.5))


def _draw_short_head(canvas: Canvas, slip: PackingSlip) -> None:
    top = _HEIGHT - _MARGIN
    _, rows = fit([printable(slip.order_reference)], _RIGHT - _MARGIN - 120, 14, (11,))
    canvas.setFont(BOLD, 11)
    canvas.drawString(_MARGIN, top - ASCENT * 11, rows[0] if rows else "")
    canvas.drawRightString(_RIGHT, top - ASCENT * 11, f"Package {slip.package} of {slip.packages}")


def _draw_block(
    canvas: Canvas,
    heading: str,
    lines: Sequence[str],
    x: float,
    y: float,
    width: float,
    height: float,
    sizes: tuple[float, ...],
) -> None:
    """A heading and under it `lines`, as large as they fit into `width` and `height`. `y` is the upper edge."""
    canvas.setFont(REGULAR, 8.5)
    canvas.drawString(x, y - ASCENT * 8.5, heading)
    clean = [text for line in lines if (text := printable(line))]
    size, rows = fit(clean, width, height, sizes)
    canvas.setFont(BOLD, size)
    for number, row in enumerate(rows):
        canvas.drawString(x, y - 13 - number * size * LINE_HEIGHT - ASCENT * size, row)


def _draw_table(canvas: Canvas, rows: Sequence[_Row], top: float) -> float:
    """The heading and `rows`; returns where the table ends."""
    y = top
    canvas.setFont(REGULAR, 8.5)
    canvas.drawString(_MARGIN, y - _PADDING - ASCENT * _SIZE, "SKU")
    canvas.drawString(_TITLE_X, y - _PADDING - ASCENT * _SIZE, "Item")
    canvas.drawRightString(_RIGHT - _GAP / 2, y - _PADDING - ASCENT * _SIZE, "Quantity")
    y -= _ROW + 2 * _PADDING
    canvas.setLineWidth(1)
    canvas.line(_MARGIN, y, _RIGHT, y)
    canvas.setLineWidth(0.4)
    for row in rows:
        baseline = y - _PADDING - ASCENT * _SIZE
        canvas.setFont(BOLD, _SIZE)
        canvas.drawRightString(_RIGHT - _GAP / 2, baseline, row.quantity)
        for number, text in enumerate(row.sku):
            canvas.drawString(_MARGIN, baseline - number * _ROW, text)
        canvas.setFont(REGULAR, _SIZE)
        for number, text in enumerate(row.title):
            canvas.drawString(_TITLE_X, baseline - number * _ROW, text)
        y -= row.height
        canvas.line(_MARGIN, y, _RIGHT, y)
    return y
