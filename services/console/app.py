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
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from ordermill.errors import NotFound, OrdermillError, Refused, Transient
from ordermill.service.observe import ObserveRequests
from ordermill.service.surface import LimitBody

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
from .metrics import ConsoleMetrics
from .pages import HERE, Console, Notice, answer, page
from .security import Form, LoginNeeded, SecurityHeaders, Sessions, person

logger = structlog.get_logger(__name__)

_HTMX = "django_htmx/static/django_htmx"
"""The package is taken for the scripts in it; its Python is for Django and is never imported."""
SCRIPTS = {"htmx.js": f"{_HTMX}/htmx-2.min.js", "sse.js": f"{_HTMX}/ext/hx-sse-2.min.js"}


def application(console: Console, metrics: ConsoleMetrics) -> FastAPI:
    """The console's HTTP surface. Everything but `/login`, health and customers' links needs a session."""
    app = FastAPI(title="Ordermill console", version="1", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.console = console
    app.state.sessions = Sessions(console.settings)
    app.add_middleware(LimitBody)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(console.settings.hosts))
    app.add_middleware(ObserveRequests, metrics=metrics, api_token=console.platform.api_token.get_secret_value())
    app.add_exception_handler(LoginNeeded, _to_login)
    app.add_exception_handler(OrdermillError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(StarletteHTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    _scripts(app)
    _login(app)
    _operations(app, console, metrics)
    for pages in (
        queue, bulk, order, acting, stock, stock_work, routing, floor, floor_reports, returns, letters, machine,
        customer, reference,
    ):  # fmt: skip
        app.include_router(pages.router)
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

    @app.get("/login", summary="Log in, by the link that was printed at start or by hand")
    async def login(
        request: Request,
        token: Annotated[str, Query(max_length=200)] = "",
        name: Annotated[str, Query(max_length=200)] = "",
    ) -> Response:
        if token and app.state.sessions.right(token):
            return welcome(request, name)
        wrong = "That is not this installation's token: take the address that was printed at start." if token else ""
        return page(request, "login.html", 403 if token else 200, wrong=wrong)

    @app.post("/login", summary="Log in")
    async def enter(request: Request) -> Response:
        data = await request.form(max_files=0, max_fields=10)
        if app.state.sessions.right(str(data.get("token", ""))):
            return welcome(request, str(data.get("name", "")))
        return page(request, "login.html", 403, wrong="That is not this installation's token.")

    @app.post("/logout", summary="Log out")
    async def logout(form: Form) -> Response:
        sent = RedirectResponse("/login", 303)
        app.state.sessions.end(sent)
        return sent


def _operations(app: FastAPI, console: Console, metrics: ConsoleMetrics) -> None:
    @app.get("/healthz", summary="Alive")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", summary="Able to work")
    async def readyz(response: Response) -> dict[str, Any]:
        response.status_code = 200 if metrics.is_ready else 503
        return {"ready": metrics.is_ready}

    @app.get("/metrics", summary="Prometheus metrics")
    async def measured() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def _to_login(request: Request, error: Exception) -> Response:
    if request.headers.get("HX-Request") or request.headers.get("accept") == "text/event-stream":
        return Response(status_code=401, headers={"HX-Redirect": "/login"})
    return RedirectResponse("/login", 303)


def _problem(request: Request, status: int, title: str, detail: str) -> Response:
    """To a form: a notice on the page it is on. Else a page of its own."""
    if request.headers.get("HX-Request") and request.method == "POST":
        return answer(request, Notice("refused", detail), "/")
    if "text/html" not in request.headers.get("accept", "text/html") and "*/*" not in request.headers.get("accept", ""):
        return JSONResponse({"title": title, "status": status, "detail": detail}, status)
    return page(request, "problem.html", status, title=title, detail=detail)


async def _ours(request: Request, error: Exception) -> Response:
    match error:
        case NotFound():
            return _problem(request, 404, "Not here", str(error))
        case Refused():
            return _problem(request, 409, "Not done", str(error))
        case Transient():
            return _problem(request, 503, "Not just now", str(error))
        case _:
            return _problem(request, 422, "Not understood", str(error))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = "; ".join(f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors()[:3])
    return _problem(request, 422, "Not understood", faults)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    if error.status_code == 404:
        return _problem(request, 404, "Not here", "There is no such page. The queue has all orders.")
    return _problem(request, error.status_code, "Not done", str(error.detail))


async def _unexpected(request: Request, error: Exception) -> Response:
    logger.error("a request failed", path=request.url.path, exc_info=error)
    return HTMLResponse("<h1>A defect of ours</h1><p>The console's log has it.</p>", 500)
