"""Real samples made wrong: bytes anywhere, or whole tokens and parts of a tree, so that more of it stays right."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

_TOKEN = re.compile(rb"[A-Za-z0-9_.-]+|\s+|.", re.DOTALL)
ODD = (
    b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3", "é\u2028\u202e".encode(), b"\\ud800", b"\\u0000", b"\x1a", b"\r",
    b"\n", b"\t", b"\xa0", b'"', b"'", b"\\", b"*", b"~", b">", b",", b";", b"=", b"[", b"]", b"{", b"}", b"[[", b"#",
    b"0", b"-0", b"-1", b"1.5", b".5", b"1e999", b"1e-999", b"NaN", b"-Infinity", b"nan", b"inf", b"9" * 25,
    b"9" * 5_000, b"9223372036854775808", b"0x7f", b"null", b"true", b"[]", b"{}", b'""', b"[" * 3_000,
    b'{"a":' * 3_000, b"0000-00-00", b"9999-12-31T23:59:59Z", b"9999-12-31T23:59:59-23:59",
    b"0001-01-01T00:00:00+14:00", b"20260230", b"2026-03-08T02:30:00", b"24:00:00", "١٢٣".encode(), "²".encode(),
    b"A" * 2_000, b" " * 300, b"../../etc/passwd",
)  # fmt: skip
"""What parsers are known to trip over."""

_places = st.integers(0, 2**24)
_texts = st.text(max_size=20) | st.sampled_from(
    ["", "\0", "\ud800", "é" * 300, "9" * 30, "9" * 5_000, "1e5", "-1", "NaN", "9999-12-31T23:59:59-23:59", "A" * 3_000]
)
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([0, -1, 2**31, 2**53, 2**63, 10**400])
    | st.floats()
    | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)


def wrong(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Inputs near to `seeds`, in all ways."""
    ways = [_bytes(seeds), _tokens(seeds)]
    trees = [tree for tree in map(_tree, seeds) if tree is not None]
    if trees:
        ways.append(_trees(trees))
    return st.one_of(*ways)


def _bytes(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    piece = st.sampled_from(ODD) | st.binary(max_size=8)
    change = st.tuples(st.sampled_from(_CHANGES), _places, st.integers(0, 64), piece)
    return st.builds(_changed, st.sampled_from(seeds), st.lists(change, max_size=6)) | st.binary(max_size=200)


def _tokens(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    split = [_TOKEN.findall(seed) for seed in seeds]
    words = sorted({word for tokens in split for word in tokens})
    piece = (st.sampled_from(words) | st.sampled_from(ODD)).map(lambda word: [word])
    change = st.tuples(st.sampled_from(_CHANGES), _places, st.integers(0, 12), piece)
    return st.builds(_changed, st.sampled_from(split), st.lists(change, min_size=1, max_size=6)).map(b"".join)


def _replaced(before: Any, at: int, count: int, piece: Any) -> Any:
    return before[:at] + piece + before[at + max(count, 1) :]


def _inserted(before: Any, at: int, _: int, piece: Any) -> Any:
    return before[:at] + piece + before[at:]


def _dropped(before: Any, at: int, count: int, _: Any) -> Any:
    return before[:at] + before[at + count :]


def _doubled(before: Any, at: int, count: int, _: Any) -> Any:
    return before[: at + count] + before[at:]


def _cut_off(before: Any, at: int, _: int, __: Any) -> Any:
    return before[:at]


_CHANGES: list[Callable[[Any, int, int, Any], Any]] = [_replaced, _inserted, _dropped, _doubled, _cut_off]


def _changed(before: Any, changes: Sequence[tuple[Callable[[Any, int, int, Any], Any], int, int, Any]]) -> Any:
    for change, place, count, piece in changes:
        before = change(before, place % (len(before) + 1), count, piece)
    return before


Tree = tuple[bytes, Any]
"""What stands before the JSON, and the JSON."""


def _tree(seed: bytes) -> Tree | None:
    head, newline, rest = seed.partition(b"\n")
    for before, text in ((b"", seed), (head + newline, rest)):
        try:
            return before, json.loads(text)
        except ValueError:
            continue
    return None


def _trees(trees: Sequence[Tree]) -> st.SearchStrategy[bytes]:
    change = st.tuples(_places, st.sampled_from(["set", "drop", "swap", "add"]), _values, _places)
    return st.builds(_grafted, st.sampled_from(trees), st.lists(change, min_size=1, max_size=4))


def _grafted(tree: Tree, changes: Sequence[tuple[int, str, Any, int]]) -> bytes:
    before, content = tree[0], json.loads(json.dumps(tree[1]))
    for place, how, value, other in changes:
        spots = list(_spots(content))
        if not spots:
            break
        owner, key = spots[place % len(spots)]
        if how == "drop":
            del owner[key]
        elif how == "swap":
            their, name = spots[other % len(spots)]
            owner[key] = json.loads(json.dumps(their[name]))
        elif how == "add" and isinstance(owner, dict):
            owner[f"{key}_2"] = value
        else:
            owner[key] = value
    text = json.dumps(content, ensure_ascii=bool(len(changes) % 2))
    return before + text.encode(errors="surrogatepass")


def _spots(content: Any) -> Any:
    """Each place in a tree that holds something: its owner and its key there."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, inner in list(pairs):
        yield content, key
        yield from _spots(inner)
