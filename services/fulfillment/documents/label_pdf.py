"""A parcel's label as PDF, for those who print on an office printer or look before they print."""

from __future__ import annotations

from io import BytesIO

from reportlab.graphics.barcode.code128 import Code128Auto
from reportlab.pdfgen.canvas import Canvas

from .label import DOTS_PER_INCH, HEIGHT, WIDTH, Barcode, ParcelLabel, Rule, Text, layout
from .text import ASCENT, BOLD, fonts

_POINTS = 72 / DOTS_PER_INCH


def label_pdf(label: ParcelLabel) -> bytes:
    """One page of 4 by 6 inches. Raises BarcodeInvalid."""
    fonts()
    file = BytesIO()
    canvas = Canvas(file, pagesize=(WIDTH * _POINTS, HEIGHT * _POINTS), invariant=1)
    canvas.setTitle(f"Label {label.tracking_number}")
    canvas.setCreator("Ordermill")
    for item in layout(label):
        _draw(canvas, item)
    canvas.save()
    return file.getvalue()


def _draw(canvas: Canvas, item: Text | Rule | Barcode) -> None:
    match item:
        case Text(x=x, y=y, size=size, text=text, right=right):
            canvas.setFont(BOLD, size * _POINTS)
            baseline = (HEIGHT - y - ASCENT * size) * _POINTS
            if right:
                canvas.drawRightString(x * _POINTS, baseline, text)
            else:
                canvas.drawString(x * _POINTS, baseline, text)
        case Rule(y=y, thickness=thickness):
            canvas.rect(0, (HEIGHT - y - thickness) * _POINTS, WIDTH * _POINTS, thickness * _POINTS, stroke=0, fill=1)
        case Barcode(y=y, height=height, module=module, data=data):
            symbol = Code128Auto(data, barWidth=module * _POINTS, barHeight=height * _POINTS, quiet=False)
            symbol.drawOn(canvas, (WIDTH * _POINTS - symbol.width) / 2, (HEIGHT - y - height) * _POINTS)
