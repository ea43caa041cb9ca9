"""Starts named children, restarts those that die, stops all of them; none outlives the launcher.

Synchronous on purpose: a Python child is a fork of a launcher that has imported everything, and forking is only
safe without other threads and without an event loop.
"""

from __future__ import annotations

import asyncio
import gc
import os
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol

import structlog

from .errors import NotStarted, StopRequested, UnsafeFork
from .leftovers import Note, note
from .system import become, die_with, started_at

logger = structlog.get_logger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
STEADY_AFTER_S = 10.0
"""A child that lived this long starts again at the shortest pause."""
_LOG_BYTES_MAX = 16 * 1024 * 1024
_POLL_S = 0.005


@dataclass(frozen=True, kw_only=True)
class Program:
    """A child that is another program. `argv` is asked for anew at each start."""

    name: str
    argv: Callable[[], Sequence[str]]
    env: Mapping[str, str] | None = None
    log: Path | None = None  # without one, stdout and stderr are the launcher's
    stop_signal: int = signal.SIGTERM
    death_signal: int = signal.SIGKILL  # sent by the kernel when the launcher is killed
    run_as: tuple[int, int] | None = None  # uid, gid; only root can
    stage: int = 0  # higher stages are stopped first, children of one stage together
    restart: bool = True


@dataclass(frozen=True, kw_only=True)
class Function:
    """A child that is a fork of the launcher calling `run`; its exit status is 0 when `run` returns."""

    name: str
    run: Callable[[], object]
    log: Path | None = None
    stop_signal: int = signal.SIGTERM
    death_signal: int = signal.SIGKILL
    stage: int = 1
    restart: bool = True


@dataclass(frozen=True, slots=True)
class ChildStatus:
    name: str
    pid: int | None  # None while it waits to be restarted, or has ended for good
    uptime_s: float
    restarts: int
    last_exit: int | None  # minus the signal's number if one killed it


class _Process(Protocol):
    pid: int

    def poll(self) -> int | None: ...


class _Forked:
    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def poll(self) -> int | None:
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status


@dataclass
class _Child:
    spec: Program | Function
    process: _Process | None = None
    started: float = 0.0
    restarts: int = 0
    last_exit: int | None = None
    pause_s: float = FIRST_PAUSE_S
    due: float | None = None  # when to restart

    def status(self) -> ChildStatus:
        alive = self.process is not None
        uptime = time.monotonic() - self.started if alive else 0.0
        pid = self.process.pid if self.process else None
        return ChildStatus(self.spec.name, pid, uptime, self.restarts, self.last_exit)


@dataclass
class Supervisor:
    """Use from one thread, best the main one: children get their death signal when the thread that made them ends.

    `run_file` notes what runs, for `clear_leftovers` at the next start. `after_fork` runs in Python children.
    """

    run_file: Path | None = None
    grace_s: float = 10.0
    after_fork: list[Callable[[], None]] = field(default_factory=list)
    _children: dict[str, _Child] = field(default_factory=dict)
    _signals: int = 0
    _wake: int | None = None

    def start(self, spec: Program | Function) -> None:
        """Start a child under a new name, or under that of one that was stopped."""
        known = self._children.get(spec.name)
        if known is not None and (known.process is not None or known.due is not None):
            raise ValueError(f"{spec.name}: a child of this name is already supervised")
        self._children.pop(spec.name, None)
        child = self._children[spec.name] = _Child(spec)
        self._spawn(child)

    def status(self) -> list[ChildStatus]:
        """All children in the order they were started."""
        return [child.status() for child in self._children.values()]

    def request_stop(self) -> None:
        """Let `run` end after the current tick."""
        self._signals += 1

    @property
    def stop_requested(self) -> bool:
        return self._signals > 0

    def poll(self) -> bool:
        """Notice deaths, restart what is due; True if a child died or was started."""
        changed = False
        now = time.monotonic()
        for child in list(self._children.values()):
            if child.process is not None and (status := child.process.poll()) is not None:
                self._died(child, status, now)
                changed = True
            if child.due is not None and now >= child.due:
                child.restarts += 1
                self._spawn(child)
                changed = True
        return changed

    def wait_until(self, name: str, ready: Callable[[ChildStatus], bool], timeout_s: float = 30.0) -> None:
        """Supervise until the child is `ready`. Raises NotStarted if it dies three times or takes too long."""
        child = self._children[name]
        died_before = child.restarts
        until = time.monotonic() + timeout_s
        while True:
            self.poll()
            if child.process is not None and ready(child.status()):
                return
            if self.stop_requested:
                raise StopRequested(name)
            ended = child.process is None and child.due is None
            if ended or child.restarts - died_before >= 3:
                said = f"it ended with status {child.last_exit} each time"
                raise NotStarted(name, said, child.spec.log, _tail(child.spec.log))
            if time.monotonic() > until:
                said = f"it was not after {timeout_s:g} s"
                raise NotStarted(name, said, child.spec.log, _tail(child.spec.log))
            self._wait(_POLL_S)

    def run(self, on_tick: Callable[[Supervisor], None] | None = None, tick_s: float = 0.2) -> None:
        """Supervise until SIGINT, SIGTERM, SIGHUP or `request_stop`, then stop all. A second signal kills at once.

        `on_tick` is called every `tick_s` seconds, and sooner when a child died or was started.
        """
        with self.handling_signals():
            try:
                due = 0.0
                while not self.stop_requested:
                    if self.poll() or time.monotonic() >= due:
                        due = time.monotonic() + tick_s
                        if on_tick is not None:
                            on_tick(self)
                    if not self.stop_requested:
                        self._wait(min(due, self._next_restart()) - time.monotonic())
            finally:
                self.stop()

    def stop(self) -> None:
        """Stop all children, highest stage first; what still runs after the grace period is killed."""
        signals_before = self._signals
        stages = sorted({child.spec.stage for child in self._children.values()}, reverse=True)
        for stage in stages:
            stopping = [child for child in self._children.values() if child.spec.stage == stage]
            self._stop(stopping[::-1], signals_before)
        if self.run_file is not None:
            self.run_file.unlink(missing_ok=True)

    def stop_child(self, name: str) -> None:
        """Stop one; it is not restarted. `start` may start it again."""
        self._stop([self._children[name]], self._signals)
        self._note()

    @contextmanager
    def handling_signals(self) -> Iterator[None]:
        """While inside, signals ask to stop instead of ending the launcher; only in the main thread. May be nested."""
        if self._wake is not None:
            yield
            return
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGCHLD]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # started with nohup
            numbers.append(signal.SIGHUP)
        before = {number: signal.getsignal(number) for number in numbers}
        old_wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, self._on_signal)
        self._wake = reader
        try:
            yield
        finally:
            self._wake = None
            signal.set_wakeup_fd(old_wakeup)
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
            os.close(reader)
            os.close(writer)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._signals += 1

    def _wait(self, seconds: float) -> None:
        """Sleep, but not through a signal or the death of a child."""
        seconds = max(seconds, 0.0)
        if self._wake is None:
            time.sleep(min(seconds, _POLL_S))
        elif select.select([self._wake], [], [], seconds)[0]:
            with suppress(BlockingIOError):
                os.read(self._wake, 4096)

    def _next_restart(self) -> float:
        return min(
            (child.due for child in self._children.values() if child.due is not None), default=float("inf")
        )

    def _spawn(self, child: _Child) -> None:
        spec = child.spec
        child.due = None
        try:
            child.process = _exec(spec) if isinstance(spec, Program) else self._fork(spec)
        except OSError as error:
            raise NotStarted(spec.name, f"it could not be run: {error}", spec.log, "") from error
        child.started = time.monotonic()
        self._note()
        logger.info("child started", name=spec.name, pid=child.process.pid, restarts=child.restarts)

    def _fork(self, spec: Function) -> _Forked:
        _require_safe_fork(spec.name)
        sys.stdout.flush()
        sys.stderr.flush()
        gc.freeze()  # collections in the children leave these objects' pages shared
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._child_main(spec, parent)
        return _Forked(pid)

    def _child_main(self, spec: Function, parent: int) -> NoReturn:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.setsid()  # the terminal's Ctrl-C is for the launcher, which stops us in order
            die_with(parent, spec.death_signal)
            if spec.log is not None:
                descriptor = _open_log(spec.log)
                os.dup2(descriptor, 1)
                os.dup2(descriptor, 2)
                os.close(descriptor)
            for work in self.after_fork:
                work()
            spec.run()
            status = 0
        except SystemExit as leaving:
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

    def _died(self, child: _Child, status: int, now: float) -> None:
        spec = child.spec
        lived_s = now - child.started
        child.process, child.last_exit = None, status
        if spec.restart:
            child.pause_s = FIRST_PAUSE_S if lived_s >= STEADY_AFTER_S else child.pause_s
            child.due = now + child.pause_s
            logger.warning("child died, restarts", name=spec.name, status=status, pause_s=child.pause_s)
            child.pause_s = min(child.pause_s * 2, LONGEST_PAUSE_S)
        else:
            logger.info("child ended", name=spec.name, status=status)
        self._note()

    def _stop(self, stopping: Sequence[_Child], signals_before: int) -> None:
        for child in stopping:
            child.due = None
            if child.process is not None and child.process.poll() is None:
                os.kill(child.process.pid, child.spec.stop_signal)
        until = time.monotonic() + self.grace_s
        while alive := [
            each for each in stopping if each.process is not None and each.process.poll() is None
        ]:
            if time.monotonic() >= until or self._signals > signals_before:
                for child in alive:
                    _kill(child)
                until = float("inf")
                signals_before = self._signals
            self._wait(_POLL_S)
        for child in stopping:
            if child.process is not None:
                child.last_exit, child.process = child.process.poll(), None
                logger.info("child stopped", name=child.spec.name, status=child.last_exit)

    def _note(self) -> None:
        if self.run_file is None:
            return
        running = [child for child in self._children.values() if child.process is not None]
        notes = []
        for child in running:
            if child.process is not None and (started := started_at(child.process.pid)) is not None:
                notes.append(Note(child.spec.name, child.process.pid, started, child.spec.stop_signal))
        note(self.run_file, notes)


def _exec(spec: Program) -> _Process:
    parent = os.getpid()

    def prepare() -> None:
        if spec.run_as is not None:
            become(*spec.run_as)
        die_with(parent, spec.death_signal)  # last: the kernel forgets it when the user changes

    descriptor = _open_log(spec.log) if spec.log is not None else None
    try:
        return subprocess.Popen(  # noqa: S603
            list(spec.argv()),
            env=spec.env,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
            preexec_fn=prepare,  # noqa: PLW1509  # it takes no lock and allocates little
        )
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _kill(child: _Child) -> None:
    logger.warning("child did not stop in time, killed", name=child.spec.name)
    if child.process is not None:
        with suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGKILL)  # it leads its own group


def _open_log(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _LOG_BYTES_MAX:
        path.replace(path.with_name(f"{path.name}.1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _tail(path: Path | None, lines: int = 12) -> str:
    if path is None or not path.exists():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def _require_safe_fork(name: str) -> None:
    if (threads := threading.active_count()) > 1:
        raise UnsafeFork(name, f"{threads} threads")
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        raise UnsafeFork(name, "a running event loop")
