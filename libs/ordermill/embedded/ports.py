"""Free ports on 127.0.0.1, the same at every start if they are still free."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Mapping, Sequence
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


def choose_ports(names: Sequence[str], file: Path, wanted: Mapping[str, int] | None = None) -> dict[str, int]:
    """A free port for each name: the one `wanted`, else the one remembered in `file`, else a new one.

    Raises PortInUse if a wanted one is taken. Ports of names not asked for stay remembered and unused.
    """
    wanted = wanted or {}
    remembered = _read(file)
    chosen: dict[str, int] = {}
    for name in names:
        if name in wanted:
            require_free(name, wanted[name])
            chosen[name] = wanted[name]
        elif remembered.get(name, 0) not in {0, *chosen.values(), *wanted.values()} and is_free(
            remembered[name]
        ):
            chosen[name] = remembered[name]
        else:
            chosen[name] = _new({*chosen.values(), *wanted.values(), *remembered.values()})
    if remembered | chosen != remembered:
        write_private(file, json.dumps(remembered | chosen, indent=1))
    return chosen


def _read(file: Path) -> dict[str, int]:
    try:
        return {str(name): int(port) for name, port in json.loads(file.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _new(taken: set[int]) -> int:
    candidates = range(_LOWEST, _HIGHEST)
    for port in random.sample(candidates, len(candidates)):
        if port not in taken and is_free(port):
            return port
    raise PortInUse(f"any of {_LOWEST} to {_HIGHEST}", _LOWEST)
