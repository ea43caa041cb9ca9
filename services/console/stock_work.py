"""What people do to stock: receive, adjust, count, take in a feed. Inventory decides."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ordermill.errors import Refused

from . import movements
from .described import form
from .pages import Console, Notice, This, answer, page
from .pictures.stock import Shelf, Sku
from .security import Fields, Me, Once, Session

router = APIRouter()
MOST_LINES = 1_000
_WHOLE = re.compile(r"[+-]?(\d{1,10}|\d{1,3}(,\d{3}){1,3})", re.ASCII)
_SKU = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}")


class WrongField(Refused):
    """A form's field that makes no sense; which, and what was expected."""

    code = "console.wrong-field"


def sku_in(text: str) -> str:
    """Raises WrongField."""
    if not _SKU.fullmatch(text):
        raise WrongField(
            f"SKU {text[:64]!r}: expected 1 to 64 letters, digits and . _ : / - that begin with a letter or digit"
        )
    return text


def units_in(name: str, text: str, least: int, most: int = 1_000_000) -> int:
    """`1,200` is twelve hundred, `1,5` no whole number. Raises WrongField."""
    plain = text.replace("−", "-")
    units = int(plain.replace(",", "")) if _WHOLE.fullmatch(plain) else None
    if units is None or not least <= units <= most:
        raise WrongField(f"{name} {text[:20]!r}: expected a whole number from {least:,} to {most:,}")
    return units


def location_in(this: Console, text: str) -> str:
    """Raises WrongField."""
    if text not in this.network.location_ids:
        raise WrongField(f"location {text[:40]!r}: choose one of {', '.join(sorted(this.network.location_ids))}")
    return text


def _line(this: Console, form: Fields, reference: str) -> dict[str, Any]:
    return {
        "sku": sku_in(form["sku"]),
        "location": location_in(this, form["location"]),
        "reference": reference,
        "happened_at": this.clock().isoformat(),
    }


async def ask(this: Console, me: Session, path: str, line: dict[str, Any], done: str) -> Notice:
    """One line, asked of inventory; its reference is the form's id. One sent before changes nothing and says so."""
    (told,) = await this.doors.post("inventory", path, [line], me)
    if told["code"]:
        return Notice("refused", f"{line['sku']} at {line['location']}: {told['detail']}")
    if not told["events"]:
        return Notice("same", "This form was sent before, and counted then.")
    return Notice("done", done)


@router.post(
    "/stock/receive",
    summary="Goods came in",
    openapi_extra=form(sku="What.", location="Where.", quantity="How many units."),
)
async def receive(request: Request, form: Once, me: Me, this: This) -> Response:
    line = _line(this, form, form.form_id) | {"quantity": units_in("units", form["quantity"], 1)}
    notice = await ask(
        this, me, "/stock/receive", line,
        f"{line['quantity']:,} of {line['sku']} received at {line['location']}. Orders that wait get theirs first.",
    )  # fmt: skip
    return answer(request, notice, f"/stock/{line['sku']}")


@router.post(
    "/stock/adjust",
    summary="Units were found or lost",
    openapi_extra=form(sku="Of what.", location="Where.", delta="How many units more, or less (-3).", reason="Why."),
)
async def adjust(request: Request, form: Once, me: Me, this: This) -> Response:
    line = _line(this, form, form.form_id) | {"delta": units_in("change", form["delta"], -1_000_000)}
    if not line["delta"]:
        raise WrongField("change 0: say how many were found (3) or lost (-3)")
    if not form["reason"]:
        raise WrongField("reason: say why, others will read it beside the number")
    line["reason"] = form["reason"][:500]
    told = f"{line['sku']} at {line['location']} changed by {line['delta']:+,}."
    return answer(request, await ask(this, me, "/stock/adjust", line, told), f"/stock/{line['sku']}")


@dataclass(frozen=True, slots=True)
class Difference:
    """A count against the books, before it is recorded."""

    counted: int
    books: int
    allocated: int
    available_after: int

    @property
    def delta(self) -> int:
        return self.counted - self.books


def difference(sku: Sku, location: str, counted: int) -> Difference:
    shelf = sku.locations.get(location, Shelf())
    set_aside = 0 if shelf.ships else max(counted - shelf.allocated, 0)
    more = counted - shelf.on_hand - (set_aside - shelf.set_aside)
    return Difference(counted, shelf.on_hand, shelf.allocated, sku.available + more)


@router.get("/counting", summary="Count what is there, with a scanner or by hand")
async def counting(
    request: Request,
    me: Me,
    this: This,
    location: Annotated[str, Query(max_length=40)] = "",
    sku: Annotated[str, Query(max_length=200)] = "",
    counted: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """Step by step, each an address of its own: location, SKU, units; then the difference, and whether to record it."""
    fault, found, wanted = "", None, sku.strip()
    try:
        if location:
            location_in(this, location)
        if wanted:
            found = await movements.sku_of(this.pool, sku_in(wanted)) or Sku()
        made = (
            difference(found, location, units_in("counted", counted.strip(), 0)) if found and counted.strip() else None
        )
    except WrongField as error:
        fault, made = str(error), None
    since_count: list[movements.Movement] = []
    if found is not None and location:
        shelf = found.locations.get(location)
        since_count = await movements.since(this.pool, wanted, shelf.counted_version if shelf else 0, location)
    return page(
        request, "stock/counting.html", locations=this.network.locations, location=location,
        sku=wanted, stock=found, counted=counted, difference=made, since_count=since_count, fault=fault,
    )  # fmt: skip


@router.post(
    "/stock/count",
    summary="Record a count",
    openapi_extra=form(
        sku="Of what.",
        location="Where.",
        counted="How many units are there.",
        seen="The SKU's version when the difference was shown.",
    ),
)
async def count(request: Request, form: Once, me: Me, this: This) -> Response:
    line = _line(this, form, form.form_id) | {"counted": units_in("counted", form["counted"], 0, 1_000_000_000)}
    seen = units_in("version seen", form["seen"] or "0", 0, 2**31 - 1)
    back = f"/counting?location={line['location']}"
    meanwhile = await movements.since(this.pool, line["sku"], seen, line["location"])
    if any(form.form_id == one.reference for one in meanwhile):
        return answer(request, Notice("same", "This count was sent before, and recorded then."), back)
    if meanwhile:
        told = "; ".join(f"{one.words} ({one.actor}, {one.at:%H:%M} UTC)" for one in meanwhile[-3:])
        again = f"{back}&sku={line['sku']}&counted={line['counted']}"
        text = (
            f"{line['sku']} at {line['location']} moved while you counted: {told}. "
            f"The books now have {meanwhile[-1].balance:,}. Look at the difference again, then record it."
        )
        return answer(request, Notice("refused", text), again)
    told = f"{line['counted']:,} of {line['sku']} counted at {line['location']}."
    return answer(request, await ask(this, me, "/stock/count", line, told), back)


@router.get("/feed", summary="Take in a stock feed")
async def feed_form(request: Request, me: Me, this: This) -> Response:
    return page(request, "stock/feed.html", outcome=None, text="", kind="receive", locations=this.network.locations)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a feed's lines: how many counted, how many had counted before, and each that did not, with why."""

    taken: int
    known: int
    faults: list[tuple[int, str]]


@router.post(
    "/feed",
    summary="Take in a stock feed",
    openapi_extra=form(kind="`count`: units that are there; else those that came.", feed="CSV: SKU, location, units."),
)
async def feed(request: Request, form: Once, me: Me, this: This) -> Response:
    """CSV of sku, location, quantity. Each line succeeds or fails by itself, under the form's id and its number."""
    kind = "count" if form["kind"] == "count" else "receive"
    lines, faults = read_feed(this, form["feed"], kind, form.form_id)
    taken = known = 0
    for start in range(0, len(lines), 500):
        part = lines[start : start + 500]
        answers = await this.doors.post("inventory", f"/stock/{kind}", [line for _, line in part], me)
        for (number, line), told in zip(part, answers, strict=True):
            if told["code"]:
                faults.append((number, f"{line['sku']} at {line['location']}: {told['detail']}"))
            elif told["events"]:
                taken += 1
            else:
                known += 1
    return page(
        request, "stock/feed.html", outcome=Outcome(taken, known, sorted(faults)), text="", kind=kind,
        locations=this.network.locations,
    )  # fmt: skip


def read_feed(
    this: Console, text: str, kind: str, reference: str
) -> tuple[list[tuple[int, dict[str, Any]]], list[tuple[int, str]]]:
    """The lines that make sense, by number, and what is wrong with the others. Raises WrongField beyond 1,000 lines."""
    lines: list[tuple[int, dict[str, Any]]] = []
    faults: list[tuple[int, str]] = []
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        for row in rows:
            cells = [cell.strip() for cell in row]
            if not any(cells) or (rows.line_num == 1 and cells[0].lower() == "sku"):
                continue
            if len(lines) + len(faults) == MOST_LINES:
                raise WrongField(f"feed: more than {MOST_LINES:,} lines; send it in parts. Nothing was taken in.")
            try:
                lines.append((rows.line_num, _feed_line(this, cells, kind, f"{reference}-{rows.line_num}")))
            except WrongField as error:
                faults.append((rows.line_num, str(error)))
    except csv.Error as error:
        faults.append((rows.line_num, f"not CSV: {error}"))
    return lines, faults


def _feed_line(this: Console, cells: list[str], kind: str, reference: str) -> dict[str, Any]:
    if len(cells) != 3:
        raise WrongField(f"{len(cells)} columns: expected sku, location, quantity")
    name, least = ("counted", 0) if kind == "count" else ("quantity", 1)
    return {
        "sku": sku_in(cells[0]),
        "location": location_in(this, cells[1]),
        name: units_in("quantity", cells[2], least),
        "reference": reference,
        "happened_at": this.clock().isoformat(),
    }
