"""Processes of an earlier launcher that was killed: noted while they run, ended before the next start."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from .system import started_at, write_private

logger = structlog.get_logger(__name__)

_PAUSE_S = 0.01


@dataclass(frozen=True, slots=True)
class Note:
    """A running process, so described that no other can be taken for it."""

    name: str
    pid: int
    started: str
    stop_signal: int

    @property
    def alive(self) -> bool:
        return started_at(self.pid) == self.started


def note(run_file: Path, notes: Iterable[Note]) -> None:
    write_private(run_file, json.dumps([asdict(each) for each in notes], indent=1))


def clear_leftovers(run_file: Path, grace_s: float = 10.0) -> list[str]:
    """End what still runs of the last start, newest first; returns the names. Call it with the folder locked."""
    try:
        notes = [Note(**each) for each in json.loads(run_file.read_text())]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError):  # not written by us; nothing may be killed on its word
        logger.warning("run file not understood, ignored", file=str(run_file))
        return []
    ended = [each.name for each in reversed(notes) if end(each, grace_s)]
    run_file.unlink()
    return ended


def end(leftover: Note, grace_s: float) -> bool:
    """Ask it to stop, kill it after `grace_s` seconds; False if it had ended by itself."""
    if not leftover.alive:
        return False
    logger.warning("left over from a killed launcher, ended", name=leftover.name, pid=leftover.pid)
    for number, patience_s in ((leftover.stop_signal, grace_s), (signal.SIGKILL, grace_s)):
        with suppress(ProcessLookupError):
            os.kill(leftover.pid, number)
        until = time.monotonic() + patience_s
        while leftover.alive and time.monotonic() < until:
            time.sleep(_PAUSE_S)
    return True
