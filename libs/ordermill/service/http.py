"""What a service's own routes are made of: who may ask, views to browse, answers and refusals."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Generic, Literal, TypeVar

import structlog
from fastapi import APIRouter, Depends, Header, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict

from ordermill.contracts.base import Fact, loads
from ordermill.errors import NotFound, OrdermillError
from ordermill.eventlog.engine import Outcome
from ordermill.eventlog.views import View

from .running import RunningService

logger = structlog.get_logger(__name__)

bearer = HTTPBearer(auto_error=False, description="The installation's API token.")


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
    repeated: bool = False
    """It was done before under the same id; nothing changed now."""
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
    return Done(events=events, repeated=outcome.repeated)
