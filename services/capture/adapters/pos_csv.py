"""A point of sale's line file: CSV, one row a line, rows of one receipt share its number. Columns: `COLUMNS` below.

A receipt becomes an order if it is to be shipped (bought in the shop, sent home); what was carried out is only noted.
Its id is `store/register/receipt`, or the receipt alone where store and register are empty. What concerns the whole
receipt (ship-to, total, times …) may stand on its first row or on all; two different values are an error.

`kind`: `sale` (also empty); `void` takes back so many units of the line of that number, from this file's receipt or,
if the receipt came earlier, by cancellation; `void-receipt` cancels the receipt; `return` belongs to the returns and is
noted. A void alone needs the ship_country again, or it is taken for one of the receipts that were carried out. What is
left of a line keeps its units' share of the line's discount and tax.

Taken are `,` `;` and tab, with or without a BOM, Excel's `sep=` line, decimal commas where the file is separated by
`;`, no separators of thousands. A damaged receipt is rejected with its row; others go on. What spreadsheets do to
files is recognized by name.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

from ordermill.contracts.channel import (
    Address,
    ChannelLine,
    ChannelOrder,
    Customer,
    LineChange,
    OrderCanceled,
    OrderPlaced,
    Payment,
    ServiceLevel,
)
from ordermill.contracts.fields import MINOR_DIGITS, Money
from ordermill.contracts.personal import Person
from ordermill.ids import derived_id
from ordermill.money import first_units

from .amounts import decimal_of, money_of
from .base import (
    MEGABYTE,
    Adapted,
    AdapterContext,
    Findings,
    Unfit,
    check_size,
    note_wrong_total,
)
from .extension import carry, restore
from .reading import clean, instant_of, line_id_of, sku_of, utf8

COLUMNS = {
    "receipt": "the receipt's number; required",
    "store": "the shop",
    "register": "the till",
    "sold_at": "when it was sold, or voided, ISO 8601, with offset or in the shop's zone; required",
    "kind": "sale, void, void-receipt or return; empty is sale",
    "line": "the line's number on the receipt; empty: counted",
    "sku": "required",
    "title": "what it is",
    "qty": "whole units; required",
    "unit_price": "required",
    "discount": "off the whole line; empty is none",
    "tax": "on the whole line; empty is none",
    "tax_included": "yes or no, whether prices hold the tax; empty is no",
    "currency": "ISO 4217; empty: the channel's",
    "shipping": "for the receipt, its tax in it if tax_included; empty is none",
    "shipping_tax": "for the receipt; empty is none",
    "total": "of the receipt; empty: what its lines add up to",
    "tender": "cash, card, mobile, check, gift-card, account, authorized or unpaid",
    "tender_ref": "the payment's reference",
    "ship_name": "to whom; with ship_country this makes it an order",
    "ship_company": "",
    "ship_street1": "",
    "ship_street2": "",
    "ship_street3": "",
    "ship_street4": "",
    "ship_city": "",
    "ship_region": "state or province",
    "ship_postal": "postal code, as text",
    "ship_country": "two letters",
    "ship_phone": "",
    "ship_email": "",
    "customer": "the customer's number with the shop",
    "customer_email": "",
    "service": "standard or expedited; empty is standard",
    "backorder": "yes or no, whether it may wait for stock; empty is no",
    "risk": "low, medium or high; empty is low",
    "weight_g": "grams of one unit",
    "final_sale": "yes or no, whether it can't be returned; empty is no",
    "x_ordermill": "what `render` could not write otherwise, in pieces; ignored unless the channel is ours",
}
"""Every column and what it holds. Order and case don't matter; unknown columns are noted and ignored."""

_REQUIRED = ("receipt", "sold_at", "sku", "qty", "unit_price")
_KINDS = frozenset({"sale", "void", "void-receipt", "return"})
_TENDERS: dict[str, Literal["paid", "authorized", "pending", "invoice"]] = {
    "cash": "paid",
    "card": "paid",
    "mobile": "paid",
    "check": "paid",
    "gift-card": "paid",
    "account": "invoice",
    "authorized": "authorized",
    "unpaid": "pending",
}
_TENDER_OF = {"paid": "card", "invoice": "account", "authorized": "authorized", "pending": "unpaid"}
_SCIENTIFIC = re.compile(r"[0-9](?:[.,][0-9]+)?E\+[0-9]+", re.IGNORECASE)
_ERROR = re.compile(r"#(?:REF!|N/A|VALUE!|NAME\?|DIV/0!|NUM!|NULL!)|#{3,}")
_THOUSANDS = re.compile(r"-?[1-9][0-9]{0,2}[.,][0-9]{3}", re.ASCII)
_SERIAL_DATE = re.compile(r"[2-6][0-9]{4}(?:[.,][0-9]+)?")
_AS_DATE = re.compile(
    r"[0-9]{1,2}-(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
    r"|(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)-[0-9]{2}"
)
_NOTHING = dict.fromkeys(_REQUIRED, "")
MAX_ROWS = 100_000
_BROKEN = "\0"
"""In a row that can't be read: why. No column is called so."""
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,40}")
_BEFORE_DAMAGE = "Export the file anew from the till, and don't open it in a spreadsheet, or with the column as text"

Row = dict[str, str]


class PosCsvAdapter:
    """A shop's tills: orders bought in the shop and shipped home."""

    name = "pos-csv"
    media_type = "text/csv"
    extension = "csv"
    max_bytes = 16 * MEGABYTE

    def adapt(self, payload: bytes, context: AdapterContext) -> Adapted:
        found = Findings(self.name)
        with found.payload():
            check_size(payload, self.max_bytes)
            decimal_comma, receipts = _receipts(utf8(payload), found)
            if not receipts and not found.rejections:
                raise Unfit("empty", "a header and no row below. Send at least one receipt")
            carried = 0
            for key, rows in receipts.items():
                receipt = _Receipt(key, rows, decimal_comma, context, found)
                with found.item(receipt.where) as messages:
                    messages.extend(receipt.messages())
                carried += receipt.carried_out
            if carried:
                found.note(
                    "carried-out",
                    "payload",
                    f"{carried} receipts without a ship-to: carried out of the shop, no orders",
                )
        return found.result()

    def render(self, order: OrderPlaced) -> bytes:
        context = AdapterContext(order.channel, order.placed_at, currency=order.total.currency)
        return carry(self, order, lambda lost: _write(order, lost), context)


def _receipts(text: str, found: Findings) -> tuple[bool, dict[tuple[str, str, str], list[tuple[int, Row]]]]:
    """Each receipt's rows with their numbers in the file, and whether decimals may have commas."""
    first, _, rest = text.partition("\n")
    row_before = 0
    if marker := re.fullmatch(r'"?sep=(.)"?\r?', first):
        text, row_before, separator = rest, 1, marker[1]
    else:
        separator = max(",;\t", key=first.count)
    skipped, rows = row_before, 0
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    header: list[str] = []
    receipts: dict[tuple[str, str, str], list[tuple[int, Row]]] = {}
    last: tuple[str, str, str] | None = None
    try:
        for raw in reader:
            number, row_before = row_before + 1, reader.line_num + skipped
            if not raw:
                continue
            cells = [cell.strip() for cell in raw]
            if not any(cells):
                continue
            if not header:
                header = _header(cells, found)
                continue
            if (rows := rows + 1) > MAX_ROWS:
                raise Unfit("too-many-rows", f"more than {MAX_ROWS:,} rows. Send it in smaller parts")
            row = _NOTHING | {name: cell for name, cell in zip(header, cells, strict=False) if cell and name in COLUMNS}
            if any(cells[len(header) :]):
                row[_BROKEN] = (
                    f"{len(cells)} cells under {len(header)} columns: a separator inside of a text? Quote texts"
                )
            last = row.get("store", ""), row.get("register", ""), row["receipt"]
            receipts.setdefault(last, []).append((number, row))
    except csv.Error as error:
        why = f"no CSV from here on ({error}), so neither is anything below. Close the quotes and send it again"
        found.reject("not-csv", f"row {row_before + 1}", why)
        if last is not None:
            receipts[last].append((row_before + 1, {_BROKEN: "the file breaks off within or after this receipt"}))
    if not header:
        raise Unfit(
            "no-header", f"expected a row of column names: {', '.join(_REQUIRED)} and more. Send it with a header"
        )
    return separator == ";", receipts


def _header(cells: list[str], found: Findings) -> list[str]:
    names = [re.sub(r"[\s-]+", "_", cell.lower()) for cell in cells]
    if missing := [name for name in _REQUIRED if name not in names]:
        raise Unfit("no-column", f"the columns {', '.join(missing)} are missing. Name them in the first row", "row 1")
    if twice := [name for name, count in Counter(names).items() if name and count > 1]:
        raise Unfit("column-twice", f"the column {twice[0][:40]} stands twice. Keep one", "row 1")
    if unknown := [name for name in names if name and name not in COLUMNS]:
        found.note("unknown-column", "row 1", f"the columns {', '.join(unknown)[:120]} are not known and ignored")
    return names


class _Receipt:
    """The rows of one receipt."""

    def __init__(
        self,
        key: tuple[str, str, str],
        rows: list[tuple[int, Row]],
        decimal_comma: bool,
        context: AdapterContext,
        found: Findings,
    ) -> None:
        store, register, receipt = key
        self._rows, self._comma, self._context, self._found = rows, decimal_comma, context, found
        self._store = store
        self.external_id = f"{store}/{register}/{receipt}" if store or register else receipt
        self.where = f"row {rows[0][0]}, receipt {self.external_id[:60]}"
        self.carried_out = False

    def messages(self) -> Iterator[ChannelOrder]:
        self._check_damage()
        if not self._rows[0][1]["receipt"]:
            raise Unfit("no-receipt", "the receipt's number is empty. Send it with each row")
        sales, voids, whole = self._by_kind()
        if not (self._shared("ship_name") or self._shared("ship_country") or self._shared("ship_street1")):
            self.carried_out = True
            return
        if sales:
            if kept := self._less(sales, voids):
                yield self._placed(kept)
            else:
                self._found.note("all-voided", self.where, "every line was voided before it was paid: no order")
        elif voids and whole is None:
            yield from self._voids_later(voids)
        if whole is not None:
            yield self._canceled(self._instant(whole[1]["sold_at"]), "void-receipt", ())

    def _voids_later(self, voids: list[tuple[int, Row]]) -> Iterator[OrderCanceled]:
        """Known by line and time: a line can be voided twice, and a later file may hold the first void again."""
        units: Counter[tuple[datetime, str]] = Counter()
        for at, row in voids:
            units[self._instant(row["sold_at"]), self._line_id(at, row)] += self._voided(at, row)
        for (voided_at, line_id), count in units.items():
            line = LineChange(line_id=line_id, quantity=count)
            yield self._canceled(voided_at, f"void-{voided_at:%Y%m%dT%H%M%S.%fZ}-{line_id}", (line,))

    def _by_kind(self) -> tuple[list[tuple[int, Row]], list[tuple[int, Row]], tuple[int, Row] | None]:
        """Sales, voided lines, and the row that voids the receipt; returns are noted."""
        kinds: dict[str, list[tuple[int, Row]]] = {kind: [] for kind in _KINDS}
        for at, row in self._rows:
            kind = (row.get("kind") or "sale").lower()
            if kind not in _KINDS:
                raise Unfit("unknown-kind", f"kind {kind[:20]!r}. Taken are {', '.join(sorted(_KINDS))}", f"row {at}")
            if row["qty"].startswith("-") and kind == "sale":
                raise Unfit(
                    "negative-quantity", f"{row['qty'][:12]!r} units sold. Mark it as void or return", f"row {at}"
                )
            kinds[kind].append((at, row))
        for at, row in kinds["return"]:
            self._found.note(
                "return", f"row {at}", f"{row['qty'][:12]} of {row['sku'][:64]} came back: the returns' affair"
            )
        return kinds["sale"], kinds["void"], kinds["void-receipt"][0] if kinds["void-receipt"] else None

    def _less(self, sales: list[tuple[int, Row]], voids: list[tuple[int, Row]]) -> list[tuple[int, Row, str, int]]:
        """The sold rows with their line ids and the units that voids leave of them; none without any left."""
        lines: dict[str, tuple[int, Row]] = {}
        voided: Counter[str] = Counter()
        for number, (at, row) in enumerate(sales, 1):
            line_id = self._line_id(at, row) if row.get("line") else str(number)
            if line_id in lines:
                raise Unfit("line-twice", f"line {line_id} stands twice. Number each line by itself", f"row {at}")
            lines[line_id] = (at, row)
        for at, row in voids:
            line_id = self._line_id(at, row)
            voided[line_id] += self._voided(at, row)
            sold = _units(*lines[line_id]) if line_id in lines else 0
            if voided[line_id] > sold:
                text = f"voids {voided[line_id]} units of line {line_id}, and {sold} were sold. Correct the line or qty"
                raise Unfit("void-of-nothing", text, f"row {at}")
        left = ((at, row, line_id, _units(at, row) - voided[line_id]) for line_id, (at, row) in lines.items())
        return [kept for kept in left if kept[3] or kept[2] not in voided]

    def _voided(self, at: int, row: Row) -> int:
        units = _units(at, row)
        if units == 0:
            raise Unfit("bad-quantity", "a void of 0 units. Send how many are taken back", f"row {at}")
        return units

    def _line_id(self, at: int, row: Row) -> str:
        return line_id_of(row.get("line", ""), f"row {at}, line")

    def _check_damage(self) -> None:
        for at, row in self._rows:
            where = f"row {at}"
            if _BROKEN in row:
                raise Unfit("broken-row", f"{row[_BROKEN]}. The receipt may not be whole: send it again", where)
            for column, cell in row.items():
                if cell.startswith("#") and _ERROR.fullmatch(cell):
                    raise Unfit(
                        "spreadsheet-error", f"{column} is {cell[:12]}, a spreadsheet's error. {_BEFORE_DAMAGE}", where
                    )
            for column in ("receipt", "sku", "line", "tender_ref", "customer", "ship_postal", "ship_phone"):
                if _SCIENTIFIC.fullmatch(row.get(column, "")):
                    text = f"{column} {row[column][:24]!r} was a long number: a spreadsheet cut its digits off"
                    raise Unfit("scientific-number", f"{text}. {_BEFORE_DAMAGE}", where)
            if _SERIAL_DATE.fullmatch(row.get("sold_at", "")):
                text = f"sold_at {row['sold_at'][:16]} is a spreadsheet's count of days. {_BEFORE_DAMAGE}"
                raise Unfit("serial-date", text, where)
            if row.get("ship_country", "").upper() in ("US", "PR") and re.fullmatch(
                "[0-9]{3,4}", row.get("ship_postal", "")
            ):
                text = f"ship_postal has {len(row['ship_postal'])} digits: a spreadsheet took its leading zeros"
                raise Unfit("stripped-zeros", f"{text}. {_BEFORE_DAMAGE}", where)
            if _AS_DATE.fullmatch(row.get("sku", "")):
                self._found.note(
                    "sku-as-date", where, f"the SKU {row['sku']} looks as if a spreadsheet made a date of it"
                )

    def _placed(self, rows: list[tuple[int, Row, str, int]]) -> OrderPlaced:
        currency = self._shared("currency") or self._context.currency
        lines = tuple(_first(left, self._line(at, row, line_id, currency)) for at, row, line_id, left in rows)
        first = self._rows[0][0]
        shipping = self._money(first, "shipping", self._shared("shipping"), currency)
        shipping_tax = self._money(first, "shipping_tax", self._shared("shipping_tax"), currency)
        included = self._flag("tax_included")
        shipping = shipping - shipping_tax if included else shipping
        stated = self._shared("total")
        goods = [line.unit_price * line.quantity - line.discount for line in lines]
        taxes = [shipping_tax] if included else [*(line.tax for line in lines), shipping_tax]
        placed = OrderPlaced(
            channel=self._context.channel,
            external_id=self.external_id,
            placed_at=self._sold_at(),
            customer=self._customer(),
            ship_to=self._ship_to(),
            lines=lines,
            shipping=shipping,
            shipping_tax=shipping_tax,
            tax_included=included,
            total=self._money(first, "total", stated, currency)
            if stated
            else Money.sum([*goods, *taxes, shipping], currency),
            payment=self._payment(),
            service_level=self._one_of("service", ServiceLevel),
            allow_backorder=self._flag("backorder"),
            risk=self._risk(),
        )
        if self._context.honors_extension and (lost := "".join(row.get("x_ordermill", "") for _, row in self._rows)):
            placed = restore(placed, lost)
        note_wrong_total(self._found, placed, self.where)
        return placed

    def _canceled(self, at: datetime, name: str, lines: tuple[LineChange, ...]) -> OrderCanceled:
        return OrderCanceled(
            channel=self._context.channel,
            external_id=self.external_id,
            cancellation_id=name[:120],
            canceled_at=at,
            lines=lines,
            reason="voided at the till",
        )

    def _line(self, at: int, row: Row, line_id: str, currency: str) -> ChannelLine:
        where = f"row {at}"
        if not row["sku"]:
            raise Unfit("no-sku", "the SKU is empty. Send it with each row", where)
        if not row["unit_price"]:
            raise Unfit("no-price", "unit_price is empty; a gift costs 0. Send a price", where)
        weight = row.get("weight_g", "")
        return ChannelLine(
            line_id=line_id,
            sku=sku_of(row["sku"], where),
            title=clean(row.get("title")),
            quantity=_units(at, row),
            unit_price=self._money(at, "unit_price", row["unit_price"], currency),
            discount=self._money(at, "discount", row.get("discount", ""), currency),
            tax=self._money(at, "tax", row.get("tax", ""), currency),
            weight_g=_whole(weight, where, "weight_g") if weight else None,
            final_sale=_yes(row.get("final_sale", ""), where, "final_sale"),
        )

    def _money(self, at: int, column: str, text: str, currency: str) -> Money:
        if _THOUSANDS.fullmatch(text) and MINOR_DIGITS.get(currency, 2) != 3:
            why = f"{column} {text!r} may be thousands or three decimals"
            raise Unfit("ambiguous-amount", f"{why}. Write it without separators of thousands", f"row {at}")
        plain = text.replace(",", ".") if self._comma and text.count(",") == 1 and "." not in text else text
        try:
            return money_of(plain or "0", currency)
        except Unfit as unfit:
            raise Unfit(unfit.reason.code, f"{column}: {unfit.reason.text}", f"row {at}") from None

    def _shared(self, column: str) -> str:
        """The receipt's value of a column: the same on every row, or empty."""
        values = {row[column]: at for at, row in reversed(self._rows) if row.get(column)}
        if len(values) > 1:
            rows = ", ".join(str(at) for at in sorted(values.values()))
            raise Unfit("rows-differ", f"{column} differs within one receipt. Make it the same", f"rows {rows}")
        return next(iter(values), "")

    def _sold_at(self) -> datetime:
        """The first of the rows' times: tills write the time of each line."""
        times = [row["sold_at"] for _, row in self._rows if row["sold_at"]]
        return min(map(self._instant, times or [""]))

    def _instant(self, text: str) -> datetime:
        return instant_of(text, "sold_at", self._context.zones.get(self._store, self._context.zone))

    def _flag(self, column: str) -> bool:
        return _yes(self._shared(column), f"row {self._rows[0][0]}", column)

    def _one_of(self, column: str, level: type[ServiceLevel]) -> ServiceLevel:
        text = self._shared(column).lower() or ServiceLevel.STANDARD.value
        if text not in {one.value for one in level}:
            raise Unfit("unknown-service", f"service {text[:20]!r}. Taken are standard and expedited")
        return level(text)

    def _risk(self) -> Literal["low", "medium", "high"]:
        text = self._shared("risk").lower()
        if text in ("", "low"):
            return "low"
        if text == "medium":
            return "medium"
        if text == "high":
            return "high"
        raise Unfit("unknown-risk", f"risk {text[:20]!r}. Taken are low, medium and high")

    def _payment(self) -> Payment:
        tender = self._shared("tender").lower()
        if tender not in _TENDERS:
            raise Unfit("unknown-tender", f"tender {tender[:20]!r}. Taken are {', '.join(_TENDERS)}")
        return Payment(status=_TENDERS[tender], reference=self._shared("tender_ref") or None)

    def _customer(self) -> Customer | None:
        external_id, email = self._shared("customer"), clean(self._shared("customer_email"))
        return Customer(external_id=external_id, email=email) if external_id or email else None

    def _ship_to(self) -> Address:
        country = self._shared("ship_country").upper()
        if not re.fullmatch("[A-Z]{2}", country):
            raise Unfit("no-country", f"expected a ship_country of two letters and found {country[:8]!r}. Send it")
        street = (clean(self._shared(f"ship_street{number}")) for number in range(1, 5))
        return Address(
            person=Person(
                name=clean(self._shared("ship_name")),
                company=clean(self._shared("ship_company")),
                street=tuple(line for line in street if line),
                city=clean(self._shared("ship_city")),
                phone=clean(self._shared("ship_phone")),
                email=clean(self._shared("ship_email")),
            ),
            country=country,
            region=clean(self._shared("ship_region"), 40),
            postal_code=clean(self._shared("ship_postal"), 16),
        )


def _first(units: int, line: ChannelLine) -> ChannelLine:
    """What is left of the line if that many of its units are."""
    if units == line.quantity:
        return line
    shares = {name: first_units(getattr(line, name), units, line.quantity) for name in ("discount", "tax")}
    return line.model_copy(update={"quantity": units, **shares})


def _units(at: int, row: Row) -> int:
    return _whole(row["qty"].removeprefix("-"), f"row {at}", "qty")


def _whole(text: str, where: str, column: str) -> int:
    if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        return int(text)
    raise Unfit("bad-quantity", f"expected whole numbers as {column} and found {text[:20]!r}. Correct it", where)


def _yes(text: str, where: str, column: str) -> bool:
    if text.lower() in ("", "no", "false", "0"):
        return False
    if text.lower() in ("yes", "true", "1"):
        return True
    raise Unfit("not-yes-or-no", f"{column} is {text[:12]!r}. Send yes or no", where)


def _write(order: OrderPlaced, lost: str) -> bytes:
    """The receipt with its common cells on the first row."""
    person, customer = order.ship_to.person, order.customer or Customer()
    parts = order.external_id.split("/")
    if len(parts) != 3 or not all(map(_PLAIN.fullmatch, parts)):
        parts = [
            "",
            "",
            order.external_id if _PLAIN.fullmatch(order.external_id) else derived_id("pos", order.external_id),
        ]
    street = dict(zip((f"ship_street{number}" for number in range(1, 5)), person.street, strict=False))
    postal = order.ship_to.postal_code
    common: Row = {
        "tax_included": "yes" if order.tax_included else "no",
        "currency": order.total.currency,
        "shipping": decimal_of(order.shipping + order.shipping_tax if order.tax_included else order.shipping),
        "shipping_tax": decimal_of(order.shipping_tax),
        "total": decimal_of(order.total),
        "tender": _TENDER_OF[order.payment.status],
        "tender_ref": order.payment.reference or "",
        "ship_name": person.name,
        "ship_company": person.company,
        **street,
        "ship_city": person.city,
        "ship_region": order.ship_to.region,
        "ship_postal": "" if re.fullmatch("[0-9]{3,4}", postal) else postal,
        "ship_country": order.ship_to.country,
        "ship_phone": person.phone,
        "ship_email": person.email,
        "customer": customer.external_id,
        "customer_email": customer.email,
        "service": order.service_level.value,
        "backorder": "yes" if order.allow_backorder else "no",
        "risk": order.risk,
    }
    out = io.StringIO(newline="")
    table = csv.DictWriter(out, list(COLUMNS), restval="", lineterminator="\r\n")
    table.writeheader()
    piece = -(-len(lost) // len(order.lines))
    for number, line in enumerate(order.lines):
        own: Row = {
            "store": parts[0],
            "register": parts[1],
            "receipt": parts[2],
            "sold_at": order.placed_at.astimezone(UTC).isoformat(),
            "kind": "sale",
            "line": line.line_id,
            "sku": line.sku,
            "title": _undamaged(line.title),
            "qty": str(line.quantity),
            "unit_price": decimal_of(line.unit_price),
            "discount": decimal_of(line.discount),
            "tax": decimal_of(line.tax),
            "weight_g": "" if line.weight_g is None else str(line.weight_g),
            "final_sale": "yes" if line.final_sale else "no",
            "x_ordermill": lost[number * piece : (number + 1) * piece],
        }
        table.writerow(own | {column: _undamaged(cell) for column, cell in common.items()})
        common = {}
    return out.getvalue().encode()


def _undamaged(cell: str) -> str:
    """Nothing where the reader would take the cell for a spreadsheet's damage; the extension has it then."""
    return "" if _SCIENTIFIC.fullmatch(cell) or _ERROR.fullmatch(cell) else cell
