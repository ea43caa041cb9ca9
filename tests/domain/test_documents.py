"""Labels and packing slips: what stands on them, whatever people are called and wherever they live."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from services.fulfillment.addresses import PostalAddress
from services.fulfillment.documents import (
    PackingSlip,
    ParcelLabel,
    SlipLine,
    label_pdf,
    label_zpl,
    packing_slip_pdf,
)
from services.fulfillment.documents.label import (
    HEIGHT,
    WIDTH,
    Barcode,
    Text,
    code_128_subsets,
    layout,
    modules_of,
    weight,
)
from services.fulfillment.documents.text import BOLD, REGULAR, fonts, printable, shorten, width_of, wrap
from services.fulfillment.errors import BarcodeInvalid

EDISON = PostalAddress("Edison warehouse", "", ("40 Mill Race Road",), "Edison", "NJ", "08837", "US")
ZOE = PostalAddress(
    "Zoë Łukasiewicz-Ångström", "Söhne & Co", ("1200 SW Morrison St", "Apt 4B"), "Portland", "OR", "97205", "US"
)
NUMBER = "CE568182351023107678"
LABEL = ParcelLabel(
    sender=EDISON,
    recipient=ZOE,
    carrier="Cedar Parcel",
    service="Cedar Ground",
    tracking_number=NUMBER,
    weight_g=1250,
    package=2,
    packages=3,
    order_reference="shop #1001",
)
SLIP = PackingSlip(
    order_reference="shop #1001",
    fulfillment_id="F1",
    sender=EDISON,
    recipient=ZOE,
    package=2,
    packages=3,
    lines=(SlipLine("TEAPOT", "Teapot, blue", 2), SlipLine("CUP", "Filiżanka", 3)),
)

# ZPL, read strictly


@dataclass(frozen=True)
class Field:
    x: int
    y: int
    right: bool
    commands: dict[str, str]
    data: str | None


_COMMAND = re.compile(r"\^(A0|BC|BY|CI|FD|FH|FO|FS|GB|LH|LL|PQ|PW|XA|XZ)([^^~\n]*)\n?")


def read_zpl(zpl: bytes) -> list[Field]:
    """The fields of one label. Knows only the commands that a label of ours may hold, and nothing between them."""
    text = zpl.decode("ascii")
    assert "~" not in text
    position, fields, names = 0, [], []
    field: dict[str, str] | None = None
    while position < len(text):
        found = _COMMAND.match(text, position)
        assert found, f"not a command of ours: {text[position : position + 40]!r}"
        position = found.end()
        name, parameters = found.groups()
        if name == "FO":
            assert field is None
            field = {name: parameters}
        elif name == "FS":
            assert field is not None
            fields.append(_field(field))
            field = None
        elif field is not None:
            assert name in ("A0", "BC", "BY", "FD", "FH", "GB")
            assert name not in field
            assert "FD" not in field, "field data is the last of a field"
            field[name] = parameters
        else:
            names.append(name)
            assert parameters.replace(",", "").isdigit() or not parameters
    assert field is None
    assert names == ["XA", "CI", "PW", "LL", "LH", "PQ", "XZ"]
    return fields


def _field(commands: dict[str, str]) -> Field:
    x, y, *justify = map(int, commands["FO"].split(","))
    data = commands.get("FD")
    if data is not None and "FH" in commands:
        assert re.fullmatch(r"(?:[ -^`-~]|_[0-9A-F]{2})*", data)
        data = re.sub(r"(?:_[0-9A-F]{2})+", lambda run: bytes.fromhex(run[0].replace("_", "")).decode("utf-8"), data)
    return Field(x, y, justify == [1], commands, data)


def texts(zpl: bytes) -> list[str]:
    return [field.data for field in read_zpl(zpl) if "A0" in field.commands and field.data is not None]


def inside(zpl: bytes) -> None:
    """Nothing is printed beyond the paper, nor over the next row."""
    rows: list[tuple[int, int]] = []
    for field in read_zpl(zpl):
        if field.data is None or "A0" not in field.commands:
            continue
        size = int(field.commands["A0"].split(",")[1])
        width = width_of(field.data, size)
        left = field.x - width if field.right else field.x
        assert left >= 0
        assert left + width <= WIDTH
        assert field.y + size <= HEIGHT
        if not field.right:
            rows.append((field.y, size))
    rows.sort()
    for (y, size), (below, _) in pairwise(rows):
        assert y + size <= below


@pytest.mark.parametrize(
    ("grams", "told"), [(1, "1 g (0.0 oz)"), (4, "4 g (0.1 oz)"), (99, "99 g (3.5 oz)"), (100, "0.10 kg (0.22 lb)")]
)
def test_a_light_parcels_weight_is_told_in_grams(grams: int, told: str) -> None:
    assert weight(grams) == told


def test_a_zpl_label_says_from_where_to_whom_and_how() -> None:
    assert texts(label_zpl(LABEL)) == [
        "FROM",
        "Edison warehouse",
        "40 Mill Race Road",
        "Edison, NJ 08837",
        "PACKAGE",
        "2 of 3",
        "WEIGHT",
        "1.25 kg (2.76 lb)",
        "SHIP TO",
        "Zoë Łukasiewicz-Ångström",
        "Söhne & Co",
        "1200 SW Morrison St",
        "Apt 4B",
        "Portland, OR 97205",
        "Cedar Ground",
        "Cedar Parcel",
        "TRACKING NUMBER",
        "ORDER",
        "CE56 8182 3510 2310 7678",
        "shop #1001",
    ]
    inside(label_zpl(LABEL))


def test_a_zpl_label_is_four_by_six_inches_in_utf_8() -> None:
    head = label_zpl(LABEL).decode().split("\n")[:5]
    assert head == ["^XA", "^CI28", "^PW812", "^LL1218", "^LH0,0"]


def test_the_zpl_barcode_is_the_tracking_number_in_pairs_of_digits() -> None:
    (barcode,) = [field for field in read_zpl(label_zpl(LABEL)) if "BC" in field.commands]
    assert barcode.data == ">:CE>5568182351023107678"
    assert barcode.commands["BY"] == "4"
    assert (barcode.x, modules_of(NUMBER)) == ((812 - 167 * 4) // 2, 167)


@pytest.mark.parametrize(
    "attack",
    [
        "^XZ^XA^FO0,0^FDfree^FS",
        "~JA",
        "_5E_7E",
        "a^FS^FDb",
        "\\&new line",
        "tab\tline\nreturn\r\x00\x1b[2J",
        "\u202e5678 tracking",
        "^",
        "<script>alert(1)</script>",
        '=HYPERLINK("http://elsewhere.example")',
        "😀 👩‍🚀",
        "a\x00b",
    ],
)
def test_no_name_can_be_a_command(attack: str) -> None:
    label = replace(LABEL, recipient=replace(ZOE, name=attack, street=(attack,), city=attack), order_reference=attack)
    shown = texts(label_zpl(label))
    assert printable(attack) in shown
    assert shown[:9] == texts(label_zpl(LABEL))[:9]
    inside(label_zpl(label))


anything = st.text(max_size=60) | st.text(alphabet="^~_\\>\x00 aZ5", max_size=30)


@settings(max_examples=100, deadline=None)
@given(anything, anything, anything, anything)
def test_whatever_people_type_a_label_is_well_formed(name: str, street: str, city: str, reference: str) -> None:
    label = replace(LABEL, recipient=replace(ZOE, name=name, street=(street,), city=city), order_reference=reference)
    zpl = label_zpl(label)
    inside(zpl)
    assert [field.data for field in read_zpl(zpl) if "BC" in field.commands] == [">:CE>5568182351023107678"]


def test_the_longest_address_still_fits_and_keeps_its_postal_code() -> None:
    endless = PostalAddress(
        "W" * 500, "Company " * 60, ("Street " * 70,) * 4, "Llanfair" * 60, "Wales", "LL61 5UJ", "GB"
    )
    label = replace(LABEL, sender=endless, recipient=endless, service="S " * 250, order_reference="x" * 120)
    shown = texts(label_zpl(label))
    assert [text for text in shown if text.endswith("LL61 5UJ")]
    assert "…" in "".join(shown)
    inside(label_zpl(label))
    read = read_pdf(label_pdf(label))
    assert len(read) == 1


def test_a_tracking_number_that_no_scanner_could_read_is_refused() -> None:
    for number in ("", "abc", "CE56^XZ", "Ω" * 20, "1" * 61):
        with pytest.raises(BarcodeInvalid):
            label_zpl(replace(LABEL, tracking_number=number))


# Code 128


def test_digits_go_in_pairs_where_that_is_shorter() -> None:
    assert code_128_subsets("123456") == [("C", "123456")]
    assert code_128_subsets("12345") == [("C", "1234"), ("B", "5")]
    assert code_128_subsets("AB12345") == [("B", "AB1"), ("C", "2345")]
    assert code_128_subsets("A1234B") == [("B", "A1234B")]
    assert code_128_subsets("A1234567B") == [("B", "A1"), ("C", "234567"), ("B", "B")]
    assert code_128_subsets("A12345678") == [("B", "A"), ("C", "12345678")]


@given(st.text("ABC0123456789", min_size=4, max_size=60))
def test_every_tracking_number_fits_with_its_quiet_zones(number: str) -> None:
    assert "".join(text for _, text in code_128_subsets(number)) == number
    assert all(len(text) % 2 == 0 for subset, text in code_128_subsets(number) if subset == "C")
    (barcode,) = [item for item in layout(replace(LABEL, tracking_number=number)) if isinstance(item, Barcode)]
    assert (modules_of(number) + 20) * barcode.module <= WIDTH


# PDF


def read_pdf(pdf: bytes) -> list[str]:
    return [page.extract_text() for page in PdfReader(BytesIO(pdf)).pages]


def test_a_pdf_label_says_the_same_as_the_zpl() -> None:
    (page,) = read_pdf(label_pdf(LABEL))
    for text in texts(label_zpl(LABEL)):
        assert text in page
    (box,) = [page.mediabox for page in PdfReader(BytesIO(label_pdf(LABEL))).pages]
    assert (float(box.width), float(box.height)) == (288.0, 432.0)


def test_a_packing_slip_says_what_is_in_the_box_for_whom() -> None:
    (page,) = read_pdf(packing_slip_pdf(SLIP))
    for text in (
        "shop #1001",
        "Package 2 of 3",
        "Zoë Łukasiewicz-Ångström",
        "Portland, OR 97205",
        "Edison warehouse",
        "TEAPOT",
        "Teapot, blue",
        "Filiżanka",
        "Units in this package: 5",
        "Page 1 of 1",
    ):
        assert text in page


def test_a_slip_has_as_many_pages_as_its_lines_need() -> None:
    lines = tuple(SlipLine(f"SKU-{n:03}", "Teapot, blue", n + 1) for n in range(160))
    pages = read_pdf(packing_slip_pdf(replace(SLIP, lines=lines)))
    assert len(pages) == 6
    seen = [sku for page in pages for sku in re.findall(r"SKU-\d{3}", page)]
    assert seen == [line.sku for line in lines]
    for number, page in enumerate(pages, 1):
        assert f"Page {number} of 6" in page
        assert "Package 2 of 3" in page
        assert "shop #1001" in page
    assert [page for page in pages if "Units in this package" in page] == [pages[-1]]
    assert f"Units in this package: {160 * 161 // 2}" in pages[-1]


def test_long_titles_are_wrapped_not_cut() -> None:
    title = " ".join(f"word{n}" for n in range(80))
    (page,) = read_pdf(packing_slip_pdf(replace(SLIP, lines=(SlipLine("S" * 64, title, 1),))))
    assert page.split().count("word79") == 1
    assert title in " ".join(page.split())
    assert "S" * 64 in re.sub(r"\s", "", page)


def test_rows_stay_above_the_foot_of_the_page() -> None:
    lines = tuple(SlipLine("W" * (n % 64 + 1), "W" * (n * 7 % 500), 1_000_000) for n in range(60))
    for page in PdfReader(BytesIO(packing_slip_pdf(replace(SLIP, lines=lines)))).pages:
        placed: list[tuple[str, float, float]] = []

        def note(text: str, _cm: object, matrix: list[float], _font: object, _size: float) -> None:
            if text.strip():
                placed.append((text.strip(), matrix[4], matrix[5]))  # noqa: B023

        page.extract_text(visitor_text=note)
        for text, _, y in placed:
            footer = text.startswith("Page ") or text == "F1"
            assert y > 54 or footer, text


def test_an_empty_slip_is_still_a_page() -> None:
    (page,) = read_pdf(packing_slip_pdf(replace(SLIP, lines=())))
    assert "Units in this package: 0" in page


def test_the_same_data_is_the_same_bytes() -> None:
    assert label_pdf(LABEL) == label_pdf(LABEL)
    assert packing_slip_pdf(SLIP) == packing_slip_pdf(SLIP)
    assert label_zpl(LABEL) == label_zpl(LABEL)
    label_pdf(replace(LABEL, recipient=replace(ZOE, name="Ελένη Иван")))
    assert label_pdf(LABEL) == _in_another_process()


def _in_another_process() -> bytes:
    import subprocess
    import sys

    code = "import sys; from tests.domain.test_documents import *; sys.stdout.buffer.write(label_pdf(LABEL))"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout


def test_documents_name_nobody_in_their_metadata() -> None:
    for pdf in (label_pdf(LABEL), packing_slip_pdf(SLIP)):
        about = PdfReader(BytesIO(pdf)).metadata
        assert about is not None
        assert "Zoë" not in str(about)


@settings(max_examples=50, deadline=None)
@given(anything, anything, anything)
def test_whatever_people_type_the_papers_can_be_drawn_and_read(name: str, title: str, reference: str) -> None:
    recipient = replace(ZOE, name=name)
    slip = replace(SLIP, recipient=recipient, order_reference=reference, lines=(SlipLine("CUP", title, 1),))
    (page,) = read_pdf(packing_slip_pdf(slip))
    assert "Portland, OR 97205" in page
    (page,) = read_pdf(label_pdf(replace(LABEL, recipient=recipient, order_reference=reference)))
    assert "Portland, OR 97205" in page


# Text


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("Łódź, Brăila, Kraków, Ñandú, İzmir, Đà Nẵng", "Łódź, Brăila, Kraków, Ñandú, İzmir, Đà Nẵng"),
        ("Ελένη, Иван, Ґалаґан", "Ελένη, Иван, Ґалаґан"),
        ("Zoe\u0308", "Zoë"),
        ("12\x0034", "12 34"),
        ("a\u200bb\u200db\ufe0f", "abb"),
        ("\u202eevil\u202c", "evil"),
        ("two\r\nlines\u2028here", "two lines here"),
        ("Teapot 🫖", "Teapot ?"),
        ("李小龙", "???"),
        ("ＡＢＣ１２", "ABC12"),
        ("ﬁnch 𝓙𝓸", "finch Jo"),
        ("5⅓ m", "5? m"),
        ("12①", "12?"),
        ("x\ud800y", "x?y"),
        ("H\u0331", "H"),
        ("10 €", "10 €"),
    ],
)
def test_text_is_shown_as_it_is_or_visibly_not(typed: str, shown: str) -> None:
    assert printable(typed) == shown


@given(st.text())
def test_printable_text_is_one_line_of_characters_that_there_are(text: str) -> None:
    shown = printable(text)
    assert fonts().issuperset(map(ord, shown))
    assert printable(shown) == shown
    assert shown == " ".join(shown.split())


@given(st.lists(st.text("abcWÖ.", min_size=1, max_size=60), max_size=20), st.integers(40, 300))
def test_wrapping_loses_nothing_and_stays_inside(words: list[str], width: int) -> None:
    rows = wrap(" ".join(words), width, 10, REGULAR)
    assert "".join(rows).replace(" ", "") == "".join(words)
    assert all(width_of(row, 10, REGULAR) <= width for row in rows)


@given(st.text("abcW 5", max_size=300).map(printable), st.integers(1, 4))
def test_what_is_too_long_loses_its_middle(text: str, rows: int) -> None:
    short = shorten(text, rows, 120, 10, BOLD)
    assert len(short) <= rows
    if "…" in "".join(short):
        assert short[0][0] == text[0]
    else:
        assert " ".join(short).replace(" ", "") == text.replace(" ", "")


def test_texts_of_a_label_are_printable() -> None:
    rows = [item.text for item in layout(LABEL) if isinstance(item, Text)]
    assert [printable(row) for row in rows] == rows
