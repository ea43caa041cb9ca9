"""Paper: labels and packing slips, from data in the clear to bytes. Pure, the same bytes for the same data."""

from .label import ParcelLabel
from .label_pdf import label_pdf
from .label_zpl import label_zpl
from .packing_slip import PackingSlip, SlipLine, packing_slip_pdf

__all__ = ["PackingSlip", "ParcelLabel", "SlipLine", "label_pdf", "label_zpl", "packing_slip_pdf"]
