"""Free ports on 127.0.0.1, the same at every start if they are still free; two stacks never choose the same."""

from __future__ import annotations

import json
import random
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from .errors import PortInUse
from .system import write_private

# Below the ranges that Linux (32768 up) and macOS (49152 up) take outgoing connections' ports from.
_LOWEST, _HIGHEST = 20000, 32000


def is_free(port: int) -> bool:
    """Whether a server could listen there; connections that a stopped one left behind don't matter."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()  # with SO_REUSEADDR, two may bind as long as none listens
        except OSError:
            return False
    return True


def require_free(what: str, port: int) -> None:
    """Raises PortInUse."""
    if not is_free(port):
        raise PortInUse(what, port)


class Claims:
    """Ports that no other stack on this machine may choose, though nobody may listen there: not yet, or not just now.

    A claim is a name in Linux's abstract namespace. That is one for all who share their ports, taking a name is atomic,
    and the kernel clears it when its holder ends. Elsewhere nothing is claimed.
    """

    def __init__(self) -> None:
        self._held: dict[int, socket.socket] = {}

    def take(self, port: int) -> bool:
        """False where another has claimed it, or listens there."""
        if port in self._held:
            return is_free(port)
        claim = socket.socket(socket.AF_UNIX)
        try:
            if sys.platform == "linux":
                claim.bind(f"\0ordermill port {port}")
        except OSError:
            claim.close()
            return False
        if not is_free(port):
            claim.close()
            return False
        self._held[port] = claim
        return True

    def release(self) -> None:
        while self._held:
            self._held.popitem()[1].close()


def choose_ports(
    preferred: Mapping[str, int | None],
    file: Path,
    wanted: Mapping[str, int] | None = None,
    claims: Claims | None = None,
) -> dict[str, int]:
    """A free port for each name in `preferred`; `file` remembers them for the next start.

    Taken is the `wanted` one, or else the first that is free of the remembered one, the preferred one, any. They stay
    the caller's as long as `claims` are held; without, only until someone else asks.
    Raises PortInUse if a wanted one is taken.
    """
    if claims is None:
        claims = Claims()
        try:
            return choose_ports(preferred, file, wanted, claims)
        finally:
            claims.release()
    wanted = wanted or {}
    remembered = _read(file)
    chosen: dict[str, int] = {}
    for name, favorite in preferred.items():
        if name in wanted:
            if not claims.take(wanted[name]):
                raise PortInUse(name, wanted[name])
            chosen[name] = wanted[name]
            continue
        others = {port for other, port in {**remembered, **wanted, **chosen}.items() if other != name}
        candidates = [port for port in (remembered.get(name), favorite) if port and port not in others]
        chosen[name] = next((port for port in candidates if claims.take(port)), None) or _any(others, claims)
    if remembered | chosen != remembered:
        write_private(file, json.dumps(remembered | chosen, indent=1))
    return chosen


def _read(file: Path) -> dict[str, int]:
    try:
        return {str(name): int(port) for name, port in json.loads(file.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _any(taken: set[int], claims: Claims) -> int:
    candidates = range(_LOWEST, _HIGHEST)
    for port in random.sample(candidates, len(candidates)):
        if port not in taken and claims.take(port):
            return port
    raise PortInUse(f"any of {_LOWEST} to {_HIGHEST}", _LOWEST)
