"""The floor: what a warehouse or shop has to do, order by order, on a phone with a scanner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response

from ordermill.contracts.fulfillment import RejectReason
from ordermill.errors import NotFound
from ordermill.network import Location

from .described import ELSEWHERE, PAPER, EventStream, Script
from .live import stream
from .pages import HERE, Console, This, page, render
from .pictures.fulfillments import FULFILLMENTS, STEPS, Fulfillment
from .reading import document
from .security import Me

router = APIRouter()
LOCATION_COOKIE = "ordermill_location"
LISTED = 100
OPEN = tuple(STEPS)
REASONS = {
    RejectReason.NO_CAPACITY: "No capacity",
    RejectReason.OUT_OF_STOCK: "Out of stock",
    RejectReason.DAMAGED: "Damaged",
    RejectReason.CLOSED: "Closed",
    RejectReason.OTHER: "Another reason",
}
At = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=40)]
WorkId = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$", max_length=120)]


class NoSuchPlace(NotFound):
    """Not a location of the network."""

    code = "console.no-such-place"

    def __init__(self, location: str, known: Sequence[str]) -> None:
        super().__init__(f"{location}: no location of ours. There are {', '.join(known)}")


class NoSuchWork(NotFound):
    """No fulfillment order of that id at that location."""

    code = "console.no-such-work"

    def __init__(self, location: str, fulfillment_id: str) -> None:
        super().__init__(f"{fulfillment_id}: not asked of {location}. The list of its work has all that is open.")


def place(this: Console, location: str) -> Location:
    """Raises NoSuchPlace."""
    found = this.network.by_id.get(location)
    if found is None:
        raise NoSuchPlace(location, tuple(this.network.by_id))
    return found


async def work_at(this: Console, location: str, fulfillment_id: str) -> Fulfillment:
    """Raises NoSuchPlace and NoSuchWork."""
    place(this, location)
    found = await document(this, FULFILLMENTS, fulfillment_id)
    if found is None or found.location != location:
        raise NoSuchWork(location, fulfillment_id)
    return found


def ways(this: Console) -> list[tuple[str, str]]:
    """(`carrier/service`, name) of all that parcels may go by."""
    return [
        (f"{carrier.id}/{service.id}", service.name)
        for carrier in this.network.carriers
        for service in carrier.services
    ]


def way_name(this: Console, carrier: str, service: str) -> str:
    return dict(ways(this)).get(f"{carrier}/{service}", f"{carrier} {service}")


# Where


@router.get("/floor", summary="Which location this device works at", responses=ELSEWHERE)
async def choose(request: Request, me: Me, this: This, choose: Annotated[str | None, Query()] = None) -> Response:
    known = request.cookies.get(LOCATION_COOKIE, "")
    if known in this.network.by_id and choose is None:
        return RedirectResponse(f"/floor/{known}", 303)
    rows = await this.pool.fetch(
        """SELECT location, count(*) AS open, min(ship_by) AS next FROM fulfillments WHERE step = ANY ($1)
           GROUP BY location""",
        OPEN,
    )
    work = {row["location"]: row for row in rows}
    places = sorted(this.network.locations, key=lambda each: (each.kind, each.name))
    return page(request, "floor/choose.html", places=places, work=work, known=known)


@router.get("/floor-worker.js", summary="Keeps the floor's pages usable without a connection", response_class=Script)
async def worker() -> Response:
    return FileResponse(HERE / "static" / "floor-worker.js", media_type="text/javascript")


class Who(BaseModel):
    """Who is logged in, and what their forms must hold."""

    name: str
    csrf: str


@router.get(
    "/floor-session",
    summary="Who is logged in, for reports that waited for a connection",
    response_class=JSONResponse,
)
async def session(me: Me) -> Who:
    return Who(name=me.name, csrf=me.csrf)


@router.get("/floor-offline", summary="What is shown for a page that this device does not keep")
async def offline(request: Request, me: Me) -> Response:
    return page(request, "floor/offline.html")


# Lists


async def _listed(this: Console, location: str, step: str) -> dict[str, Any]:
    rows = await this.pool.fetch(
        """SELECT step, count(*) AS open, min(ship_by) AS next FROM fulfillments
           WHERE location = $1 AND step = ANY ($2) GROUP BY step""",
        location,
        OPEN,
    )
    counts = {row["step"]: row for row in rows}
    chosen = step if step in STEPS else next((each for each in STEPS if each in counts), "accept")
    docs = await this.pool.fetch(
        "SELECT doc FROM fulfillments WHERE location = $1 AND step = $2 ORDER BY ship_by, key LIMIT $3",
        location,
        chosen,
        LISTED,
    )
    carriers = await this.pool.fetch(
        """SELECT carrier, count(*) AS parcels FROM fulfillments, unnest(carriers) AS carrier
           WHERE location = $1 AND step = 'hand-over' GROUP BY carrier ORDER BY carrier""",
        location,
    )
    return {
        "location": place(this, location),
        "step": chosen,
        "steps": STEPS,
        "counts": counts,
        "listed": [Fulfillment.model_validate_json(row["doc"]) for row in docs],
        "carriers": [(row["carrier"], row["parcels"]) for row in carriers],
        "most": LISTED,
    }


Chosen = Annotated[str, Query(max_length=20)]


@router.get("/floor/{location}", summary="A location's work, by the time it has to be gone")
async def work_list(request: Request, me: Me, this: This, location: At, step: Chosen = "") -> Response:
    place(this, location)
    sent = page(request, "floor/list.html", wanted=step, **await _listed(this, location, step))
    sent.set_cookie(LOCATION_COOKIE, location, max_age=31_536_000, httponly=True, samesite="lax")
    return sent


@router.get("/floor/{location}/live", summary="A location's work, as it changes", response_class=EventStream)
async def live_list(request: Request, me: Me, this: This, location: At, step: Chosen = "") -> Response:
    place(this, location)

    async def html() -> str:
        return render(request, "floor/rows.html", wanted=step, **await _listed(this, location, step))

    return await stream(request, ["fulfillments"], html, this.live)


@router.get("/floor/{location}/find", summary="The work that a scanned number belongs to")
async def find(
    request: Request, me: Me, this: This, location: At, code: Annotated[str, Query(max_length=200)] = ""
) -> Response:
    name = place(this, location).name
    text = code.strip()
    found = await this.pool.fetch(
        """SELECT key FROM fulfillments
           WHERE location = $1 AND (key = $2 OR external_id = $2 OR order_id = $2 OR $2 = ANY (tracking))
           ORDER BY step IN ('shipped', 'ended'), ship_by LIMIT 1""",
        location,
        text.replace("\0", ""),
    )
    if found:
        return RedirectResponse(f"/floor/{location}/{found[0]['key']}", 303)
    detail = f"{text or 'Nothing'}: no order, fulfillment order or tracking number of {name}."
    return page(request, "floor/list.html", 404, wanted="", missed=detail, **await _listed(this, location, ""))


# What a carrier takes


async def manifest_of(this: Console, location: str, carrier: str) -> dict[str, Any]:
    at = place(this, location)
    today = this.clock().astimezone(ZoneInfo(at.zone)).replace(hour=0, minute=0, second=0, microsecond=0)
    rows = await this.pool.fetch(
        """SELECT doc FROM fulfillments WHERE location = $1 AND step = 'hand-over' AND $2 = ANY (carriers)
           ORDER BY ship_by, key""",
        location,
        carrier,
    )
    gone = await this.pool.fetch(
        """SELECT doc FROM fulfillments WHERE location = $1 AND shipped_at >= $3 AND $2 = ANY (carriers)
           ORDER BY shipped_at DESC, key LIMIT 200""",
        location,
        carrier,
        today,
    )
    waiting = [Fulfillment.model_validate_json(row["doc"]) for row in rows]
    return {
        "location": at,
        "carrier": carrier,
        "carrier_name": next((each.name for each in this.network.carriers if each.id == carrier), carrier),
        "waiting": [work for work in waiting if work.carriers == [carrier]],
        "mixed": [work for work in waiting if work.carriers != [carrier]],
        "gone": [Fulfillment.model_validate_json(row["doc"]) for row in gone],
    }


@router.get("/floor/{location}/manifest/{carrier}", summary="The parcels that wait for a carrier")
async def manifest(request: Request, me: Me, this: This, location: At, carrier: WorkId) -> Response:
    return page(request, "floor/manifest.html", **await manifest_of(this, location, carrier))


@router.get(
    "/floor/{location}/manifest/{carrier}/live",
    summary="The parcels that wait, as they change",
    response_class=EventStream,
)
async def live_manifest(request: Request, me: Me, this: This, location: At, carrier: WorkId) -> Response:
    async def html() -> str:
        return render(request, "floor/parcels.html", **await manifest_of(this, location, carrier))

    return await stream(request, ["fulfillments"], html, this.live)


# One fulfillment order


async def shown(
    this: Console, work: Fulfillment, boxes: int = 1, found: dict[str, int] | None = None
) -> dict[str, Any]:
    """What the page of one fulfillment order is made from. `found`: units counted so far, by line."""
    after = await this.pool.fetchrow(
        """SELECT key, external_id FROM fulfillments
           WHERE location = $1 AND step = $2 AND key <> $3 ORDER BY ship_by, key LIMIT 1""",
        work.location,
        work.step if work.step in STEPS else next(iter(STEPS)),
        work.fulfillment_id,
    )
    return {
        "work": work,
        "location": place(this, work.location),
        "reasons": REASONS,
        "ways": ways(this),
        "way": lambda carrier, service: way_name(this, carrier, service),
        "carrier_names": {carrier.id: carrier.name for carrier in this.network.carriers},
        "boxes": max(1, min(boxes, work.units, 20)),
        "found": found or {},
        "after": after,
    }


Boxes = Annotated[int, Query(ge=1, le=20)]


@router.get("/floor/{location}/{fulfillment_id}", summary="One fulfillment order: the step that is next")
async def one(request: Request, me: Me, this: This, location: At, fulfillment_id: WorkId, boxes: Boxes = 1) -> Response:
    work = await work_at(this, location, fulfillment_id)
    return page(request, "floor/work.html", said="", **await shown(this, work, boxes))


@router.get(
    "/floor/{location}/{fulfillment_id}/live",
    summary="One fulfillment order, as it changes",
    response_class=EventStream,
)
async def live_one(
    request: Request, me: Me, this: This, location: At, fulfillment_id: WorkId, boxes: Boxes = 1
) -> Response:
    await work_at(this, location, fulfillment_id)

    async def html() -> str:
        work = await work_at(this, location, fulfillment_id)
        return render(request, "floor/steps.html", **await shown(this, work, boxes))

    return await stream(request, [f"fulfillments:{fulfillment_id}"], html, this.live)


@router.get(
    "/floor/{location}/{fulfillment_id}/packages/{package}/{paper}",
    summary="A label or packing slip",
    response_class=Response,
    responses=PAPER,
)
async def paper(
    me: Me,
    this: This,
    location: At,
    fulfillment_id: WorkId,
    package: Annotated[int, Path(ge=1, le=999)],
    paper: Literal["label.pdf", "label.zpl", "slip.pdf"],
) -> Response:
    await work_at(this, location, fulfillment_id)
    content, kind = await this.doors.file("fulfillment", f"/fulfillments/{fulfillment_id}/packages/{package}/{paper}")
    name = f"{fulfillment_id}-{package}-{paper}"
    how = "attachment" if paper.endswith(".zpl") else "inline"
    return Response(content, media_type=kind, headers={"Content-Disposition": f'{how}; filename="{name}"'})
