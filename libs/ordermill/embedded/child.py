"""One child of a supervisor: another program, or a fork of the launcher that calls a function."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import NoReturn, Protocol

from .errors import UnsafeFork
from .system import become, die_with, stand_back

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
STEADY_AFTER_S = 10.0
"""A child that lived this long starts again after the shortest pause."""
_LOG_BYTES_MAX = 16 * 1024 * 1024


class _Process(Protocol):
    pid: int

    def poll(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """A child at one moment."""

    name: str
    pid: int | None  # None while it waits to be restarted, or has ended for good
    uptime_s: float
    restarts: int
    last_exit: int | None  # minus the signal's number if a signal ended it


@dataclass(eq=False)
class Child:
    """What to run, either `argv`, asked for anew at each start, or `function`; and how it fares.

    Children of a higher `stage` are stopped before those of a lower one, and those of one stage together.
    """

    name: str
    _: KW_ONLY
    function: Callable[[], object] | None = None
    argv: Callable[[], Sequence[str]] | None = None
    env: Mapping[str, str] | None = None  # of a program; None: the launcher's
    log: Path | None = None  # None: stdout and stderr are the launcher's
    essential: bool = True  # restarted whenever it ends
    stage: int = 1
    stop_signal: int = signal.SIGTERM
    death_signal: int = signal.SIGKILL  # from the kernel, when the launcher is killed
    run_as: tuple[int, int] | None = None  # uid and gid of a program; only root can
    nice: int = 0  # of a function: how far it stands back where all want the processors

    pid: int | None = field(default=None, init=False)
    restarts: int = field(default=0, init=False)
    last_exit: int | None = field(default=None, init=False)
    restart_due: float | None = field(default=None, init=False)
    _started: float = field(default=0.0, init=False)
    _pause_s: float = field(default=FIRST_PAUSE_S, init=False)
    _process: _Process | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if (self.function is None) == (self.argv is None):
            raise ValueError(f"{self.name}: a child needs either a function or argv, and not both")

    @property
    def status(self) -> int | None:
        """Its exit status once it has ended for good; None while it runs or is about to be restarted."""
        return None if self.pid is not None or self.restart_due is not None else self.last_exit

    def snapshot(self) -> ChildStatus:
        uptime_s = time.monotonic() - self._started if self.pid is not None else 0.0
        return ChildStatus(self.name, self.pid, uptime_s, self.restarts, self.last_exit)

    def spawn(self, after_fork: Sequence[Callable[[], None]] = ()) -> None:
        """Raises OSError, UnsafeFork."""
        self.restart_due = None
        self._process = self._exec() if self.argv is not None else self._fork(after_fork)
        self.pid, self._started = self._process.pid, time.monotonic()

    def ended(self) -> bool:
        """Take notice of its end, once."""
        if self._process is None or (status := self._process.poll()) is None:
            return False
        self._process, self.pid, self.last_exit = None, None, status
        return True

    def plan_restart(self) -> float:
        """After an unexpected end; returns the pause in seconds."""
        now = time.monotonic()
        if now - self._started >= STEADY_AFTER_S:
            self._pause_s = FIRST_PAUSE_S
        pause_s = self._pause_s
        self.restart_due = now + pause_s
        self._pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        return pause_s

    def ask_to_stop(self) -> None:
        self.restart_due = None
        if self.pid is not None:
            os.kill(self.pid, self.stop_signal)

    def kill(self) -> None:
        """With all that stayed in its process group."""
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def log_tail(self, lines: int = 12) -> str:
        if self.log is None or not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _exec(self) -> _Process:
        parent = os.getpid()

        def prepare() -> None:
            if self.run_as is not None:
                become(*self.run_as)
            die_with(parent, self.death_signal)  # last: the kernel forgets it when the user changes

        descriptor = _open_log(self.log) if self.log is not None else None
        try:
            return subprocess.Popen(
                list(self.argv()) if self.argv else [],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
                preexec_fn=prepare,  # noqa: PLW1509  # it takes no lock
            )
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _fork(self, after_fork: Sequence[Callable[[], None]]) -> _Process:
        _require_safe_fork(self.name)
        sys.stdout.flush()
        sys.stderr.flush()
        gc.freeze()  # collections in the child leave these objects' pages shared
        parent = os.getpid()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        try:  # a signal to the child waits until the launcher's handlers no longer stand in it
            pid = os.fork()
            if pid == 0:
                self._main(after_fork, parent, before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return _Forked(pid)

    def _main(self, after_fork: Sequence[Callable[[], None]], parent: int, mask: Iterable[int]) -> NoReturn:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.setsid()  # the terminal's Ctrl-C is for the launcher, which stops us in order
            die_with(parent, self.death_signal)
            if self.log is not None:
                descriptor = _open_log(self.log)
                os.dup2(descriptor, 1)
                os.dup2(descriptor, 2)
                os.close(descriptor)
            for work in after_fork:
                work()
            stand_back(self.nice)
            if self.function is not None:
                self.function()
            status = 0
        except SystemExit as leaving:
            if isinstance(leaving.code, str):
                print(leaving.code, file=sys.stderr)
            status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        except KeyboardInterrupt:
            status = 128 + signal.SIGINT
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)


class _Forked:
    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None


def _open_log(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _LOG_BYTES_MAX:
        path.replace(path.with_name(f"{path.name}.1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _require_safe_fork(name: str) -> None:
    if (threads := threading.active_count()) > 1:
        raise UnsafeFork(name, f"{threads} threads")
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        raise UnsafeFork(name, "a running event loop")
