"""Free ports on 127.0.0.1, the same at every start if they are still free."""

from __future__ import annotations

import json
import random
import socket
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


def choose_ports(
    preferred: Mapping[str, int | None], file: Path, wanted: Mapping[str, int] | None = None
) -> dict[str, int]:
    """A free port for each name in `preferred`; `file` remembers them for the next start.

    Taken is the `wanted` one, or else the first that is free of the remembered one, the preferred one, any.
    Raises PortInUse if a wanted one is taken.
    """
    wanted = wanted or {}
    remembered = _read(file)
    chosen: dict[str, int] = {}
    for name, favorite in preferred.items():
        if name in wanted:
            require_free(name, wanted[name])
            chosen[name] = wanted[name]
            continue
        others = {port for other, port in {**remembered, **wanted, **chosen}.items() if other != name}
        candidates = [port for port in (remembered.get(name), favorite) if port and port not in others]
        chosen[name] = next((port for port in candidates if is_free(port)), None) or _any(others)
    if remembered | chosen != remembered:
        write_private(file, json.dumps(remembered | chosen, indent=1))
    return chosen


def _read(file: Path) -> dict[str, int]:
    try:
        return {str(name): int(port) for name, port in json.loads(file.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _any(taken: set[int]) -> int:
    candidates = range(_LOWEST, _HIGHEST)
    for port in random.sample(candidates, len(candidates)):
        if port not in taken and is_free(port):
            return port
    raise PortInUse(f"any of {_LOWEST} to {_HIGHEST}", _LOWEST)
