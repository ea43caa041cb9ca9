"""The OpenAPI 3.1 document of a surface: what FastAPI knows of it, and the problems that it really answers with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field

Json = dict[str, Any]
METHODS = ("get", "put", "post", "patch", "delete")


class Fault(BaseModel):
    """One thing in a request that is not as expected."""

    at: str = Field(description="Where, such as `body.lines.0.quantity`.")
    fault: str


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    type: str = Field(description="`urn:ordermill:` and the code.")
    title: str
    status: int
    detail: str = Field(description="For people: which thing, what was expected, what to do.")
    code: str = Field(description="For programs: never changes its meaning.")
    faults: list[Fault] | None = Field(None, description="Set where the request has not the expected shape.")


WORDS = {
    400: "The request can't be read at all.",
    401: "The API token, or the signature, is missing or wrong.",
    404: "There is no such thing here.",
    409: "Refused: the thing is in no state for this.",
    413: "The body is too large.",
    422: "The request is not understood.",
    503: "Not now: try again.",
}


def problem_answer(status: int) -> Json:
    """What a document says of a problem; for routes whose problems do not follow from what they are."""
    return {
        "description": WORDS[status],
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def describe(
    app: FastAPI,
    description: str,
    models: Iterable[type[BaseModel]] = (Problem, Fault),
    responses: Callable[[str, str, Json], Json] | None = None,
) -> None:
    """Let `/openapi.json` of `app` tell what it does, problems included.

    `models` are what it answers problems with; `responses` says an operation's answers, by path and method.
    """

    def openapi() -> Json:
        if not app.openapi_schema:
            app.openapi_schema = _document(app, description, models, responses or _responses)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def allowed_methods(app: FastAPI, path: str) -> list[str]:
    """What may be asked of a path: by the most concrete template that it fits. Routes know only their own method."""
    fitting = [
        (len(re.sub(r"{.*?}", "", template)), [method.upper() for method in METHODS if method in methods])
        for template, methods in app.openapi()["paths"].items()
        if re.fullmatch(re.sub(r"\\{.*?\\}", ".+", re.escape(template)), path)
    ]
    return max(fitting)[1] if fitting else []


def _document(
    app: FastAPI, description: str, models: Iterable[type[BaseModel]], responses: Callable[[str, str, Json], Json]
) -> Json:
    document: Json = get_openapi(
        title=app.title, version="1.0.0", openapi_version="3.1.0", description=description, routes=app.routes
    )
    schemas: Json = document.setdefault("components", {}).setdefault("schemas", {})
    for generated in ("HTTPValidationError", "ValidationError"):
        schemas.pop(generated, None)
    for model in models:
        made = model.model_json_schema(ref_template="#/components/schemas/{model}")
        made.pop("$defs", None)
        schemas[model.__name__] = made
    for path, methods in document["paths"].items():
        for method in METHODS:
            if operation := methods.get(method):
                operation["responses"] = responses(path, method, operation)
    return document


def _responses(path: str, method: str, operation: Json) -> Json:
    told = {status: answer for status, answer in operation["responses"].items() if status != "422"}
    problems = {503} if "503" not in told else set()
    if operation.get("security"):
        problems.add(401)
    if "{" in path:
        problems.add(404)
    if method != "get":
        problems |= {400, 404, 409, 413}
    if operation.get("parameters") or "requestBody" in operation:
        problems.add(422)
    for answer in told.values():
        for content in answer.get("content", {}).values():
            open_up(content)
    return {str(status): problem_answer(status) for status in sorted(problems)} | told


def open_up(schema: Any) -> None:
    """Take `additionalProperties: false` away, at any depth."""
    if isinstance(schema, dict):
        if schema.get("additionalProperties") is False:
            del schema["additionalProperties"]
        for key, value in schema.items():
            if key not in ("default", "examples", "const", "enum"):
                open_up(value)
    elif isinstance(schema, list):
        for value in schema:
            open_up(value)
