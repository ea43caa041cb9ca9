"""What other programs may rely on, for people to read: the files of `schemas/` as pages, with real messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from ordermill.errors import NotFound
from ordermill.schemas.compare import resolve

from .pages import page
from .security import Me

router = APIRouter(prefix="/reference")
SCHEMAS = Path(__file__).parents[2] / "schemas"
Json = dict[str, Any]


class NotPublished(NotFound):
    """A page of the reference that there is not."""

    code = "console.not-published"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what[:120]!r} is not published: /reference lists what is")


@dataclass(frozen=True, slots=True)
class Field:
    """One row of a table of fields; `path` as in `lines[].sku`."""

    path: str
    kind: str
    needed: bool
    rules: str
    about: str
    personal: str


@dataclass(frozen=True, slots=True)
class Carried:
    """Who does what with a message: `sends` or `receives`, on which topic."""

    service: str
    verb: str
    topic: str


@cache
def read(path: str) -> Json:
    """A file of `schemas/`. Raises NotPublished."""
    known = {each.relative_to(SCHEMAS).as_posix() for each in SCHEMAS.glob("*/*.json")}
    if path not in known:
        raise NotPublished(path)
    found: Json = json.loads((SCHEMAS / path).read_bytes())
    return found


@cache
def names(part: str) -> list[str]:
    return sorted(each.stem for each in (SCHEMAS / part).glob("*.json"))


@cache
def carriers() -> dict[str, list[Carried]]:
    """By message: the services that send and receive it."""
    found: dict[str, list[Carried]] = {}
    for service in names("asyncapi"):
        for operation in read(f"asyncapi/{service}.json")["operations"].values():
            topic = operation["channel"]["$ref"].rpartition("/")[2]
            for each in operation["messages"]:
                name = each["$ref"].rpartition("/")[2]
                found.setdefault(name, []).append(Carried(service, f"{operation['action']}s", topic))
    return found


def fields(root: Json, schema: Json, path: str = "", seen: tuple[str, ...] = ()) -> Iterator[Field]:
    """Every field of a schema, those of its parts below it."""
    needed = set(schema.get("required", ()))
    for name, raw in schema.get("properties", {}).items():
        at = f"{path}.{name}" if path else name
        yield from _field(root, raw, at, name in needed, seen)


def _field(root: Json, raw: Json, at: str, needed: bool, seen: tuple[str, ...]) -> Iterator[Field]:
    whole = resolve(root, raw)
    parts = [resolve(root, each) for each in whole.get("anyOf") or whole.get("oneOf") or ()] or [whole]
    real = [each for each in parts if each.get("type") != "null"]
    kind = " or ".join(dict.fromkeys(_kind(root, each) for each in parts))
    about = str(raw.get("description") or whole.get("description") or "")
    personal = next((str(each["x-personal-data"]) for each in (whole, *real) if "x-personal-data" in each), "")
    yield Field(at, kind, needed, "; ".join(filter(None, (_rules(each) for each in real))), about, personal)
    reference = json.dumps(raw, sort_keys=True)
    if reference not in seen:
        for each in real:
            yield from _inner(root, each, at, (*seen, reference))


def _inner(root: Json, schema: Json, at: str, seen: tuple[str, ...]) -> Iterator[Field]:
    yield from fields(root, schema, at, seen)
    for inside, suffix in ((schema.get("items"), "[]"), (schema.get("additionalProperties"), ".*")):
        if isinstance(inside, dict):
            yield from _inner(root, resolve(root, inside), at + suffix, seen)


def _kind(root: Json, schema: Json) -> str:
    if "const" in schema:
        return f"“{schema['const']}”"
    if schema.get("type") == "array" and isinstance(schema.get("items"), dict):
        return f"list of {_kind(root, resolve(root, schema['items']))}"
    if schema.get("format") == "date-time":
        return "instant"
    return str(schema.get("title") or schema.get("type") or "anything")


def _rules(schema: Json) -> str:
    words = [
        f"{label} {schema[keyword]:,}"
        for keyword, label in (
            ("minimum", "at least"), ("maximum", "at most"), ("minItems", "at least"), ("maxItems", "at most"),
            ("maxLength", "up to"),
        )
        if keyword in schema
    ]  # fmt: skip
    if "enum" in schema:
        words.append(", ".join(map(str, schema["enum"])))
    if "pattern" in schema and "\\u0000" not in schema["pattern"]:
        words.append(schema["pattern"])
    return "; ".join(words)


@router.get("", summary="What other programs may rely on")
async def index(request: Request, me: Me) -> Response:
    services = {name: read(f"asyncapi/{name}.json") for name in names("asyncapi")}
    surfaces = {name: read(f"openapi/{name}.json") for name in names("openapi")}
    return page(request, "reference/index.html", services=services, surfaces=surfaces)


@router.get("/topics/{service}", summary="A service's topics")
async def topics(request: Request, me: Me, service: str) -> Response:
    document = read(f"asyncapi/{service}.json")
    done: dict[str, list[str]] = {}
    for operation in document["operations"].values():
        done.setdefault(operation["channel"]["$ref"].rpartition("/")[2], []).append(operation["action"])
    return page(request, "reference/topics.html", service=service, document=document, done=done)


@router.get("/messages/{name}", summary="A message: fields, headers, an example")
async def message(request: Request, me: Me, name: str) -> Response:
    schema = read(f"messages/{name}.json")
    carried = carriers().get(name, [])
    document = read(f"asyncapi/{carried[0].service}.json") if carried else {}
    told = document["components"]["messages"][name] if carried else {"headers": {"allOf": []}}
    headers = [read(each["$ref"].removeprefix("../")) for each in told["headers"]["allOf"]]
    example = read(f"examples/{name}.json") if name in names("examples") else None
    return page(
        request,
        "reference/message.html",
        name=name,
        schema=schema,
        carried=carried,
        key=told["bindings"]["kafka"]["key"]["description"] if carried else "",
        fields=list(fields(schema, schema)),
        headers=[each for schema in headers for each in fields(schema, schema)],
        example=example and {part: pretty(example[part]) for part in ("key", "headers", "data")},
    )


@router.get("/http/{surface}", summary="An HTTP surface: what may be asked, what is answered")
async def http(request: Request, me: Me, surface: str) -> Response:
    document = read(f"openapi/{surface}.json")
    operations = [
        _operation(document, path, method, told)
        for path, methods in document["paths"].items()
        for method, told in methods.items()
    ]
    return page(request, "reference/http.html", surface=surface, document=document, operations=operations)


def _operation(document: Json, path: str, method: str, told: Json) -> Json:
    body = next((each["schema"] for each in told.get("requestBody", {}).get("content", {}).values()), None)
    return {
        "method": method.upper(),
        "path": path,
        "told": told,
        "parameters": [
            next(_field(document, each["schema"], each["name"], each.get("required", False), ()))
            for each in told.get("parameters", ())
        ],
        "body": list(_inner(document, resolve(document, body), "", ())) if body else [],
        "example": _example(document, body),
        "answers": {
            status: [
                (kind, _kind(document, resolve(document, content.get("schema", {}))))
                for kind, content in answer.get("content", {}).items()
            ]
            for status, answer in told["responses"].items()
        },
    }


def _example(document: Json, body: Json | None) -> str | None:
    """A real message, where the body is one or a list of some."""
    if body is None:
        return None
    schema = resolve(document, body)
    several = schema.get("type") == "array"
    title = resolve(document, schema["items"] if several else schema).get("title")
    for name in names("examples"):
        if read(f"messages/{name}.json")["title"] == title:
            data = read(f"examples/{name}.json")["data"]
            return pretty([data] if several else data)
    return None


@router.get("/files/{part}/{name}", summary="A file as it is published", response_class=JSONResponse)
async def file(me: Me, part: str, name: str) -> Response:
    return Response(pretty(read(f"{part}/{name}")), media_type="application/json")


def pretty(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False)
