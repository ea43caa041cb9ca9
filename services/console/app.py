"""The console on one page: what it reads, which pages it has, who may see them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import structlog
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from ordermill.errors import NotFound, OrdermillError, Refused, Transient
from ordermill.service.metrics import CommonMetrics
from ordermill.service.observe import ObserveRequests, route_of
from ordermill.service.openapi import allowed_methods
from ordermill.service.surface import CONNECTION_ENDS, Alive, LimitBody, problem

from . import (
    acting,
    bulk,
    customer,
    floor,
    floor_reports,
    letters,
    machine,
    order,
    queue,
    reference,
    returns,
    routing,
    stock,
    stock_work,
)
from .described import Measures, describe, form
from .pages import HERE, Notice, answer, page
from .security import Form, LoginNeeded, SecurityHeaders, Sessions, person
from .settings import ConsoleSettings

logger = structlog.get_logger(__name__)

_HTMX = "django_htmx/static/django_htmx"
"""The package is taken for the scripts in it; its Python is for Django and is never imported."""
SCRIPTS = {"htmx.js": f"{_HTMX}/htmx-2.min.js", "sse.js": f"{_HTMX}/ext/hx-sse-2.min.js"}


def application(
    settings: ConsoleSettings, api_token: str, metrics: CommonMetrics, is_ready: Callable[[], bool]
) -> FastAPI:
    """The console's HTTP surface. Everything but `/login`, health and customers' links needs a session.

    Pages are made from `app.state.console`, to be set before one is asked for.
    """
    app = FastAPI(
        title="Ordermill console",
        docs_url=None,
        redoc_url=None,
        default_response_class=HTMLResponse,
        generate_unique_id_function=lambda route: f"{route.endpoint.__module__.rpartition('.')[2]}_{route.name}",
    )
    app.state.sessions = Sessions(settings)
    app.add_middleware(LimitBody)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(settings.hosts))
    app.add_middleware(ObserveRequests, metrics=metrics, api_token=api_token)
    app.add_exception_handler(LoginNeeded, _to_login)
    app.add_exception_handler(OrdermillError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(StarletteHTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    _scripts(app)
    _login(app)
    _operations(app, metrics, is_ready)
    for pages in (
        queue, bulk, order, acting, stock, stock_work, routing, floor, floor_reports, returns, letters, machine,
        customer, reference,
    ):  # fmt: skip
        app.include_router(pages.router)
    describe(app)
    return app


def _scripts(app: FastAPI) -> None:
    spec = find_spec("django_htmx")
    assert spec is not None and spec.origin is not None, "django-htmx is not installed: see requirements/"
    folder = Path(spec.origin).parent.parent

    def serve(path: Path) -> Callable[[], Awaitable[FileResponse]]:
        async def script() -> FileResponse:
            return FileResponse(path, media_type="text/javascript", headers={"Cache-Control": "max-age=3600"})

        return script

    for name, inside in SCRIPTS.items():
        app.add_api_route(f"/scripts/{name}", serve(folder / inside), include_in_schema=False)


def _login(app: FastAPI) -> None:
    def welcome(request: Request, name: str) -> Response:
        sent = RedirectResponse("/", 303)
        app.state.sessions.begin(sent, person(name))
        return sent

    wrong: dict[int | str, Any] = {
        303: {"description": "Logged in: to the queue."},
        403: {"description": "That is not the token.", "content": {"text/html": {"schema": {"type": "string"}}}},
    }

    @app.get("/login", summary="Log in, by the link that was printed at start or by hand", responses=wrong)
    async def login(
        request: Request,
        token: Annotated[str, Query(max_length=200)] = "",
        name: Annotated[str, Query(max_length=200)] = "",
    ) -> Response:
        if token and app.state.sessions.right(token):
            return welcome(request, name)
        wrong = "That is not this installation's token: take the address that was printed at start." if token else ""
        return page(request, "login.html", 403 if token else 200, wrong=wrong)

    fields = form(csrf=False, form_id=False, token="This installation's.", name="What to be called in the record.")  # noqa: S106

    @app.post("/login", summary="Log in", responses=wrong, openapi_extra=fields)
    async def enter(request: Request) -> Response:
        data = await request.form(max_files=0, max_fields=10)
        if app.state.sessions.right(str(data.get("token", ""))):
            return welcome(request, str(data.get("name", "")))
        return page(request, "login.html", 403, wrong="That is not this installation's token.")

    @app.post("/logout", summary="Log out", openapi_extra=form(form_id=False))
    async def logout(form: Form) -> Response:
        sent = RedirectResponse("/login", 303)
        app.state.sessions.end(sent)
        return sent


class Ready(BaseModel):
    """Whether the console can work."""

    ready: bool


def _operations(app: FastAPI, metrics: CommonMetrics, is_ready: Callable[[], bool]) -> None:
    @app.get("/healthz", summary="Alive", response_class=JSONResponse)
    async def healthz() -> Alive:
        return Alive()

    not_now: dict[int | str, Any] = {503: {"model": Ready, "description": "Not able now."}}

    @app.get("/readyz", summary="Able to work", response_class=JSONResponse, responses=not_now)
    async def readyz(response: Response) -> Ready:
        ready = is_ready()
        response.status_code = 200 if ready else 503
        return Ready(ready=ready)

    @app.get("/metrics", summary="Prometheus metrics", response_class=Measures)
    async def measured() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def _to_login(request: Request, error: Exception) -> Response:
    if request.headers.get("HX-Request") or request.headers.get("accept") == "text/event-stream":
        return Response(status_code=401, headers={"HX-Redirect": "/login"})
    return RedirectResponse("/login", 303)


def _problem(request: Request, status: int, title: str, detail: str, code: str) -> Response:
    """To a form: a notice on the page it is on. Else a page of its own."""
    if request.headers.get("HX-Request") and request.method == "POST":
        return answer(request, Notice("refused", detail), "/")
    if "text/html" not in request.headers.get("accept", "text/html") and "*/*" not in request.headers.get("accept", ""):
        return problem(status, title, detail, code)
    return page(request, "problem.html", status, title=title, detail=detail)


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, OrdermillError)
    match error:
        case NotFound():
            return _problem(request, 404, "Not here", str(error), error.code)
        case Refused():
            return _problem(request, 409, "Not done", str(error), error.code)
        case Transient():
            return _problem(request, 503, "Not just now", str(error), error.code)
        case _:
            return _problem(request, 422, "Not understood", str(error), error.code)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = "; ".join(f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors()[:3])
    return _problem(request, 422, "Not understood", faults, "http.invalid")


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    if error.status_code == 404:
        return _problem(request, 404, "Not here", "There is no such page. The queue has all orders.", "http.404")
    answer = _problem(request, error.status_code, "Not done", str(error.detail), f"http.{error.status_code}")
    answer.headers.update(error.headers or {})
    if error.status_code == 405:
        answer.headers["Allow"] = ", ".join(allowed_methods(request.app, request.url.path))
    return answer


async def _unexpected(request: Request, error: Exception) -> Response:
    logger.error("a request failed", route=route_of(request.scope), exc_info=error)
    return HTMLResponse("<h1>A defect of ours</h1><p>The console's log has it.</p>", 500, CONNECTION_ENDS)
