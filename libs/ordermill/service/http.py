"""The HTTP side of a service: FastAPI with RFC 9457 problem details, health, metrics, and views to browse."""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

import structlog
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ordermill.contracts.base import Fact, decode, loads
from ordermill.contracts.fields import Text
from ordermill.contracts.service import DeadLettered, LetterDropped
from ordermill.errors import NotFound, OrdermillError, Poison, Refused, Transient
from ordermill.eventlog.engine import Outcome
from ordermill.eventlog.records import Row
from ordermill.eventlog.views import View

from . import deadletters
from .deadletters import LETTER_VIEW, LETTERS
from .observe import ObserveRequests
from .openapi import allowed_methods, describe
from .running import RunningService

logger = structlog.get_logger(__name__)

MAX_BODY_BYTES = 1_000_000
bearer = HTTPBearer(auto_error=False, description="The installation's API token.")


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


async def running(request: Request) -> RunningService:
    """The service that this request came to."""
    return request.app.state.running  # type: ignore[no-any-return]


Running = Annotated[RunningService, Depends(running)]


async def check_token(
    request: Request,
    shown: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    named: Annotated[str, Header(alias="X-Actor", description="Who acts, for the record.")] = "api",
    kind: Annotated[
        Literal["user", "customer"], Header(alias="X-Actor-Kind", description="A customer acts without a name.")
    ] = "user",
) -> str:
    """Only who shows the token may pass. Returns the actor: `user:<X-Actor>`, or `customer` for one without a name."""
    expected: str = request.app.state.api_token
    if shown is None or not hmac.compare_digest(shown.credentials.encode(), expected.encode()):
        raise HTTPException(401, "show the API token: Authorization: Bearer …", {"WWW-Authenticate": "Bearer"})
    if kind == "customer":
        return "customer"
    return f"user:{named[:80]}" if named.isprintable() else "user:api"


Actor = Annotated[str, Depends(check_token)]
IdempotencyKey = Annotated[str | None, Header(max_length=200, description="The same key twice is done once.")]


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
    app.include_router(_letters)
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
    logger.error("a request failed", path=request.url.path, exc_info=error)
    return problem(500, "Unexpected", "a defect of ours; the log has it", "http.unexpected")


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


class Answer(BaseModel):
    """A part of what is answered. Readers must let fields pass that they do not know."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Document(Answer):
    """One document of a view."""

    key: str


D = TypeVar("D", bound=Document)


class Page(BaseModel, Generic[D]):
    """One page of a view; ask again with `after` = `next` until it is null."""

    items: list[D]
    next: str | None


WITHOUT_NUL = r"^[^\u0000]*$"
"""PostgreSQL's text can't hold the character."""

Key = Annotated[str, Path(max_length=1_000, pattern=WITHOUT_NUL)]


class _JsonRequest(Request):
    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = loads(await self.body())
        return self._json


class _Route(APIRoute):
    """Reads JSON as contracts do."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def reading_json(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return reading_json


def new_router() -> APIRouter:
    """For a service's own routes."""
    return APIRouter(route_class=_Route)


def browse(router: APIRouter, path: str, view: View, answer: type[Document], any_key: bool = False) -> None:
    """`GET path` lists a view, filtered by its indexed fields; `GET path/{key}` shows one document, an `answer`.

    `any_key`: keys may hold slashes, as SKUs do; then no other route may begin with `path/`.
    """
    filters = [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string", "pattern": WITHOUT_NUL}}
        for name in view.indexed
    ]

    @router.get(
        path,
        summary=f"List {view.name}",
        name=f"list_{view.name}",
        response_model=Page[answer],  # type: ignore[valid-type]
        openapi_extra={"parameters": filters},
    )
    async def list_documents(
        request: Request,
        service: Running,
        _: Actor,
        after: Annotated[str, Query(max_length=1_000, pattern=WITHOUT_NUL)] = "",
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    ) -> Response:
        where = {name: value for name, value in request.query_params.items() if name in view.indexed}
        unknown = set(request.query_params) - set(view.indexed) - {"after", "limit"}
        if unknown:
            raise HTTPException(422, f"no filter {sorted(unknown)[0]!r} here; there are: {', '.join(view.indexed)}")
        found = await service.engine.store.documents(view.name, where, after, limit)
        return shown(
            {
                "items": [{"key": key, **document} for key, document in found],
                "next": found[-1][0] if len(found) == limit else None,
            }
        )

    @router.get(
        path + ("/{key:path}" if any_key else "/{key}"),
        summary=f"Show one of {view.name}",
        name=f"show_{view.name}",
        response_model=answer,
    )
    async def show_document(key: Key, service: Running, _: Actor) -> Response:
        return shown(await document_or_404(service, view, key))


def shown(content: Any, status: int = 200) -> Response:
    """An answer as it is: views hold JSON, whose shape the route's `response_model` tells."""
    return JSONResponse(content, status)


async def document_or_404(service: RunningService, view: View, key: str) -> dict[str, Any]:
    found = await service.engine.store.document(view.name, key)
    if found is None:
        raise NotHere(view.category, key)
    return {"key": key, **found}


class NotHere(NotFound):
    """Asked for something that this service has no record of."""

    def __init__(self, what: str, key: str) -> None:
        super().__init__(f"no {what} {key[:120]!r} here")


class Done(BaseModel):
    """What became of one request of several: the types of its events; or a refusal, and nothing changed."""

    events: list[str] = []
    code: str | None = None
    detail: str | None = None


def done(outcome: Outcome, *refusals: type[Fact]) -> Done:
    """An outcome as an answer. An event of one of `refusals` is a refusal too, with that event's reason."""
    if isinstance(outcome.error, OrdermillError):
        return Done(code=outcome.error.code, detail=str(outcome.error))
    if outcome.error is not None:
        return Done(code="http.unexpected", detail="a defect of ours; the log has it")
    events = [event.type for _, event in outcome.events]
    for _, event in outcome.events:
        if isinstance(event, refusals):
            return Done(events=events, code=event.type, detail=str(getattr(event, "reason", "")))
    return Done(events=events)


# Dead letters

_letters = APIRouter()
LetterId = Annotated[str, Path(max_length=120, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")]
LETTER_BYTES_SHOWN = 64 * 1024


class LetterEnd(BaseModel):
    """Who ended a dead letter's wait, when, and with which words."""

    by: str
    at: datetime
    note: str = ""


class LetterShown(BaseModel):
    """One dead letter, the reason and the headers whole, of its body the first 64 KiB."""

    status: Literal["waiting", "redriven", "dropped"]
    kept_at: datetime
    letter: DeadLettered
    body_base64: str
    end: LetterEnd | None = None


class DropRequest(BaseModel):
    """Why it needs no handling, for those who look at it later."""

    note: Text


class LetterDocument(Document):
    """A dead letter as lists show it; `key` is its id."""

    status: Literal["waiting", "redriven", "dropped"]
    letter_id: str
    source_topic: str
    partition: int
    offset: int
    message_type: str
    message_id: str
    code: str
    reason: str
    attempts: int
    size: int
    sha256: str


@_letters.get("/letters", summary="List dead letters")
async def list_letters(
    service: Running,
    _: Actor,
    status: Literal["waiting", "redriven", "dropped", "all"] = "waiting",
    after: Annotated[str, Query(max_length=200, pattern=WITHOUT_NUL)] = "",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> Page[LetterDocument]:
    where = {} if status == "all" else {"status": status}
    found = await service.engine.store.documents(LETTER_VIEW.name, where, after, limit)
    items = [LetterDocument(key=key, **document) for key, document in found]
    return Page(items=items, next=found[-1][0] if len(found) == limit else None)


@_letters.get("/letters/{letter_id}", summary="Show a dead letter")
async def show_letter(letter_id: LetterId, service: Running, _: Actor) -> LetterShown:
    rows, state = await _letter(service, letter_id)
    assert state.letter is not None
    body = await deadletters.body_of(service.engine.store, state.letter)
    end = None
    if state.status != "waiting":
        ended = decode(rows[-1].type, rows[-1].data)
        note = ended.note if isinstance(ended, LetterDropped) else ""
        end = LetterEnd(by=rows[-1].actor, at=rows[-1].recorded_at, note=note)
    return LetterShown(
        status=state.status,
        kept_at=rows[0].recorded_at,
        letter=state.letter.model_copy(update={"value_base64": None}),
        body_base64=b64encode(body[:LETTER_BYTES_SHOWN]).decode(),
        end=end,
    )


@_letters.get("/letters/{letter_id}/body", summary="A dead letter's body, byte for byte", response_class=Response)
async def letter_body(letter_id: LetterId, service: Running, _: Actor) -> Response:
    _rows, state = await _letter(service, letter_id)
    assert state.letter is not None
    body = await deadletters.body_of(service.engine.store, state.letter)
    return Response(body, media_type="application/octet-stream")


@_letters.post("/letters/{letter_id}/redrive", summary="Handle a dead letter after all")
async def redrive_letter(letter_id: LetterId, service: Running, actor: Actor) -> Done:
    """By the service's own rules, in one transaction with the note of it. What fails again stays, and says why."""
    await _letter(service, letter_id)
    try:
        return done(await service.redrive(letter_id, actor))
    except Exception as error:
        if not isinstance(error, OrdermillError):
            logger.exception("a letter could not be redriven", letter_id=letter_id)
        return done(Outcome(error=error))


@_letters.post("/letters/{letter_id}/drop", summary="Decide that a dead letter needs no handling")
async def drop_letter(letter_id: LetterId, request: DropRequest, service: Running, actor: Actor) -> Done:
    """It stays in the log, with the note."""
    await _letter(service, letter_id)
    (outcome,) = await service.execute_many([((deadletters.drop(letter_id, request.note),), None)], actor)
    return done(outcome)


async def _letter(service: RunningService, letter_id: str) -> tuple[list[Row], deadletters.Letter]:
    rows = await service.engine.store.read_stream(LETTERS.stream(letter_id))
    state = LETTERS.fold(decode(row.type, row.data) for row in rows)
    if state.letter is None:
        raise NotHere("dead letter", letter_id)
    return rows, state
