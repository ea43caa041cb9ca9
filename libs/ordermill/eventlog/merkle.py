"""A tree of SHA-256 over events, as RFC 9162 (2.1) builds it: one root stands for all leaves in their order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Literal, NamedTuple


class Step(NamedTuple):
    """The sibling on the way from a leaf to the root, and the side on which it stands."""

    side: Literal["left", "right"]
    hash: bytes


def leaf(seq: int, event_hash: bytes) -> bytes:
    """The leaf of the event with this number: sha256(00 ‖ number in eight bytes, big-endian ‖ hash of the event)."""
    return sha256(b"\0" + seq.to_bytes(8, "big") + event_hash).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Of at least one leaf. A node is sha256(01 ‖ left ‖ right); one that is left over at the end goes up as it is."""
    level = list(leaves)
    while len(level) > 1:
        level = _above(level)
    return level[0]


def path(leaves: Sequence[bytes], index: int) -> tuple[Step, ...]:
    """What `root_by` needs to come from the leaf at `index` to the root."""
    level, steps = list(leaves), []
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            steps.append(Step("left" if sibling < index else "right", level[sibling]))
        level, index = _above(level), index // 2
    return tuple(steps)


def root_by(start: bytes, steps: Iterable[Step]) -> bytes:
    """The root that these steps lead to from the leaf `start`."""
    node = start
    for step in steps:
        node = _node(step.hash, node) if step.side == "left" else _node(node, step.hash)
    return node


def _above(level: list[bytes]) -> list[bytes]:
    above = [_node(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
    return above + level[len(level) // 2 * 2 :]


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()
