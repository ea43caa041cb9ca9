"""Documents of pictures, now or as soon as a fact that is on its way has reached them."""

# Only names fixed in code are ever put into SQL text; values are arguments.
# ruff: noqa: S608

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from .pages import Console
from .picture import Document, Picture

D = TypeVar("D", bound=Document)


async def document(this: Console, picture: Picture[D], key: str) -> D | None:
    """What is known under this key."""
    doc = await this.pool.fetchval(f"SELECT doc FROM {picture.table} WHERE key = $1", key)
    return None if doc is None else picture.document.model_validate_json(doc)


async def document_when(
    this: Console, picture: Picture[D], key: str, so: Callable[[D], bool], timeout_s: float = 3.0
) -> D | None:
    """The document once it is `so`; as it is then if that takes longer: facts come over the topics."""
    until = asyncio.get_running_loop().time() + timeout_s
    with this.live.watch(f"{picture.table}:{key}") as watcher:
        while True:
            found = await document(this, picture, key)
            left = until - asyncio.get_running_loop().time()
            if (found is not None and so(found)) or left <= 0:
                return found
            await watcher.news(min(left, 0.5))
