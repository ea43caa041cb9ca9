"""Starts named children, restarts those that die, stops all of them; none outlives the launcher.

Synchronous on purpose: a Python child is a fork of a launcher that has imported everything, and forking is only
safe without other threads and without an event loop.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import structlog

from .child import Child, ChildStatus
from .errors import NotStarted, StopRequested
from .leftovers import Note, note
from .system import started_at

__all__ = ["Child", "ChildStatus", "Supervisor"]

logger = structlog.get_logger(__name__)

_POLL_S = 0.005
_DEATHS_MAX = 3


class Supervisor:
    """Use from one thread, best the main one: children get their death signal when the thread that made them ends.

    `run_file` notes what runs, for `clear_leftovers` at the next start. `after_fork` is called in Python children.
    """

    def __init__(self, run_file: Path | None = None, grace_s: float = 10.0) -> None:
        self.run_file = run_file
        self.grace_s = grace_s
        self.after_fork: list[Callable[[], None]] = []
        self._children: dict[str, Child] = {}
        self._stop_requests = 0
        self._wake: int | None = None

    def start(self, child: Child) -> None:
        """Start a child, or one that ended. Raises NotStarted, UnsafeFork."""
        known = self._children.get(child.name)
        if known is not None and (known.pid is not None or known.restart_due is not None):
            raise ValueError(f"{child.name}: a child of this name is already supervised")
        self._children[child.name] = child
        self._spawn(child)

    def status(self) -> list[ChildStatus]:
        """All children in the order they were started."""
        return [child.snapshot() for child in self._children.values()]

    def stop_soon(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Let `wait` and `run` end; fit for a signal handler. While `stop` waits for children, kill them instead."""
        self._stop_requests += 1

    @property
    def stop_requested(self) -> bool:
        return self._stop_requests > 0

    def poll(self) -> bool:
        """Notice deaths, restart what is due; True if a child died or was started."""
        changed = False
        for child in list(self._children.values()):
            if child.ended():
                changed = True
                if child.essential:
                    pause_s = child.plan_restart()
                    logger.warning("child died, restarts", name=child.name, status=child.last_exit, pause_s=pause_s)
                else:
                    logger.info("child ended", name=child.name, status=child.last_exit)
                self._note()
            if child.restart_due is not None and time.monotonic() >= child.restart_due:
                child.restarts += 1
                self._spawn(child)
                changed = True
        return changed

    def wait(self, until: Callable[[], bool], on_tick: Callable[[], None] | None = None, tick_s: float = 0.2) -> bool:
        """Supervise until `until()`, asked at each tick: True; or until asked to stop: False. Stops no child.

        `on_tick` is called every `tick_s` seconds, and sooner when a child died or was started.
        """
        with self._waking():
            due = 0.0
            while not self.stop_requested:
                if self.poll() or time.monotonic() >= due:
                    due = time.monotonic() + tick_s
                    if on_tick is not None:
                        on_tick()
                    if until():
                        return True
                restarts = [each.restart_due for each in self._children.values() if each.restart_due is not None]
                if not self.stop_requested:
                    self._sleep(min([due, *restarts]) - time.monotonic())
            return False

    def wait_ready(self, name: str, ready: Callable[[ChildStatus], bool], timeout_s: float = 30.0) -> None:
        """Supervise until the child is `ready`. Raises NotStarted if it dies three times or takes too long."""
        child = self._children[name]
        before = child.restarts
        until = time.monotonic() + timeout_s
        with self._waking():
            while True:
                self.poll()
                if child.pid is not None and ready(child.snapshot()):
                    return
                if self.stop_requested:
                    raise StopRequested(name)
                if child.status is not None or child.restarts - before >= _DEATHS_MAX:
                    found = f"ended with status {child.last_exit} again and again"
                    raise NotStarted(name, found, child.log, child.log_tail())
                if time.monotonic() > until:
                    raise NotStarted(name, f"was not after {timeout_s:g} s", child.log, child.log_tail())
                self._sleep(_POLL_S)

    def run(self, on_tick: Callable[[], None] | None = None, tick_s: float = 0.2) -> None:
        """Supervise until SIGINT, SIGTERM, SIGHUP or `stop_soon`, then stop all; a second signal kills at once."""
        with self.handling_signals():
            try:
                self.wait(lambda: False, on_tick, tick_s)
            finally:
                self.stop()

    def stop(self) -> None:
        """Stop all children, highest stage first; what still runs after the grace period is killed."""
        requests = self._stop_requests
        with self._waking():
            for stage in sorted({child.stage for child in self._children.values()}, reverse=True):
                self._stop([child for child in self._children.values() if child.stage == stage], requests)
        if self.run_file is not None:
            self.run_file.unlink(missing_ok=True)

    def stop_child(self, child: Child) -> None:
        """Stop one without restarting it; `start` may start it again."""
        self._stop([child], self._stop_requests)
        self._note()

    @contextmanager
    def handling_signals(self) -> Iterator[None]:
        """While inside, SIGINT, SIGTERM and SIGHUP call `stop_soon`; only in the main thread."""
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # ignored under nohup
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, self.stop_soon) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @contextmanager
    def _waking(self) -> Iterator[None]:
        """While inside, `_sleep` ends with any signal, so also with a child's death."""
        if self._wake is not None or threading.current_thread() is not threading.main_thread():
            yield
            return
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        old_handler = signal.signal(signal.SIGCHLD, lambda number, frame: None)
        old_wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._wake = reader
        try:
            yield
        finally:
            self._wake = None
            signal.set_wakeup_fd(old_wakeup)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL if old_handler is None else old_handler)
            os.close(reader)
            os.close(writer)

    def _sleep(self, seconds: float) -> None:
        seconds = max(seconds, 0.0)
        if self._wake is None:
            time.sleep(min(seconds, _POLL_S))
        elif select.select([self._wake], [], [], seconds)[0]:
            with suppress(BlockingIOError):
                os.read(self._wake, 4096)

    def _spawn(self, child: Child) -> None:
        try:
            child.spawn(self.after_fork)
        except OSError as error:
            raise NotStarted(child.name, f"could not be run: {error}", child.log, child.log_tail()) from error
        self._note()
        logger.info("child started", name=child.name, pid=child.pid, restarts=child.restarts)

    def _stop(self, stopping: Sequence[Child], requests: int) -> None:
        """A stop request beyond the `requests` that there were means: now."""
        stopping = [child for child in reversed(stopping) if child.pid is not None or child.restart_due is not None]
        for child in stopping:
            child.ask_to_stop()
        kill_at = time.monotonic() + self.grace_s
        while alive := [child for child in stopping if child.pid is not None and not child.ended()]:
            if time.monotonic() >= kill_at or self._stop_requests > requests:
                for child in alive:
                    logger.warning("child did not stop in time, killed", name=child.name, pid=child.pid)
                    child.kill()
                kill_at, requests = float("inf"), self._stop_requests
            self._sleep(_POLL_S)
        for child in stopping:
            logger.info("child stopped", name=child.name, status=child.last_exit)

    def _note(self) -> None:
        if self.run_file is None:
            return
        running = [(child, child.pid) for child in self._children.values() if child.pid is not None]
        notes = [
            Note(child.name, pid, started, child.stop_signal)
            for child, pid in running
            if (started := started_at(pid)) is not None
        ]
        note(self.run_file, notes)
