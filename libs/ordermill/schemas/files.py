"""What `schemas/` must hold, as bytes by path; and putting it there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ordermill.contracts.headers import FactHeaders, OutsideHeaders, StateHeaders
from ordermill.names import SERVICES, SURFACES

from .asyncapi import asyncapi
from .messages import all_types, document, message_schema, old_versions
from .surfaces import declared, surface

Json = dict[str, Any]
FOLDER = Path("schemas")
HEADERS: dict[str, type[BaseModel]] = {"fact": FactHeaders, "outside": OutsideHeaders, "state": StateHeaders}
GENERATED = ("messages", "headers", "asyncapi", "openapi")


class OldVersionLost(Exception):
    """The schema of an old version is gone; it can't be made again, for the model is of the newest."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"schemas/messages/{name}.json is gone, and {name} may still lie in logs. The model only knows a newer "
            f"version: take the file back with git (git log --all -- schemas/messages/{name}.json)"
        )


def read_examples(folder: Path) -> dict[str, Json]:
    """Real messages by type."""
    return {path.stem: json.loads(path.read_bytes()) for path in sorted((folder / "examples").glob("*.json"))}


def generate(folder: Path) -> dict[str, Json]:
    """Every document by its path within `schemas/`. Old versions are taken over from `folder` as they are.

    Raises OldVersionLost.
    """
    examples = read_examples(folder)
    made: dict[str, Json] = {}
    for message in all_types():
        example = examples.get(message.type)
        made[f"messages/{message.type}.json"] = message_schema(message, example and example["data"])
        for name in old_versions(message):
            path = f"messages/{name}.json"
            if not (folder / path).exists():
                raise OldVersionLost(name)
            made[path] = json.loads((folder / path).read_bytes())
    for kind, model in HEADERS.items():
        made[f"headers/{kind}.json"] = document(model, f"headers.{kind}", is_open=True)
    for service in SERVICES:
        made[f"asyncapi/{service}.json"] = asyncapi(declared(service), examples)
    for name in SURFACES:
        made[f"openapi/{name}.json"] = surface(name).openapi()
    return made


def read(folder: Path) -> dict[str, Json]:
    """The documents that stand there now."""
    return {
        f"{part}/{path.name}": json.loads(path.read_bytes())
        for part in GENERATED
        for path in sorted((folder / part).glob("*.json"))
    }


def write(folder: Path, made: dict[str, Json]) -> list[str]:
    """Write what differs, remove what is not made any more; the paths that changed."""
    changed = []
    for path in sorted(set(read(folder)) - set(made)):
        (folder / path).unlink()
        changed.append(path)
    for path, content in sorted(made.items()):
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        target = folder / path
        if not target.exists() or target.read_text() != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            changed.append(path)
    return changed
