"""What people on the floor did, reported to fulfillment in their name: once, however often a device sends it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from ordermill.contracts.fulfillment import RejectReason
from ordermill.errors import NotFound, Refused

from .described import TOLD, What, form, several
from .floor import At, WorkId, place, shown, way_name, work_at
from .pages import Console, Notice, This, answer, page
from .pictures.fulfillments import FULFILLMENTS, Fulfillment, Line
from .pictures.steps import Step
from .reading import document, document_when
from .security import Fields, Me, Once, Session

router = APIRouter()
_DID = {
    "accept": ("accepted",),
    "reject": ("rejected",),
    "pick": ("picked", "short-picked"),
    "pack": ("packed",),
    "retry-label": ("label-requested",),
    "hand-over": ("shipped",),
}
"""Which facts tell that a report's work is done."""
_SAID = {
    "accepted": "accepted it",
    "rejected": "rejected it",
    "picked": "picked it",
    "short-picked": "found units missing",
    "packed": "packed it",
    "label-requested": "asked for a label",
    "labeled": "had a label bought",
    "label-failed": "was told why there is no label",
    "shipped": "handed it over",
    "lines-canceled": "called units off",
}
SEEN = "The version of the work that the page showed."
WAITED = "For how many seconds this has waited for a connection, if it has."
_WHEN = {"pick": "picked_at", "reject": "rejected_at", "hand-over": "shipped_at"}
"""What of a report tells when it was done."""
_GTIN = re.compile(r"\d{8}|\d{12,14}")


class NotCounted(Refused):
    """A form whose numbers do not say what was done."""

    code = "console.not-counted"


def tell(request: Request, notice: Notice, back: str) -> Response:
    """To a device that keeps its reports: what became of this one, as JSON. To a form: a notice on the page."""
    if "application/json" in request.headers.get("accept", ""):
        told = What(kind=notice.kind, text=notice.text)
        return JSONResponse(told.model_dump(), 409 if notice.kind == "refused" else 200)
    return answer(request, notice, back)


def who(this: Console, step: Step | None) -> str:
    """`Bob picked it at 10:02 UTC: 2 × TEA.`"""
    if step is None:
        return ""
    what = f": {step.what}" if step.what else ""
    return f"{step.who} {_SAID.get(step.did, step.did)} at {step.at:%H:%M} UTC{what}."


async def _report(
    this: Console, me: Session, form: Fields, work: Fulfillment, body: Mapping[str, Any], done: str
) -> Notice:
    """Report one thing done; `done` says what comes next. Never raises for what fulfillment turns down."""
    do = str(body["do"])
    report = {**body, **_when(this, form, do), "fulfillment_id": work.fulfillment_id, "report_id": form.form_id}
    told = (await this.doors.post("fulfillment", "/work", [report], me))[0]
    facts = _DID[do]
    if told["repeated"]:
        # `done` was made from the work as it is now, not as it was.
        now = await document_when(this, FULFILLMENTS, work.fulfillment_id, lambda it: it.last(*facts) is not None)
        did = who(this, now.last(*facts) if now else None)
        return Notice("done", f"{did} It had reached us before, and counts once.".strip())
    if told["code"] is None and told["events"]:
        await document_when(this, FULFILLMENTS, work.fulfillment_id, lambda now: now.version > work.version)
        return Notice("done", done)
    if told["code"] is None:
        now = await document_when(this, FULFILLMENTS, work.fulfillment_id, lambda it: it.last(*facts) is not None)
        step = now.last(*facts) if now else None
        return Notice("same", who(this, step) or "It was so already.")
    seen = int(form["seen"]) if form["seen"].isdecimal() and len(form["seen"]) < 9 else work.version
    now = await document_when(this, FULFILLMENTS, work.fulfillment_id, lambda it: it.version > seen, 1.0)
    latest = now.steps[-1] if now and now.version > seen else now.last(*facts) if now else None
    return Notice("refused", " ".join(filter(None, (who(this, latest), str(told["detail"])))))


def _when(this: Console, form: Fields, do: str) -> dict[str, str]:
    """When it was done, where it was not just now: a device may have had no connection for hours."""
    waited = form["waited_s"]
    if do not in _WHEN or not (waited.isascii() and waited.isdecimal() and len(waited) < 8) or waited == "0":
        return {}
    return {_WHEN[do]: (this.clock() - timedelta(seconds=int(waited))).isoformat()}


async def _judged(
    request: Request, this: Console, me: Session, form: Fields, location: str, key: str, make: Any
) -> Response:
    """`make` reads the form into a report; what is wrong with it is told like fulfillment's own refusals."""
    try:
        work = await work_at(this, location, key)
        body, done = make(work)
        notice = await _report(this, me, form, work, body, done)
    except (Refused, NotFound) as error:
        notice = Notice("refused", str(error))
    return tell(request, notice, f"/floor/{location}/{key}")


@router.post(
    "/floor/{location}/{fulfillment_id}/accept",
    summary="The location will do it",
    responses=TOLD,
    openapi_extra=form(seen=SEEN),
)
async def accept(request: Request, me: Me, form: Once, this: This, location: At, fulfillment_id: WorkId) -> Response:
    def make(work: Fulfillment) -> tuple[dict[str, Any], str]:
        return {"do": "accept"}, f"{work.external_id} is yours to pick."

    return await _judged(request, this, me, form, location, fulfillment_id, make)


@router.post(
    "/floor/{location}/{fulfillment_id}/reject",
    summary="The location will not do it",
    responses=TOLD,
    openapi_extra=form(seen=SEEN, reason="Why.", note="More of why.", waited_s=WAITED),
)
async def reject(request: Request, me: Me, form: Once, this: This, location: At, fulfillment_id: WorkId) -> Response:
    def make(work: Fulfillment) -> tuple[dict[str, Any], str]:
        if form["reason"] not in set(RejectReason):
            raise NotCounted("Say why: choose one of the reasons.")
        done = f"{work.external_id} goes to another location; put what you took back on the shelf."
        return {"do": "reject", "reason": form["reason"], "note": form["note"][:500]}, done

    return await _judged(request, this, me, form, location, fulfillment_id, make)


# Picking


def counted(work: Fulfillment, form: Fields) -> dict[str, int]:
    """Units found so far by line, as the form says. Raises NotCounted."""
    found = {}
    for line in work.lines:
        text = form[f"found:{line.line_id}"] or "0"
        if not text.isdecimal() or not text.isascii() or len(text) > 7:
            raise NotCounted(f"{line.sku}: {text[:20]} is no number of units.")
        found[line.line_id] = int(text)
    return found


def count_scan(work: Fulfillment, found: Mapping[str, int], code: str) -> tuple[dict[str, int], str]:
    """One more unit of the SKU that was scanned, and the words for it. Raises NotCounted for a wrong or spare one."""
    lines = [line for line in work.lines if line.sku == code and line.left]
    if not lines:
        if _GTIN.fullmatch(code):
            raise NotCounted(
                f"{code}: a GTIN. No table of GTINs is kept here, so scan the SKU's label or count the unit by hand."
            )
        raise NotCounted(f"Wrong item: {code[:64]} is not part of this order. Put it back.")
    for line in lines:
        if found.get(line.line_id, 0) < line.left:
            count = found.get(line.line_id, 0) + 1
            return {**found, line.line_id: count}, f"{line.sku}: {count} of {line.left}."
    raise NotCounted(f"Too many: all {sum(line.left for line in lines)} of {code} are counted. Put this one back.")


@router.post(
    "/floor/{location}/{fulfillment_id}/pick",
    summary="What was found, and what was not there",
    responses=TOLD,
    openapi_extra=form(
        seen=SEEN,
        do="`count`: one unit more of `scan`, nothing is reported; `short`: what is not counted is not there.",
        scan="What was scanned.",
        waited_s=WAITED,
        others="`found:<line id>`: units found.",
    ),
)
async def pick(request: Request, me: Me, form: Once, this: This, location: At, fulfillment_id: WorkId) -> Response:
    if form["do"] == "count":
        return await _count(request, this, form, location, fulfillment_id)

    def make(work: Fulfillment) -> tuple[dict[str, Any], str]:
        found = counted(work, form)
        lines = _quantities((line, found[line.line_id]) for line in work.lines)
        missing = sum(max(0, line.open - found[line.line_id]) for line in work.lines)
        if missing and form["do"] != "short":
            units = "1 unit is" if missing == 1 else f"{missing} units are"
            raise NotCounted(f"{units} not counted yet: scan them, or report them as not there.")
        done = "Picked: pack it now."
        if missing:
            rest = "pack what you have." if lines else "nothing is left to pack."
            done = f"{missing} not there: taken off this shelf and looked for elsewhere; {rest}"
        return {"do": "pick", "lines": lines}, done

    return await _judged(request, this, me, form, location, fulfillment_id, make)


async def _count(request: Request, this: Console, form: Fields, location: str, fulfillment_id: str) -> Response:
    """A scan without JavaScript: the page again, with one unit more."""
    work = await work_at(this, location, fulfillment_id)
    found: dict[str, int] = {}
    try:
        found = counted(work, form)
        found, said = count_scan(work, found, form["scan"])
        status = 200
    except NotCounted as error:
        said, status = str(error), 409
    return page(request, "floor/work.html", status, said=said, **await shown(this, work, found=found))


# Packing and labels


@router.post(
    "/floor/{location}/{fulfillment_id}/pack",
    summary="What is in which box",
    responses=TOLD,
    openapi_extra=form(
        seen=SEEN, others="`box:<number>:weight`: grams of a box; `box:<number>:<line id>`: units in it."
    ),
)
async def pack(request: Request, me: Me, form: Once, this: This, location: At, fulfillment_id: WorkId) -> Response:
    def make(work: Fulfillment) -> tuple[dict[str, Any], str]:
        packages = boxes_of(work, form)
        labels = "The label is" if len(packages) == 1 else f"{len(packages)} labels are"
        return {"do": "pack", "packages": packages}, f"Packed. {labels} being bought."

    return await _judged(request, this, me, form, location, fulfillment_id, make)


def boxes_of(work: Fulfillment, form: Fields) -> list[dict[str, Any]]:
    """The boxes of a form, those with nothing in them left out. Raises NotCounted."""
    by_id = {line.line_id: line for line in work.lines}
    numbers: dict[int, dict[str, int]] = defaultdict(dict)
    for name, text in form.items():
        match = re.fullmatch(r"box:(\d{1,3}):(.+)", name, re.ASCII)
        if match is None:
            continue
        typed = text.strip()
        if not re.fullmatch(r"\d{0,8}", typed, re.ASCII):
            raise NotCounted(f"Box {match[1]}: {typed[:20]} is no whole number.")
        numbers[int(match[1])][match[2]] = int(typed or 0)
    packages: list[dict[str, Any]] = []
    for number in sorted(numbers):
        weight, box = numbers[number].pop("weight", 0), numbers[number]
        lines = _quantities((by_id[line_id], units) for line_id, units in box.items() if line_id in by_id)
        if not lines:
            continue
        if not weight:
            raise NotCounted(f"Box {number} has no weight: weigh it, in grams.")
        packages.append({"package": len(packages) + 1, "weight_g": weight, "lines": lines})
    if not packages:
        raise NotCounted("Nothing is in a box yet.")
    return packages


def _quantities(parts: Iterable[tuple[Line, int]]) -> list[dict[str, Any]]:
    return [{"line_id": line.line_id, "sku": line.sku, "quantity": units} for line, units in parts if units]


@router.post(
    "/floor/{location}/{fulfillment_id}/label/{package}",
    summary="Ask for a label again",
    responses=TOLD,
    openapi_extra=form(seen=SEEN, way="`carrier/service`."),
)
async def retry_label(
    request: Request, me: Me, form: Once, this: This, location: At, fulfillment_id: WorkId, package: int
) -> Response:
    def make(work: Fulfillment) -> tuple[dict[str, Any], str]:
        carrier, _, service = form["way"].partition("/")
        if not carrier or not service:
            raise NotCounted("Choose how the box shall go.")
        done = f"{way_name(this, carrier, service)} is being asked for a label for box {package}."
        return {"do": "retry-label", "package": package, "carrier": carrier, "service": service}, done

    return await _judged(request, this, me, form, location, fulfillment_id, make)


# Handing over


@router.post(
    "/floor/{location}/{fulfillment_id}/hand-over",
    summary="The carrier has it",
    responses=TOLD,
    openapi_extra=form(seen=SEEN, waited_s=WAITED),
)
async def hand_over(request: Request, me: Me, form: Once, this: This, location: At, fulfillment_id: WorkId) -> Response:
    def make(work: Fulfillment) -> tuple[dict[str, Any], str]:
        return {"do": "hand-over"}, f"{work.external_id} is on its way; its customer is told."

    return await _judged(request, this, me, form, location, fulfillment_id, make)


@router.post(
    "/floor/{location}/manifest/{carrier}",
    summary="The carrier has all of these",
    responses=TOLD,
    openapi_extra=form(work=several("Ids of fulfillment orders."), waited_s=WAITED),
)
async def hand_over_all(request: Request, me: Me, form: Once, this: This, location: At, carrier: WorkId) -> Response:
    """Those that the page listed, and no others: a parcel labeled meanwhile is not in the carrier's hands."""
    place(this, location)
    keys = list(dict.fromkeys(form.all("work")))[:1_000]
    works = [work for key in keys if (work := await document(this, FULFILLMENTS, key)) and work.location == location]
    if not works:
        return tell(request, Notice("refused", "No parcel was listed."), f"/floor/{location}/manifest/{carrier}")
    reports = [
        {
            "do": "hand-over",
            "fulfillment_id": work.fulfillment_id,
            "report_id": f"{form.form_id}.{number}",
            **_when(this, form, "hand-over"),
        }
        for number, work in enumerate(works)
    ]
    answers = await this.doors.post("fulfillment", "/work", reports, me)
    failed = [
        f"{work.external_id}: {told['detail']}"
        for work, told in zip(works, answers, strict=True)
        if told["code"] is not None
    ]
    taken = len(works) - len(failed)
    for work, told in zip(works, answers, strict=True):
        if told["code"] is None:
            await document_when(this, FULFILLMENTS, work.fulfillment_id, lambda now: now.step == "shipped", 1.0)
    parcels = "1 order is" if taken == 1 else f"{taken} orders are"
    text = " ".join(filter(None, (f"{parcels} with the carrier." if taken else "", *failed[:5])))
    return tell(request, Notice("refused" if failed else "done", text), f"/floor/{location}/manifest/{carrier}")
