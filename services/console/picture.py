"""How every page's data is made: a picture folds what it is told into one document a key, and forgets no fact twice.

Facts of one stream come in order; those of different services in any order, and a broker that was emptied tells all
again. So `draw` must come to the same document in whichever order streams are interleaved, and never refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from ordermill.contracts.base import Message

from .told import Told


class Document(BaseModel):
    """What a picture keeps under one key. Unlike facts it may change its shape: it is drawn again from the topics."""

    model_config = ConfigDict(extra="ignore")


D = TypeVar("D", bound=Document)


@dataclass(frozen=True)
class Picture(Generic[D]):
    """One table of documents. Its migration has `key`, `doc` and a column for each of `columns`."""

    table: str
    document: type[D]
    messages: frozenset[type[Message]]
    keys: Callable[[Told], Iterable[str]]
    """The documents that a message of `messages` changes."""
    draw: Callable[[D, str, Told], None]
    """Fold one message into the document of this key, in place."""
    columns: Callable[[D], Mapping[str, Any]]
    """By column, what lists are filtered and sorted by."""
    names: Callable[[Told], Iterable[tuple[str, str]]] = lambda told: ()
    """(kind, value): ids in this message by which a person may look for its order."""
