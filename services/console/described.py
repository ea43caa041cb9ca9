"""What the console's OpenAPI document says beyond what routes tell by themselves: forms, streams, who may ask."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from ordermill.service import openapi
from ordermill.service.openapi import WORDS, Fault, Problem

Json = dict[str, Any]
ABOUT = (
    "Pages for people, and the forms on them. All but `/login`, health, metrics and customers' links need a session: "
    "log in, and send the cookie. A form sends back the `csrf` that its page holds (`/floor-session` tells it too) "
    "and, where it has one, the `form_id`: the same id twice is done once. A form is answered by a redirect to a page "
    "that says once what became of it; sent by htmx (`HX-Request: true`), by status 200 and that notice. Problems are "
    "pages, or as RFC 9457 tells where `Accept` asks for JSON."
)
_PAGE = {"text/html": {"schema": {"type": "string"}}}
_WORDS = WORDS | {
    400: "The request can't be read, or calls us by a host name that is not ours.",
    409: "Refused: the form is not from a page of this session, or the thing is in no state for this.",
}
_TO_LOGIN = "Not logged in: to `/login`."
_TOLD = "Back to a page, which says what became of it."


class EventStream(StreamingResponse):
    """Server-sent events, for routes' documents."""

    media_type = "text/event-stream"


class Csv(StreamingResponse):
    media_type = "text/csv"


class Script(Response):
    media_type = "text/javascript"


class Bytes(Response):
    media_type = "application/octet-stream"


class Measures(PlainTextResponse):
    """Prometheus' text format."""


PAPER: dict[int | str, Any] = {
    200: {"content": {kind: {"schema": {"type": "string"}} for kind in ("application/pdf", "application/zpl")}},
    409: {},
}
"""The answers of a route that shows a label or packing slip."""


class What(BaseModel):
    """What became of a report, to a device that asks for JSON."""

    kind: Literal["done", "same", "refused"]
    text: str


_WHAT: Json = {"application/json": {"schema": {"$ref": "#/components/schemas/What"}}}
TOLD: dict[int | str, Any] = {200: {"content": _WHAT}, 409: {"content": _PAGE | _WHAT}}
"""The answers of a report from the floor."""
REFUSES: dict[int | str, Any] = {409: {}}
"""The answers of a page for which a service is asked."""
ELSEWHERE: dict[int | str, Any] = {303: {"description": "To the page of the one thing that was meant."}}
"""The answers of a page that may send its reader on."""


def form(
    *needed: str, csrf: bool = True, form_id: bool = True, others: str = "", **fields: str | list[str] | Json
) -> Json:
    """A form for `openapi_extra`: what each field means, or the choices it has, or its schema.

    `needed`: those that must be there. `others`: fields whose names hold an id, in words.
    """
    properties: Json = {}
    if csrf:
        properties["csrf"] = {"type": "string", "description": "As the page that the form is on has it."}
        needed = ("csrf", *needed)
    if form_id:
        pattern = "^[A-Za-z0-9-]*[A-Za-z0-9][A-Za-z0-9-]*$"
        told = "Made anew for each form shown; the same twice is done once."
        length = {"minLength": 16, "maxLength": 64}
        properties["form_id"] = {"type": "string", "pattern": pattern, **length, "description": told}
        needed = ("form_id", *needed)
    for name, about in fields.items():
        if isinstance(about, str):
            properties[name] = {"type": "string", "description": about}
        else:
            properties[name] = {"type": "string", "enum": about} if isinstance(about, list) else about
    schema = {"type": "object", "properties": properties, "required": sorted(needed)}
    if others:
        schema["additionalProperties"] = {"type": "string", "description": others}
    return {"requestBody": {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": schema}}}}


def several(about: str, most: int | None = None) -> Json:
    """A field that a form may hold more than once."""
    one = {"type": "string"}
    limits = {"minItems": 1} | ({"maxItems": most} if most else {})
    return {"anyOf": [{"type": "array", "items": one, **limits}, one], "description": about}


def describe(app: FastAPI) -> None:
    """Let `app.openapi()` tell what the console does."""
    openapi.describe(app, ABOUT, (Problem, Fault, What), _responses)


def _responses(path: str, method: str, operation: Json) -> Json:
    told = {status: answer for status, answer in operation["responses"].items() if status != "422"}
    problems = {400} | {int(status) for status, answer in told.items() if not answer.get("content") and status > "399"}
    if "409" in told:  # beside what it is told in
        told["409"] = _problem(409) | {"content": _problem(409)["content"] | told["409"].get("content", {})}
    is_about_one = "{" in path
    if is_about_one:
        problems.add(404)
    if "requestBody" in operation:
        problems.add(413)
    if "security" in operation or is_about_one:
        problems |= {409, 422, 503} if "requestBody" in operation else {503}
    if operation.get("parameters"):
        problems.add(422)
    known = {int(status) for status, answer in told.items() if answer.get("content")}
    found = told | {str(status): _problem(status) for status in problems - known}
    goes = [found.get("303", {}).get("description", _TOLD if "requestBody" in operation else "")]
    if "security" in operation:
        goes.append(_TO_LOGIN)
        header = {"HX-Redirect": {"required": True, "schema": {"type": "string"}, "description": "`/login`."}}
        found["401"] = {"description": "Not logged in, asked by htmx or for a stream.", "headers": header}
    if where := " ".join(filter(None, goes)):
        header = {"Location": {"required": True, "schema": {"type": "string"}}}
        found["303"] = {"description": where, "headers": header}
    return dict(sorted(found.items()))


def _problem(status: int) -> Json:
    as_json = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": _WORDS[status], "content": _PAGE | as_json}
