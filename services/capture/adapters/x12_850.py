"""X12 purchase orders (850): wholesale, by EDI. One file may hold several interchanges, groups and orders.

Separators are read from each ISA, never assumed; segments may be indented and end in newlines as well. Which faults
cost what, as a 997 or TA1 would say it:

* The transaction is rejected, its neighbors are not: SE missing, its count or control number wrong (segments were
  lost), CTT's line count or hash total wrong, or a content that makes no order.
* Only a note: GE or IEA missing, their counts or control numbers wrong, a group that is not PO. Each order inside
  has proved itself whole by its own SE. An interchange that is there twice, byte for byte, is read once.
* The whole interchange is rejected: an ISA that can't be read, an interchange number used twice for two contents.

Meaning: BEG01 00 places an order, 01 calls it off (the PO1 lines listed, or all of it), 04 and 05 change it to the
quantities listed, each with its number (PO101). An order's id is the interchange's sender and the PO number,
`sender:number`, since two customers may count alike; releases of one blanket order have `:release` (BEG04) behind it.
The blanket order itself (BEG02 BE, BK) is rejected, as are quotes and requests for bids: nothing is shipped on them.
It goes to one address, and on credit. Allowances (SAC A) are discounts, charges (SAC C) are added to the shipping;
those of the header are shared over the lines by their price, like header taxes (TXI). What SAC12 settles elsewhere and
taxes for information (TXI07 O) are noted. Included taxes (TXI07 I) are in charges as in prices; our shipping is without
its tax. AMT*TT is the total; without it the total is the sum. DTM*004 is when it was placed, in the zone that DTM04
names, else the channel's, else UTC. A PO date alone is the start of that day in the channel's zone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from hashlib import blake2b
from zoneinfo import ZoneInfo

from ordermill.contracts.channel import (
    Address,
    ChannelLine,
    ChannelOrder,
    Customer,
    LineChange,
    OrderCanceled,
    OrderChanged,
    OrderPlaced,
    Payment,
    ServiceLevel,
)
from ordermill.contracts.fields import Money
from ordermill.contracts.personal import Person
from ordermill.ids import derived_id

from .amounts import decimal_of, money_of, share_out
from .base import (
    MEGABYTE,
    Adapted,
    AdapterContext,
    Findings,
    Unfit,
    as_test,
    check_size,
    note_wrong_total,
)
from .extension import carry, restore
from .reading import clean, instant_of, line_id_of, sku_of

Segment = list[str]
MAX_SEGMENTS = 50_000
"""Of one transaction: a thousand lines with fifty segments each."""

_SKU_QUALIFIERS = ("VP", "VN", "VA", "SK", "UP", "UK", "EN", "UI", "MG", "PN", "BP", "IN", "CB", "PI")
"""Element 235, the seller's own number first, the buyer's last."""
_NO_SKU = frozenset({"", "UNKNOWN", "NONE", "N/A", "NA", "TBD"})
_UNITS = frozenset({"EA", "UN", "PC"})
"""Element 355: each, unit, piece. Anything else is worth a note."""
_NOT_EACH = frozenset(
    {"HF", "HP", "HT", "LC", "LD", "LM", "PD", "PN", "PS", "QH", "QS", "RC", "RD", "RM"}
    | {"TC", "TD", "TF", "TM", "TP", "TT", "WC", "WD", "WM"}
    | {"ML", "PA", "PF", "PG", "PK", "PL", "PO", "PP", "PT", "PY"}
    | {"BW", "DP", "ME", "PB", "PM", "PU", "SA", "SM", "WI"}
)
"""Element 639: prices per dozen, hundred, thousand and so on; by weight, volume or length; by time."""
_SETTLED_ELSEWHERE = {
    "01": "bill back",
    "03": "the vendor's check",
    "04": "a credit to the account",
    "05": "paid by the vendor",
    "09": "issued by the vendor",
    "10": "issued by the reseller",
    "11": "denied",
    "12": "canceled",
    "15": "for information",
    "20": "into an accrual fund",
    "21": "into a flat fund",
}
"""Element 331: allowances and charges that are not on this order's bill."""
_OF_THE_ORDER = frozenset({"AMT", "CSH", "CUR", "DTM", "SAC", "TXI"})
"""Segments that are about the whole order also where they stand behind its parties."""
_FAST = frozenset({"9A", "AM", "CE", "CX", "ES", "GP", "IE", "IX", "ND", "NF", "NM", "ON", "SA", "SC", "SE", "SM"})
"""Element 284: faster than the ground."""
_NO_ORDER = {
    "BD": "a request for bids",
    "BE": "a blanket order of estimated quantities",
    "BK": "a blanket order",
    "BQ": "a budgetary quote",
    "KB": "a blanket purchase agreement",
}
"""Element 92: nothing is to be shipped on these alone."""
_ALPHA_3 = {
    **{"AUS": "AU", "AUT": "AT", "BEL": "BE", "BRA": "BR", "CAN": "CA", "CHE": "CH", "CHN": "CN", "DEU": "DE"},
    **{"DNK": "DK", "ESP": "ES", "FRA": "FR", "GBR": "GB", "IND": "IN", "IRL": "IE", "ITA": "IT", "JPN": "JP"},
    **{"MEX": "MX", "NLD": "NL", "NOR": "NO", "POL": "PL", "PRI": "PR", "SWE": "SE", "USA": "US"},
}
"""Element 26 has two letters or three."""
_BACKORDER = frozenset({"Y", "O", "BK"})
"""Element 563: back order if out of stock, in its three spellings."""
_FREIGHT = frozenset({"D240", "D500", "G821", "G830"})
_STATES = re.compile(
    "A[AEKLPRSZ]|C[AOT]|D[CE]|FL|G[AU]|HI|I[ADLN]|K[SY]|LA|M[ADEINOPST]|N[CDEHJMVY]|O[HKR]|P[AR]|RI|S[CD]|T[NX]|UT|"
    "V[AIT]|W[AIVY]"
)
"""What USPS takes as states: territories and military mail, too."""
_PROVINCES = re.compile("AB|BC|MB|N[BLSTU]|ON|PE|QC|SK|YT")
_PLACES = {
    "A": ("America/Anchorage", -9),
    "C": ("America/Chicago", -6),
    "E": ("America/New_York", -5),
    "H": ("Pacific/Honolulu", -10),
    "M": ("America/Denver", -7),
    "N": ("America/St_Johns", -3.5),
    "P": ("America/Los_Angeles", -8),
    "T": ("America/Halifax", -4),
}
_ZONES: dict[str, tzinfo] = {
    **dict.fromkeys(("UT", "GM", "Z"), UTC),
    **{f"{place}T": ZoneInfo(name) for place, (name, _) in _PLACES.items()},
    **{f"{place}S": timezone(timedelta(hours=hours)) for place, (_, hours) in _PLACES.items()},
    **{f"{place}D": timezone(timedelta(hours=hours + 1)) for place, (_, hours) in _PLACES.items()},
    **{f"{hours:02}": timezone(timedelta(hours=hours if hours <= 12 else hours - 25)) for hours in range(1, 25)},
}
"""Element 623: a place's time, its standard or its daylight time; 01 to 12 are hours ahead of UTC, 13 to 24 behind."""
_TAG = "ORDERMILL"
_SHIPPING = "SHIPPING"
_ISA = re.compile(r"ISA[^A-Za-z0-9\s]")
_ISA_MAX = 140
"""Characters that an ISA and what follows it may take; 106 by the standard, more where blanks were re-encoded."""
_DECIMAL = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)", re.ASCII)


@dataclass(slots=True)
class Transaction:
    """One ST to SE, with what its envelopes say about it."""

    sender: str
    group_at: datetime | None
    group_control: str
    number: str
    segments: list[Segment]


class X12Adapter:
    """Wholesale purchase orders, X12 850 of any release."""

    name = "x12-850"
    media_type = "application/edi-x12"
    extension = "edi"
    max_bytes = 16 * MEGABYTE

    def adapt(self, payload: bytes, context: AdapterContext) -> Adapted:
        found = Findings(self.name)
        with found.payload():
            check_size(payload, self.max_bytes)
            seen: dict[tuple[str, str], str] = {}
            for number, text in enumerate(_interchanges(_text(payload, found)), 1):
                where = f"interchange {number}"
                with found.item(where):
                    isa, segments = _segments(text)
                    where = f"interchange {isa[13].strip() or number}"
                    if (before := seen.setdefault((isa[6].strip(), isa[13].strip()), text)) is not text:
                        if before.split() == text.split():
                            found.note("sent-twice", where, "the same interchange stands in this file twice: read once")
                            continue
                        raise Unfit(
                            "control-number-reused", "its ISA13 was used before for other content. Send it anew"
                        )
                    for transaction in _transactions(isa, segments, where, found):
                        inner = f"{where}, transaction {transaction.number}"
                        with found.item(inner) as messages:
                            _check_whole(transaction)
                            test = isa[15].strip() == "T"
                            for told in _messages(transaction, context, found, inner):
                                if test and isinstance(told, OrderPlaced):
                                    messages.append(as_test(told, found, inner, "ISA15 T"))
                                else:
                                    messages.append(told)
            if not (found.messages or found.rejections or found.notes):
                raise Unfit("empty", "the interchange holds no transaction. Send it with its orders")
        return found.result()

    def render(self, order: OrderPlaced) -> bytes:
        context = AdapterContext(order.channel, order.placed_at, zone=UTC)
        return carry(self, order, lambda lost: _write(order, lost), context)


def _text(payload: bytes, found: Findings) -> str:
    """UTF-8 or, as older systems send it, Latin-1."""
    try:
        return payload.decode("utf-8-sig")
    except UnicodeDecodeError:
        found.note("latin-1", "payload", "not UTF-8, so read as Latin-1")
        return payload.decode("latin-1")


def _interchanges(text: str) -> Iterator[str]:
    """The text of each interchange: from its ISA up to the next ISA that begins a segment."""
    text = text.lstrip()
    if not _ISA.match(text):
        raise Unfit("no-isa", f"expected ISA at the beginning and found {text[:12]!r}. Send whole interchanges")
    start = 0
    while start < len(text):
        try:
            terminator = re.escape(_separators(text[start : start + _ISA_MAX])[2])
        except Unfit:
            terminator = r"[^A-Za-z0-9]"
        following = re.compile(terminator + r"\s*(?=ISA[^A-Za-z0-9\s])").search(text, start + 3)
        end = following.end() if following else len(text)
        yield text[start:end]
        start = end


def _separators(text: str) -> tuple[str, str, str]:
    """The separators of elements and of components, and what ends a segment, as the ISA at the head of `text` has them.

    The fourth character separates elements, ISA16 is the component separator, and what follows it ends a segment:
    a character, or a newline in either spelling.
    """
    element = text[3]
    head = text[:_ISA_MAX].split(element, 16)
    if len(head) < 17 or len(head[16]) < 2:
        raise Unfit("bad-isa", "expected sixteen elements in the ISA. Send the interchange header whole")
    component, terminator = head[16][0], head[16][1]
    if terminator in "\r\n":
        terminator = "\n"
    if len({element, component, terminator}) < 3 or any(one.isalnum() for one in (element, component, terminator)):
        raise Unfit(
            "bad-isa", f"separators {element!r}, {component!r}, {terminator!r} can't be told apart. Correct the ISA"
        )
    return element, component, terminator


def _segments(text: str) -> tuple[Segment, Iterator[Segment]]:
    """The ISA of one interchange and, one by one, the segments after it."""
    element, component, terminator = _separators(text)
    if terminator == "\n":
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    isa = text.split(element, 16)
    bodies = (match[0].strip() for match in re.finditer(f"[^{re.escape(terminator)}]+", isa[16][2:]))
    return [*isa[:16], component], (body.split(element) for body in bodies if body)


def _transactions(isa: Segment, segments: Iterator[Segment], where: str, found: Findings) -> Iterator[Transaction]:
    """Each whole transaction. Faults of envelopes become notes, of transactions rejections."""
    groups = in_group = orphans = 0
    group: Segment | None = None
    current: Transaction | None = None
    closed = False
    for segment in segments:
        tag = segment[0]
        if current is not None and tag in ("ST", "GE", "GS", "IEA"):
            text = f"expected SE and found {tag}: it is cut off. Send it whole"
            found.reject("no-se", f"{where}, transaction {current.number}", text)
            current = None
        if tag == "GS":
            group, in_group, groups = segment, 0, groups + 1
            if _at(segment, 1) != "PO":
                text = f"GS01 is {_at(segment, 1)[:4]!r}, and purchase orders come in PO groups: read all the same"
                found.note("other-group", f"{where}, group {_at(segment, 6)}", text)
        elif tag == "ST":
            in_group += 1
            sender, number = isa[6].strip() or _at(group, 2), _at(segment, 2) or str(in_group)
            current = Transaction(sender, _group_at(group), _at(group, 6), number, [segment])
        elif tag == "SE" and current is not None:
            current.segments.append(segment)
            yield current
            current = None
        elif tag == "GE":
            if group is not None:
                _compare(
                    found,
                    f"{where}, group {_at(group, 6)}",
                    "GE",
                    (_at(segment, 1), in_group),
                    (_at(segment, 2), _at(group, 6)),
                )
            group = None
        elif tag == "IEA":
            _compare(found, where, "IEA", (_at(segment, 1), groups), (_at(segment, 2), isa[13].strip()))
            closed = True
        elif current is not None:
            current.segments.append(segment)
            if len(current.segments) > MAX_SEGMENTS:
                text = f"more than {MAX_SEGMENTS:,} segments. Send several orders"
                found.reject("too-long", f"{where}, transaction {current.number}", text)
                current = None
        else:
            orphans += 1
            if orphans == 1:
                text = f"{tag[:12]!r} stands outside of any transaction: its ST is missing or broken. Send it whole"
                found.reject("no-st", where, text)
    if current is not None:
        found.reject(
            "no-se", f"{where}, transaction {current.number}", "it ends without SE: it is cut off. Send it whole"
        )
    if not closed:
        found.note("no-iea", where, "it ends without IEA: more may have followed. Whole transactions were read")


def _compare(found: Findings, where: str, tag: str, count: tuple[str, int], control: tuple[str, str]) -> None:
    if (count[0].lstrip("0") or "0") != str(count[1]):
        found.note(
            "wrong-count",
            where,
            f"{tag}01 says {count[0][:10]!r} and {count[1]} are there. Was one lost? Ask the sender",
        )
    if control[0].lstrip("0") != control[1].lstrip("0"):
        found.note("control-differs", where, f"{tag}02 says {control[0][:14]!r} and the header {control[1][:14]!r}")


def _check_whole(transaction: Transaction) -> None:
    """Raises Unfit unless it is an 850 whose SE says the count and number that are there."""
    kind = _at(transaction.segments[0], 1)
    if kind != "850":
        advice = "Send purchase orders here, changes as 850 with BEG01 04"
        raise Unfit("other-transaction", f"expected an 850 and found {kind[:6]!r}. {advice}")
    trailer, count = transaction.segments[-1], len(transaction.segments)
    if _at(trailer, 1).lstrip("0") != str(count):
        raise Unfit(
            "wrong-segment-count", f"SE01 says {_at(trailer, 1)[:10]!r} and {count} segments are there. Send it whole"
        )
    if _at(trailer, 2) != _at(transaction.segments[0], 2):
        raise Unfit(
            "control-differs",
            f"SE02 is {_at(trailer, 2)[:10]!r} and ST02 {_at(transaction.segments[0], 2)[:10]!r}. Send it whole",
        )


def _at(segment: Segment | None, index: int) -> str:
    return segment[index].strip() if segment is not None and index < len(segment) else ""


def _group_at(group: Segment | None) -> datetime | None:
    try:
        return _moment(_at(group, 4), _at(group, 5) or "0000")
    except Unfit:
        return None


def _moment(date: str, time: str) -> datetime:
    """CCYYMMDD (or YYMMDD) and HHMM, HHMMSS, HHMMSSD or HHMMSSDD, without a zone."""
    if re.fullmatch(r"[0-9]{6}", date, re.ASCII):
        date = ("20" if date < "7" else "19") + date
    if not re.fullmatch(r"[0-9]{8}", date, re.ASCII) or not re.fullmatch(r"[0-9]{4}(?:[0-9]{2,4})?", time, re.ASCII):
        raise Unfit("bad-date", f"expected CCYYMMDD and HHMM and found {date[:12]!r} {time[:12]!r}. Correct the date")
    try:
        moment = datetime.strptime(date + time[:4] + (time[4:6] or "00"), "%Y%m%d%H%M%S")
    except ValueError:
        raise Unfit("bad-date", f"{date} {time} is no day of the calendar. Correct the date") from None
    return moment + timedelta(microseconds=int(time[6:].ljust(6, "0")))


def _messages(transaction: Transaction, context: AdapterContext, found: Findings, where: str) -> Iterator[ChannelOrder]:
    order = _Order(transaction, context, found, where)
    if order.purpose in ("00", "01", "04", "05") and (what := _NO_ORDER.get(order.kind)):
        text = f"BEG02 is {order.kind}: {what}, on which nothing is shipped. Send orders (SA, NE) and releases (RL)"
        raise Unfit("no-order", text)
    match order.purpose:
        case "00":
            yield order.placed()
        case "01":
            yield order.canceled()
        case "04" | "05":
            yield from order.changed()
        case "06" | "07" | "22":
            text = f"BEG01 {order.purpose}: a confirmation or copy of {order.external_id}, nothing to do"
            found.note("copy", where, text)
        case _:
            raise Unfit(
                "other-purpose",
                f"BEG01 is {order.purpose[:6]!r}. Taken are 00 original, 01 cancellation, 04 change, 05 replace",
            )


class _Order:
    """One 850, its segments sorted into header, parties, lines and summary."""

    def __init__(self, transaction: Transaction, context: AdapterContext, found: Findings, where: str) -> None:
        self._transaction, self._context, self._found, self._where = transaction, context, found, where
        self._header: list[Segment] = []
        self._parties: dict[str, list[Segment]] = {}
        self._line_loops: list[list[Segment]] = []
        summary: list[Segment] = []
        into = self._header
        for segment in transaction.segments[1:-1]:
            if segment[0] == "PO1":
                into = [segment]
                self._line_loops.append(into)
            elif segment[0] == "N1" and not self._line_loops:
                into = [segment]
                self._parties.setdefault(_at(segment, 1), into)
            elif segment[0] == "CTT":
                into = summary
                into.append(segment)
            elif segment[0] in _OF_THE_ORDER and not self._line_loops:
                self._header.append(segment)
            else:
                into.append(segment)
        self._summary = summary
        beg = self._only(self._header, "BEG")
        if beg is None or not _at(beg, 3):
            raise Unfit("no-beg", "expected BEG with a purchase order number in BEG03. Send it with its number")
        if not transaction.sender:
            raise Unfit("no-sender", "ISA06 and GS02 are empty: whose order is it? Send the sender's id")
        self._beg = beg
        self.purpose, self.kind = _at(beg, 1), _at(beg, 2)
        self.external_id = ":".join(part for part in (transaction.sender, _at(beg, 3), _at(beg, 4)) if part)
        self._currency = self._currency_code()
        self._check_totals()

    def placed(self) -> OrderPlaced:
        self._check_one_address()
        lines, shipping, shipping_tax, included = self._priced()
        cash = self._only(self._header, "CSH")
        carrier = self._only(self._header, "TD5")
        placed = OrderPlaced(
            channel=self._context.channel,
            external_id=self.external_id,
            placed_at=self._placed_at(),
            customer=self._customer(),
            ship_to=self._ship_to(),
            lines=tuple(lines),
            shipping=shipping,
            shipping_tax=shipping_tax,
            tax_included=included,
            total=self._total(lines, shipping, shipping_tax, included),
            payment=Payment(status="invoice"),
            service_level=ServiceLevel.EXPEDITED if _at(carrier, 12) in _FAST else ServiceLevel.STANDARD,
            allow_backorder=_at(cash, 1) in _BACKORDER,
        )
        if self._context.honors_extension and (lost := self._extension()):
            placed = restore(placed, lost)
        note_wrong_total(self._found, placed, self._where)
        return placed

    def changed(self) -> Iterator[OrderChanged]:
        """The change in two: the units, then the address. If one comes too late, the other still counts."""
        self._check_one_address()
        if self.purpose == "05":
            self._found.note("replaced", self._where, "BEG01 05 replaces: read as a change to the quantities listed")
        changed_at = self._sent_at()
        control = self._transaction.group_control
        # GS05 counts minutes; within one, the group's number tells which change is the later.
        tie = int(control) % 500_000 * 2 if re.fullmatch(r"[0-9]{1,9}", control, re.ASCII) else 0
        change = OrderChanged(
            channel=self._context.channel,
            external_id=self.external_id,
            revision=int(changed_at.timestamp()) * 1_000_000 + tie,
            changed_at=changed_at,
            lines=self._changes(),
        )
        if change.lines:
            yield change
        if "ST" in self._parties:
            moved = {"lines": (), "customer": self._customer(), "ship_to": self._ship_to()}
            yield change.model_copy(update={"revision": change.revision + 1, **moved})
        elif not change.lines:
            raise Unfit(
                "no-lines", "a change without PO1 lines and without a ship-to changes nothing. Send what changes"
            )

    def canceled(self) -> OrderCanceled:
        return OrderCanceled(
            channel=self._context.channel,
            external_id=self.external_id,
            cancellation_id=self._cancellation_id(),
            canceled_at=self._sent_at(),
            lines=self._changes(),
            reason="canceled by 850, BEG01 01",
        )

    def _cancellation_id(self) -> str:
        """By its numbers and by what it says and when, for there are senders whose numbers are always the same."""
        sent = self._transaction
        said = repr((sent.group_at, sent.segments))
        content = blake2b(said.encode(errors="surrogatepass"), digest_size=8).hexdigest()
        return f"850-{sent.group_control[:40]}-{sent.number[:40]}-{content}"

    def _changes(self) -> tuple[LineChange, ...]:
        ids = self._line_ids()
        return tuple(
            LineChange(line_id=line_id, quantity=_whole(_at(loop[0], 2), f"line {line_id}"))
            for line_id, loop in zip(ids, self._line_loops, strict=True)
        )

    def _only(self, segments: list[Segment], tag: str) -> Segment | None:
        return next((segment for segment in segments if segment[0] == tag), None)

    def _currency_code(self) -> str:
        named = {_at(one, 2) for loop in (self._header, *self._line_loops) for one in loop if one[0] == "CUR"}
        if len(named) > 1:
            raise Unfit("several-currencies", f"{', '.join(sorted(named))[:60]} in one order. Send one order for each")
        currency = named.pop() if named else self._context.currency
        if not re.fullmatch("[A-Z]{3}", currency):
            raise Unfit(
                "bad-currency", f"expected a currency such as USD in CUR02 and found {currency[:8]!r}. Correct it"
            )
        return currency

    def _check_totals(self) -> None:
        ctt = self._only(self._summary, "CTT")
        if ctt is None:
            return
        count = len(self._line_loops)
        if _at(ctt, 1).lstrip("0") != (str(count) if count else ""):
            raise Unfit(
                "wrong-line-count", f"CTT01 says {_at(ctt, 1)[:10]!r} and {count} PO1 lines are there. Send it whole"
            )
        stated, quantities = _at(ctt, 2), [_at(loop[0], 2) for loop in self._line_loops]
        if _DECIMAL.fullmatch(stated) and all(_DECIMAL.fullmatch(one) for one in quantities):
            total = sum(map(Decimal, quantities))
            if Decimal(stated) not in (0, total):
                raise Unfit(
                    "wrong-hash-total", f"CTT02 says {stated[:20]} and the quantities add up to {total}. Send it whole"
                )

    def _placed_at(self) -> datetime:
        zone = self._context.zone or UTC
        for segment in self._header:
            if segment[0] == "DTM" and _at(segment, 1) == "004" and _at(segment, 3):
                code = _at(segment, 4)
                if code not in ("", "LT", *_ZONES):
                    text = f"DTM04 {code[:4]!r} is no zone that is known here: the channel's is taken"
                    self._found.note("other-zone", self._where, text)
                moment = _moment(_at(segment, 2), _at(segment, 3)).isoformat()
                return instant_of(moment, "DTM*004", _ZONES.get(code, zone))
        return instant_of(_moment(_at(self._beg, 5), "0000").isoformat(), "BEG05", zone)

    def _sent_at(self) -> datetime:
        """When the change was sent, by its group; GS05 has no zone."""
        at = self._transaction.group_at
        return (
            self._context.received_at if at is None else instant_of(at.isoformat(), "GS04", self._context.zone or UTC)
        )

    def _customer(self) -> Customer:
        buyer = self._parties.get("BY", [])
        number = _at(buyer[0], 4) if buyer else ""
        return Customer(external_id=clean(number or self._transaction.sender, 120), email=_contact(buyer, "EM"))

    def _ship_to(self) -> Address:
        party = self._parties.get("ST")
        if party is None:
            party = self._parties.get("BY", [])
            if not self._only(party, "N4"):
                raise Unfit("no-address", "no N1*ST ship-to, and no address of the buyer. Send N1*ST with N3 and N4")
            self._found.note("to-buyer", self._where, "no N1*ST ship-to: it goes to the buying party, N1*BY")
        place = self._only(party, "N4")
        if place is None:
            code = _at(party[0], 4)[:40]
            raise Unfit("no-address", f"N1*ST names its address only by the code {code!r}. Send N3 and N4 with it")
        region, told = _at(place, 2), _at(place, 4).upper()
        country = _ALPHA_3.get(told, told)
        country = country or ("US" if _STATES.fullmatch(region) else "CA" if _PROVINCES.fullmatch(region) else "")
        if not re.fullmatch("[A-Z]{2}", country):
            raise Unfit("no-country", f"expected a country of two letters in N404 and found {country[:8]!r}. Send it")
        names = [text for segment in party if segment[0] == "N2" for text in segment[1:3]]
        street = [text for segment in party if segment[0] == "N3" for text in segment[1:3] if text.strip()]
        if len(street) > 4:
            raise Unfit("long-address", f"{len(street)} address lines in N3, and a label has four. Shorten the address")
        return Address(
            person=Person(
                name=clean(_at(party[0], 2)),
                company=clean(names[0]) if names else "",
                street=tuple(clean(line) for line in street),
                city=clean(_at(place, 1)),
                phone=_contact(party, "TE"),
                email=_contact(party, "EM"),
            ),
            country=country,
            region=clean(region, 40),
            postal_code=clean(_at(place, 3), 16),
        )

    def _check_one_address(self) -> None:
        """Raises Unfit where goods go elsewhere than to the first ship-to of the header."""
        advice = "an order goes to one address. Send one for each address"
        first = self._parties.get("ST", [["N1"]])
        for where, ship_to in _ship_tos(self._transaction.segments):
            if not _same_place(first, ship_to):
                raise Unfit("several-addresses", f"N1*ST is not the header's: {advice}", where)
        for number, loop in enumerate(self._line_loops, 1):
            stores = {store for segment in loop if segment[0] == "SDQ" for store in map(str.strip, segment[3::2])}
            if stores - {"", _at(first[0], 4)}:
                raise Unfit("several-addresses", f"SDQ sends units to other stores: {advice}", f"PO1 number {number}")

    def _line_ids(self) -> list[str]:
        if not self._line_loops:
            if self.purpose == "00":
                raise Unfit("no-lines", "expected PO1 lines and found none. Send what is ordered")
            return []
        ids: dict[str, None] = {}
        for number, loop in enumerate(self._line_loops, 1):
            line_id = _at(loop[0], 1) or (str(number) if self.purpose == "00" else "")
            if not line_id:
                text = "PO101 is empty: which line of the order is meant? Send its number with each line to change"
                raise Unfit("no-line-number", text, f"PO1 number {number}")
            line_id_of(line_id, f"PO1 number {number}")
            if line_id in ids:
                raise Unfit(
                    "line-twice", f"PO101 {line_id!r} stands twice. Number each line by itself", f"PO1 number {number}"
                )
            ids[line_id] = None
        return list(ids)

    def _priced(self) -> tuple[list[ChannelLine], Money, Money, bool]:
        """Lines with shares of the header's allowances and taxes; shipping, its tax; whether taxes are included."""
        zero = Money.zero(self._currency)
        shipping = shipping_tax = off = tax = zero
        relations: set[str] = set()
        for segment in [*self._header, *self._summary]:
            if segment[0] == "SAC":
                allowed, charged = self._allowance(segment, self._where)
                off, shipping = off + allowed, shipping + charged
            elif self._counts(segment, self._where):
                relations.add(_at(segment, 7))
                if _at(segment, 10) == _SHIPPING:
                    shipping_tax = shipping_tax + self._tax(segment)
                else:
                    tax = tax + self._tax(segment)
        lines = []
        for line_id, loop in zip(self._line_ids(), self._line_loops, strict=True):
            line, charged = self._line(line_id, loop, relations)
            shipping = shipping + charged
            lines.append(line)
        weights = [max(line.unit_price.minor, 0) * line.quantity for line in lines]
        shares = zip(lines, share_out(off, weights), share_out(tax, weights), strict=True)
        shared = [
            line.model_copy(update={"discount": line.discount + less, "tax": line.tax + more})
            for line, less, more in shares
        ]
        if "I" in relations and relations != {"I"}:
            raise Unfit(
                "mixed-taxes", "some taxes are included in the prices (TXI07 I) and some are not. Send one kind"
            )
        included = relations == {"I"}
        return shared, shipping - shipping_tax if included else shipping, shipping_tax, included

    def _allowance(self, segment: Segment, where: str) -> tuple[Money, Money]:
        """What a SAC takes off and what it adds. SAC05 has two implied decimals (N2), whatever the currency."""
        kind, code, amount = _at(segment, 1), _at(segment, 2), _at(segment, 5)
        zero = Money.zero(self._currency)
        if kind not in ("A", "C"):
            self._found.note(
                "no-allowance", where, f"SAC01 {kind[:4]!r} ({code[:8]}) is no allowance or charge of this order"
            )
            return zero, zero
        if handling := _SETTLED_ELSEWHERE.get(_at(segment, 12)):
            text = f"SAC {code[:8]} is {handling} (SAC12 {_at(segment, 12)}): not taken off or added here"
            self._found.note("no-allowance", where, text)
            return zero, zero
        if not re.fullmatch(r"-?[0-9]{1,18}", amount, re.ASCII):
            raise Unfit(
                "bad-allowance",
                f"SAC {code[:8]}: expected whole cents in SAC05 and found {amount[:20]!r}. Send the amount",
            )
        sign, digits = ("-", amount[1:]) if amount.startswith("-") else ("", amount)
        digits = digits.rjust(3, "0")
        money = self._money(f"{sign}{digits[:-2]}.{digits[-2:]}", f"SAC {code[:8]}")
        if kind == "A":
            return money, zero
        if code not in _FREIGHT:
            self._found.note("charge", where, f"the charge {code[:8]} of {decimal_of(money)} is added to the shipping")
        return zero, money

    def _counts(self, segment: Segment, where: str) -> bool:
        """Whether a segment is a tax of an amount that is added (TXI07 A or none) or included (I)."""
        if segment[0] != "TXI" or not _at(segment, 2):
            return False
        relation = _at(segment, 7)
        if relation == "O":
            self._found.note("no-tax", where, f"TXI {_at(segment, 1)[:8]} is for information (TXI07 O): not added")
            return False
        if relation not in ("", "A", "I"):
            raise Unfit("tax-relation", f"TXI07 is {relation[:4]!r}. Taken are A added, I included, O for information")
        return True

    def _tax(self, segment: Segment) -> Money:
        return self._money(_at(segment, 2), "TXI02")

    def _money(self, text: str, what: str) -> Money:
        """An amount of X12's type R: a point is written only where needed, also at either end."""
        try:
            return money_of(text[:-1] if len(text) > 1 and text.endswith(".") else text, self._currency)
        except Unfit as unfit:
            raise Unfit(unfit.reason.code, f"{what}: {unfit.reason.text}") from None

    def _line(self, line_id: str, loop: list[Segment], relations: set[str]) -> tuple[ChannelLine, Money]:
        where, po1 = f"line {line_id}", loop[0]
        if not _at(po1, 4):
            raise Unfit("no-price", "PO104 is empty. Send the price of one unit", where)
        if _at(po1, 5) in _NOT_EACH:
            raise Unfit(
                "price-basis", f"PO105 {_at(po1, 5)}: the price is not for one unit. Send the price of one", where
            )
        if _at(po1, 3) not in _UNITS:
            text = f"{_at(po1, 2)[:12]} {_at(po1, 3)[:4]!r} are taken as that many units of the SKU"
            self._found.note("unit", f"{self._where}, {where}", text)
        discount = tax = charges = Money.zero(self._currency)
        for segment in loop[1:]:
            if segment[0] == "SAC":
                allowed, charged = self._allowance(segment, f"{self._where}, {where}")
                discount, charges = discount + allowed, charges + charged
            elif self._counts(segment, f"{self._where}, {where}"):
                relations.add(_at(segment, 7))
                tax = tax + self._tax(segment)
        title = " ".join(_at(segment, 5) for segment in loop if segment[0] == "PID" and _at(segment, 1) == "F")
        line = ChannelLine(
            line_id=line_id,
            sku=self._sku(po1, where),
            title=clean(title),
            quantity=_whole(_at(po1, 2), where),
            unit_price=self._money(_at(po1, 4), f"{where}, PO104"),
            discount=discount,
            tax=tax,
        )
        return line, charges

    def _sku(self, po1: Segment, where: str) -> str:
        """The first number of PO1 that can be a SKU, the seller's own before the buyer's."""
        numbers = {_at(po1, index): _at(po1, index + 1) for index in range(len(po1) - len(po1) % 2 - 2, 5, -2)}
        given = [(kind, numbers[kind]) for kind in _SKU_QUALIFIERS if numbers.get(kind, "").upper() not in _NO_SKU]
        for rank, (kind, number) in enumerate(given):
            try:
                sku = sku_of(number, where)
            except Unfit:
                continue
            if rank:
                text = f"{given[0][0]} {given[0][1][:40]!r} can be no SKU: {kind} {sku!r} is taken"
                self._found.note("other-number", f"{self._where}, {where}", text)
            return sku
        qualifiers = ", ".join(f"{kind} {number[:20]!r}" for kind, number in numbers.items()) or "none"
        raise Unfit(
            "no-sku",
            f"expected our number in PO1 (VP, VN, SK, UP) and found {qualifiers}. Send a number that we know",
            where,
        )

    def _total(self, lines: list[ChannelLine], shipping: Money, shipping_tax: Money, included: bool) -> Money:
        for segment in [*self._header, *self._summary]:
            if segment[0] == "AMT" and _at(segment, 1) == "TT":
                return self._money(_at(segment, 2), "AMT*TT")
        parts = [line.unit_price * line.quantity - line.discount for line in lines] + [shipping, shipping_tax]
        if not included:
            parts += [line.tax for line in lines]
        return Money.sum(parts, self._currency)

    def _extension(self) -> str:
        """What `render` put into the MSG segments after its own N9."""
        loop: list[Segment] = [segment for segments in (self._header, *self._parties.values()) for segment in segments]
        start = next((at for at, one in enumerate(loop) if one[:3] == ["N9", "ZZ", _TAG]), len(loop))
        return "".join(one[1] for one in loop[start + 1 :] if one[0] == "MSG" and len(one) > 1)


def _ship_tos(segments: list[Segment]) -> Iterator[tuple[str, list[Segment]]]:
    """Each N1*ST with its address, and where it stands."""
    where, lines = "header", 0
    party: list[Segment] = []
    for segment in segments:
        if segment[0] in ("N1", "PO1", "CTT", "SE") and party:
            yield where, party
            party = []
        if segment[0] == "PO1":
            lines += 1
            where = f"PO1 number {lines}"
        elif segment[0] == "N1" and _at(segment, 1) == "ST":
            party = [segment]
        elif party:
            party.append(segment)


def _same_place(one: list[Segment], other: list[Segment]) -> bool:
    """By their addresses if both have one, else by their codes."""
    addresses = [
        [[text.strip().upper() for text in segment[1:]] for segment in party if segment[0] in ("N3", "N4")]
        for party in (one, other)
    ]
    if all(addresses):
        return addresses[0] == addresses[1]
    return _at(one[0], 4) == _at(other[0], 4) != ""


def _contact(party: list[Segment], kind: str) -> str:
    """The telephone (TE) or e-mail (EM) of a party's first PER that has one."""
    for segment in party:
        if segment[0] == "PER":
            for index in (3, 5, 7):
                if _at(segment, index) == kind:
                    return clean(_at(segment, index + 1))
    return ""


def _whole(text: str, where: str) -> int:
    """A quantity: `25`, `25.` and `25.00` are 25. Raises Unfit for parts of a unit."""
    if _DECIMAL.fullmatch(text):
        whole, _, part = text.partition(".")
        if not part.strip("0") and len(whole) <= 9:
            return int(whole.removeprefix("-") or "0") * (-1 if whole.startswith("-") else 1)
    raise Unfit("bad-quantity", f"expected whole units and found {text[:20]!r}. Send whole units of the SKU", where)


def _write(order: OrderPlaced, lost: str) -> bytes:
    sender, _, number = order.external_id.partition(":")
    if not re.fullmatch(r"[A-Z0-9]{2,15}", sender) or not re.fullmatch(r"[A-Za-z0-9-]{1,22}", number):
        sender, number = _TAG, derived_id("x12", order.external_id)[-12:]
    zero = Money.zero(order.total.currency)
    at = order.placed_at
    day, time = at.strftime("%Y%m%d").rjust(8, "0"), f"{at:%H%M%S}{at.microsecond // 10_000:02d}"
    person, customer = order.ship_to.person, order.customer or Customer()
    body: list[list[str]] = [
        ["BEG", "00", "SA", number, "", day],
        ["CUR", "BY", order.total.currency],
        ["CSH", "Y" if order.allow_backorder else "N"],
        *_sac("C", "D240", order.shipping + order.shipping_tax if order.tax_included else order.shipping),
        ["DTM", "004", day, time, "UT"],
        ["TD5", *[""] * 11, "CX" if order.service_level is ServiceLevel.EXPEDITED else "ST"],
    ]
    relation = "I" if order.tax_included else "A"
    if order.shipping_tax != zero:
        body.append(["TXI", "TX", decimal_of(order.shipping_tax), *[""] * 4, relation, "", "", _SHIPPING])
    if lost:
        body.append(["N9", "ZZ", _TAG])
        lost = lost.translate(_TEXT_OF_JSON)
        body += [["MSG", lost[start : start + 200]] for start in range(0, len(lost), 200)]
    body += [["N1", "ST", person.name[:60]], ["N2", person.company[:60]] if person.company else []]
    street = [line[:55] for line in person.street]
    body += [["N3", *street[start : start + 2]] for start in range(0, len(street), 2)]
    body.append(["N4", person.city[:60], order.ship_to.region, order.ship_to.postal_code, order.ship_to.country])
    body.append(_per(person.phone, person.email))
    if customer.external_id or customer.email:
        body += [["N1", "BY", "", "92", customer.external_id], _per("", customer.email)]
    for line in order.lines:
        sku = f"{_TAG}-{line.sku}" if line.sku.upper() in _NO_SKU else line.sku
        body.append(["PO1", line.line_id, str(line.quantity), "EA", decimal_of(line.unit_price), "PE", "VP", sku])
        if line.title:
            body.append(["PID", "F", "", "", "", line.title[:80]])
        body += _sac("A", "C310", line.discount)
        if line.tax != zero or order.tax_included:
            body.append(["TXI", "TX", decimal_of(line.tax), *[""] * 4, relation])
    body.append(["CTT", str(len(order.lines)), str(sum(line.quantity for line in order.lines))])
    body.append(["AMT", "TT", decimal_of(order.total)])
    return _envelope(sender, at, [segment for segment in body if segment])


def _sac(kind: str, code: str, amount: Money) -> list[list[str]]:
    """A SAC in whole hundredths; what they can't hold (the third decimal of a dinar) is left to the extension."""
    if not amount.minor:
        return []
    whole, _, part = decimal_of(amount).partition(".")
    return [["SAC", kind, code, "", "", whole + part.ljust(2, "0")[:2]]]


def _per(phone: str, email: str) -> list[str]:
    pairs = [pair for pair in (("TE", phone), ("EM", email)) if pair[1]]
    return ["PER", "IC", "", *(one for pair in pairs for one in pair)] if pairs else []


_ELEMENT, _COMPONENT, _TERMINATOR = "*", ">", "~"
_UNSAFE = re.compile(r"[*>~\x00-\x1f\x7f-\x9f\xa0]")
_TEXT_OF_JSON = str.maketrans({char: f"\\u{ord(char):04x}" for char in "*>~\x7f"})
"""In compact ASCII JSON these stand only in strings, where they can be escaped."""


def _envelope(sender: str, at: datetime, body: list[list[str]]) -> bytes:
    """`body` as the one transaction of the one group of an interchange, separators in its text made spaces."""
    segments = [[_UNSAFE.sub(" ", one) for one in segment] for segment in body]
    transaction = [["ST", "850", "0001"], *segments, ["SE", str(len(segments) + 2), "0001"]]
    control, day, time = "000000001", at.strftime("%Y%m%d"), at.strftime("%H%M")
    blank = " " * 10
    isa = ["ISA", "00", blank, "00", blank, "ZZ", sender.ljust(15), "ZZ", _TAG.ljust(15)]
    isa += [day[-6:], time, "U", "00401", control, "0", "P", _COMPONENT]
    group = [["GS", "PO", sender, _TAG, day, time, "1", "X", "004010"]]
    envelope = [isa, *group, *transaction, ["GE", "1", "1"], ["IEA", "1", control]]
    return "".join(_ELEMENT.join(segment) + _TERMINATOR + "\n" for segment in envelope).encode()
