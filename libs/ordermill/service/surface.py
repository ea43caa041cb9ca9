"""A service's HTTP surface: its own routes, health, metrics and dead letters; problems as RFC 9457 tells."""

from __future__ import annotations

from typing import Any, Literal

import structlog
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ordermill.errors import NotFound, OrdermillError, Poison, Refused, Transient

from .http import Running
from .letters import router as letters
from .observe import ObserveRequests, route_of
from .openapi import allowed_methods, describe
from .running import RunningService

logger = structlog.get_logger(__name__)
MAX_BODY_BYTES = 1_000_000


def problem(status: int, title: str, detail: str, code: str, **more: Any) -> JSONResponse:
    """Problem details (RFC 9457). `code` is stable, `detail` is for people."""
    headers = {"Retry-After": "1"} if status == 503 else None
    body = {
        "type": f"urn:ordermill:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        **more,
    }
    return JSONResponse(body, status, headers, media_type="application/problem+json")


class LimitBody:
    """Refuses bodies beyond the limit before anyone reads them whole."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MAX_BODY_BYTES:
                raise _TooLarge
            return message

        await self.app(scope, limited, send)


class _TooLarge(HTTPException):
    """FastAPI answers 400 to whatever goes wrong while it reads a body, but lets its own exceptions through."""

    def __init__(self) -> None:
        super().__init__(413, f"a body may have {MAX_BODY_BYTES:,} bytes")


CONNECTION_ENDS = {"Connection": "close"}
"""Uvicorn ends the connection on which a defect was answered: clients are told, or their next request is lost."""


def application(service: RunningService, api_token: str) -> FastAPI:
    """The service's HTTP surface."""
    app = FastAPI(
        title=f"Ordermill {service.service.name}",
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.running = service
    app.state.api_token = api_token
    app.add_middleware(LimitBody)
    app.add_middleware(ObserveRequests, metrics=service.metrics, api_token=api_token)
    app.add_exception_handler(OrdermillError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(_TooLarge, _too_large)
    app.add_exception_handler(StarletteHTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)
    app.include_router(_operations)
    app.include_router(letters)
    if service.service.routes is not None:
        app.include_router(service.service.routes)
    describe(app, f"What {service.service.name} shows and takes. Problems are answered as RFC 9457 tells.")
    return app


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, OrdermillError)
    match error:
        case NotFound():
            return problem(404, "Not found", str(error), error.code)
        case Refused():
            return problem(409, "Refused", str(error), error.code)
        case Poison():
            return problem(422, "Not understood", str(error), error.code)
        case Transient():
            return problem(503, "Not now", str(error), error.code)
        case _:
            return problem(500, "Unexpected", str(error), error.code)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [{"at": _encodable(".".join(map(str, e["loc"]))), "fault": _encodable(e["msg"])} for e in error.errors()]
    return problem(
        422, "Not understood", "the request does not have the expected shape", "http.invalid", faults=faults[:20]
    )


def _encodable(text: str) -> str:
    """Half a surrogate pair may stand in JSON that came in, but in none that goes out."""
    return text.encode(errors="replace").decode()


async def _too_large(request: Request, error: Exception) -> Response:
    assert isinstance(error, _TooLarge)
    return problem(413, "Too large", error.detail, "http.too-large")


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    answer = problem(error.status_code, "Refused", str(error.detail), f"http.{error.status_code}")
    answer.headers.update(error.headers or {})
    if error.status_code == 405:
        answer.headers["Allow"] = ", ".join(allowed_methods(request.app, request.url.path))
    return answer


async def _unexpected(request: Request, error: Exception) -> Response:
    logger.error("a request failed", route=route_of(request.scope), exc_info=error)
    answer = problem(500, "Unexpected", "a defect of ours; the log has it", "http.unexpected")
    answer.headers.update(CONNECTION_ENDS)
    return answer


_operations = APIRouter()


class Alive(BaseModel):
    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """Whether the service can work, and what is missing if not."""

    ready: bool
    database: bool
    consuming: bool


@_operations.get("/healthz", summary="Alive")
async def healthz() -> Alive:
    return Alive()


@_operations.get("/readyz", summary="Able to work", responses={503: {"model": Ready, "description": "Not able now."}})
async def readyz(service: Running, response: Response) -> Ready:
    ready = service.healthy and service.consuming
    response.status_code = 200 if ready else 503
    return Ready(ready=ready, database=service.healthy, consuming=service.consuming)


class PlainText(Response):
    media_type = "text/plain"


@_operations.get("/metrics", summary="Prometheus metrics", response_class=PlainText)
async def metrics(service: Running) -> Response:
    service.metrics.ready.set(1 if service.healthy and service.consuming else 0)
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)
