"""The machine room: how each service is doing, and whether all adds up. Dead letters are in `letters`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from .described import EventStream, form
from .letters import waiting_by_service
from .live import stream
from .pages import Console, Notice, This, answer, page, render
from .security import Form, Me
from .watch import TOPIC, spark

router = APIRouter()
PATH = "/machine"


async def _now(this: Console) -> dict[str, Any]:
    return {
        "services": [*this.watch.services, this.watch.console],
        "troubles": this.watch.troubles(),
        "newest_age_s": this.watch.newest_age_s,
        "delay_s": this.watch.delay_s,
        "letters": await waiting_by_service(this),
        "sums": this.conservation.report,
        "checking": this.conservation.running,
        "spark": spark,
        "at": this.watch.at(),
    }


@router.get(PATH, summary="The machine room")
async def machine(request: Request, me: Me, this: This) -> Response:
    return page(request, "machine/page.html", **await _now(this))


@router.get(f"{PATH}/live", summary="The machine room, as it changes", response_class=EventStream)
async def live(request: Request, me: Me, this: This) -> Response:
    async def html() -> str:
        return render(request, "machine/now.html", **await _now(this))

    return await stream(request, [TOPIC, "letters"], html, this.live)


@router.post(f"{PATH}/conservation", summary="Check now that all adds up", openapi_extra=form(form_id=False))
async def check(request: Request, form: Form, me: Me, this: This) -> Response:
    if this.conservation.ask():
        notice = Notice("done", "The check begins now; this page shows what it finds.")
    else:
        notice = Notice("same", "A check is under way; this page shows what it finds.")
    return answer(request, notice, PATH)
