"""What is asked of the operating system directly: dying with a parent, telling processes apart, another user."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522
_ZERO = ctypes.c_ulong(0)

_AUTOGROUP = Path("/proc/self/autogroup")

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _prctl(option: int, *values: int) -> bool:
    """False where the system has no such thing, or refuses it."""
    if _libc is None:
        return False
    padded = [*(ctypes.c_ulong(value) for value in values), _ZERO, _ZERO, _ZERO, _ZERO][:4]
    return bool(_libc.prctl(option, *padded) == 0)


def die_with(parent: int, number: int) -> None:
    """For a new child: get signal `number` when the thread that forked it ends, also by kill -9.

    Linux only; elsewhere children outlive a killed launcher until the next start clears them (leftovers.py).
    """
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


def stand_back(by: int) -> None:
    """For a new child that leads a session: let others go first where all want the processors.

    Linux may share them out among sessions first (autogroup). What a process asks for then counts in its session only,
    and the session is asked for apart; who is not root may do so ten times a second, all together.
    """
    nice = os.nice(by)
    if by and _AUTOGROUP.exists():
        threading.Thread(target=_ask_for_session, args=(nice,), daemon=True).start()


def _ask_for_session(nice: int) -> None:
    for _ in range(50):
        try:
            _AUTOGROUP.write_text(str(nice))
            return
        except BlockingIOError:
            time.sleep(0.1)
        except OSError:
            return


def become(uid: int, gid: int) -> None:
    """For a child about to exec: another user, still able to reach files that only root may, if root itself can.

    Without that capability a server in a container could use no folder below root's home.
    """
    kept = _prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if kept and _libc is not None:
        bit = 1 << _CAP_DAC_OVERRIDE
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        if _libc.capset(header, (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)) == 0:
            _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE)


def started_at(pid: int) -> str | None:
    """When that process started, as text to compare for equality; None if there is none (or only its zombie).

    A process id with the same start time is the same process: ids are used again, both together are not.
    """
    if sys.platform != "linux":
        return _ps(pid, "lstart=")
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None if after_name[0] in "ZX" else f"{boot}/{after_name[19]}"


def works_in(pid: int, program: str, folder: Path) -> bool:
    """Whether that process is the program (by its file's name) at work in that folder."""
    if sys.platform != "linux":
        command = _ps(pid, "command=") or ""
        return program in command and str(folder) in command
    try:
        return Path(f"/proc/{pid}/exe").readlink().name == program and folder.samefile(f"/proc/{pid}/cwd")
    except OSError:
        return False


def _ps(pid: int, column: str) -> str | None:
    command: Sequence[str] = ("/bin/ps", "-o", column, "-p", str(pid))
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None


def write_private(path: Path, content: str) -> None:
    """Write whole or not at all, readable by the owner only."""
    part = path.with_name(f"{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def plain_environment() -> dict[str, str]:
    """For programs that need none of ours: no secrets, no PG… or Kafka variables that would change what they do."""
    kept = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
    return {"LC_ALL": "C", "TZ": "UTC"} | {name: os.environ[name] for name in kept if name in os.environ}
