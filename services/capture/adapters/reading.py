"""Bytes to text and JSON under limits, so that no payload costs more than its size."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime, tzinfo
from typing import Any

from .base import Unfit

MAX_DEPTH = 40
"""Far beyond any order; a bomb of brackets stops here."""
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
"""Ends with the text where a string does not, so that a bomb of quotes is read once and not from each quote."""
_BRACKETS = re.compile(r"[\[\]{}]")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_SKU = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,119}")
SAFE_YEARS = range(1970, 9000)


class Number(str):
    """A JSON number with a point or an exponent, kept as it was written."""

    __slots__ = ()


def utf8(payload: bytes) -> str:
    """Raises Unfit, naming UTF-16 where it is that."""
    if payload[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise Unfit("not-utf-8", "expected UTF-8 and found UTF-16. Save it as UTF-8")
    try:
        return payload.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unfit(
            "not-utf-8", f"expected UTF-8 and found something else at byte {error.start}. Save it as UTF-8"
        ) from None


def parse_json(text: str, *, exact: bool = True) -> Any:
    """The document in `text`; decimals as `Number`s if `exact`. Raises Unfit for what is no JSON or goes too deep.

    Stricter than JSON: no key twice, no NaN or Infinity, no integer beyond 64 bits.
    """
    depth = 0
    for bracket in _BRACKETS.finditer(_STRINGS.sub("", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > MAX_DEPTH:
            raise Unfit("too-deep", f"JSON nested more than {MAX_DEPTH} deep is no order. Send the order alone")
    try:
        return json.loads(
            text,
            parse_float=Number if exact else float,
            parse_int=_integer,
            parse_constant=_no_constant,
            object_pairs_hook=_each_key_once,
        )
    except json.JSONDecodeError as error:
        raise Unfit(
            "not-json", f"expected JSON, and at line {error.lineno}, column {error.colno}: {error.msg}. Send it whole"
        ) from None
    except RecursionError:
        raise Unfit("too-deep", "JSON nested too deep is no order. Send the order alone") from None


def _integer(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= (value := int(text)) < 2**64:
        raise Unfit("number-out-of-range", f"{text[:24]} is beyond 64 bits. Correct it at its source")
    return value


def _no_constant(text: str) -> None:
    raise Unfit("not-an-amount", f"{text} is no number in JSON. Correct it at its source")


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise Unfit("key-twice", f"the key {twice[:60]!r} stands twice in one object. Which is meant? Send it once")
    return made


def clean(value: object, limit: int = 500) -> str:
    """Text for people: no control characters, no space around it, at most `limit` long."""
    return _UNPRINTABLE.sub(" ", value).strip()[:limit] if isinstance(value, str) else ""


def sku_of(text: str, where: str) -> str:
    if not _SKU.fullmatch(text):
        raise Unfit(
            "bad-sku",
            f"expected a SKU of up to 64 letters, digits and . _ : / - and found {text[:70]!r}. "
            "Correct the SKU in the channel's catalog",
            where,
        )
    return text


def line_id_of(text: str, where: str) -> str:
    if not _ID.fullmatch(text):
        raise Unfit(
            "bad-line-id", f"expected letters, digits and . _ : - and found {text[:70]!r}. Number the lines", where
        )
    return text


def instant_of(text: object, what: str, zone: tzinfo | None = None) -> datetime:
    """An ISO 8601 instant in UTC; one without an offset is local to `zone`.

    Raises Unfit for anything else, for a local time without a zone, and for one that a clock change skipped. Of a
    local time that a clock change brought twice, the first is meant.
    """
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.year not in SAFE_YEARS:
        raise Unfit(
            "bad-time", f"expected {what} such as 2026-03-02T09:15:00-05:00 and found {str(text)[:40]!r}. Send ISO 8601"
        )
    if moment.tzinfo is not None:
        return moment.astimezone(UTC)
    if zone is None:
        raise Unfit(
            "no-offset", f"{what} {text!r} has no offset. Send one, or set the channel's zone (OMS_CAPTURE_ZONES)"
        )
    instant = moment.replace(tzinfo=zone).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) != moment:
        raise Unfit("skipped-time", f"{what} {text!r} never was: clocks in {zone} skipped it. Send the offset with it")
    return instant
