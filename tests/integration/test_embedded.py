"""PostgreSQL, broker and supervisor as a laptop runs them. Each test has servers and a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from ordermill.embedded import Child, EmbeddedStack, Supervisor, postgres, running_stack
from ordermill.embedded.errors import (
    BadAddress,
    EmbeddedError,
    FolderInUse,
    NoKafkaHere,
    NotADataFolder,
    NotRunning,
    NotStarted,
    PortInUse,
    UnsafeFork,
    WrongDataVersion,
)
from ordermill.embedded.leftovers import clear_leftovers
from ordermill.embedded.ports import Claims, choose_ports, is_free
from ordermill.embedded.postgres import Identity
from ordermill.embedded.system import started_at

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills children with their parent")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become another user")


def eventually(condition: Callable[[], object], timeout_s: float = 15.0) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "did not come about"
        time.sleep(0.005)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data in it, to copy: initdb takes longer than the rest."""
    folder = tmp_path_factory.mktemp("embedded") / "stack"
    with running_stack(folder):
        pass
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "stack")
    (tmp_path / "stack" / "ports.json").unlink()
    return tmp_path / "stack"


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


async def query(dsn: str, statement: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def pid_of(supervisor: Supervisor, name: str) -> int | None:
    return next(child.pid for child in supervisor.status() if child.name == name)


# PostgreSQL


async def test_a_second_start_finds_the_data_at_the_same_addresses(tmp_path: Path) -> None:
    async with running_stack(tmp_path / "stack") as stack:
        addresses = (stack.postgres.address, stack.kafka)
        await query(stack.postgres_dsn(), "CREATE TABLE kept AS SELECT 7 AS n")
    async with running_stack(tmp_path / "stack") as stack:
        assert (stack.postgres.address, stack.kafka) == addresses
        assert await query(stack.postgres_dsn(), "SELECT n FROM kept") == 7


async def test_what_is_made_to_be_thrown_away_does_not_wait_for_the_disk_and_keeps_what_it_has(folder: Path) -> None:
    with running_stack(folder, throwaway=True) as stack:
        assert await query(stack.postgres_dsn(), "SELECT current_setting('fsync')") == "off"
        await query(stack.postgres_dsn(), "CREATE TABLE kept AS SELECT 7 AS n")
    with running_stack(folder) as stack:
        assert await query(stack.postgres_dsn(), "SELECT current_setting('fsync')") == "on"
        assert await query(stack.postgres_dsn(), "SELECT n FROM kept") == 7


async def test_nothing_is_traded_for_speed_and_only_loopback_is_served(folder: Path) -> None:
    with running_stack(folder) as stack:
        for name, value in {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "recovery_init_sync_method": "syncfs" if sys.platform == "linux" else "fsync",
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "server_encoding": "UTF8",
            "jit": "off",
            "idle_in_transaction_session_timeout": "1min",
        }.items():
            found = await query(stack.postgres_dsn(), f"SELECT current_setting('{name}')")
            assert (name, found) == (name, value)
        assert await query(stack.postgres_dsn(), "SELECT datcollate FROM pg_database LIMIT 1") == "C"
        stored = await query(stack.postgres_dsn(), "SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'")
        assert stored.startswith("SCRAM-SHA-256$")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await query(stack.postgres_dsn(password="guessed"), "SELECT 1")


async def test_secrets_stay_in_files_that_only_the_owner_reads(folder: Path) -> None:
    secret = (folder / "postgres.password").read_text()
    with running_stack(folder) as stack, pytest.raises(asyncpg.UndefinedTableError):
        await query(stack.postgres_dsn(), f"SELECT '{secret}' FROM missing")
    holders = [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert holders == [folder / "postgres.password"]
    assert holders[0].stat().st_mode & 0o777 == 0o600


async def test_a_killed_server_comes_back_with_what_was_committed(folder: Path) -> None:
    with running_stack(folder) as stack:
        await query(stack.postgres_dsn(), "CREATE TABLE kept AS SELECT 7 AS n")
        killed = pid_of(stack.supervisor, "postgres")
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        eventually(stack.supervisor.poll)
        stack.supervisor.wait_ready("postgres", lambda now: bool(now.pid and stack.postgres.is_ready(now.pid)))
        assert await query(stack.postgres_dsn(), "SELECT n FROM kept") == 7


async def test_a_lock_file_left_by_a_kill_is_removed_even_if_its_number_is_used_again(folder: Path) -> None:
    (folder / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n{folder / 'postgres'}\n")
    with running_stack(folder) as stack:
        assert await query(stack.postgres_dsn(), "SELECT 1") == 1


async def test_a_half_made_data_folder_is_made_anew(folder: Path) -> None:
    (folder / "postgres").rename(folder / "postgres.new")
    (folder / "postgres.new" / "global" / "pg_control").unlink()
    with running_stack(folder) as stack:
        assert await query(stack.postgres_dsn(), "SELECT 1") == 1
    assert not (folder / "postgres.new").exists()


def test_data_without_its_control_file_is_left_alone(folder: Path) -> None:
    (folder / "postgres" / "global" / "pg_control").unlink()
    with pytest.raises(NotADataFolder, match=r"global/pg_control.*move the folder away"):
        EmbeddedStack(folder).start()
    assert (folder / "postgres" / "base").exists()


def test_data_of_another_major_version_is_left_alone(folder: Path) -> None:
    (folder / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(WrongDataVersion, match="made by PostgreSQL 16, but version 17 is installed"):
        EmbeddedStack(folder).start()


async def test_a_lost_password_is_renewed(folder: Path) -> None:
    (folder / "postgres.password").unlink()
    with running_stack(folder) as stack:
        assert await query(stack.postgres_dsn(), "SELECT 1") == 1


@root_only
@pytest.mark.parametrize("fresh", [True, False])
async def test_root_without_namespaces_runs_the_server_as_another_user(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fresh: bool
) -> None:
    """And back again: the files change hands with each way of starting."""
    if fresh:
        shutil.rmtree(folder)
    folder.parent.chmod(0o700)
    with monkeypatch.context() as patch:
        patch.setattr(postgres.shutil, "which", lambda name: None)
        with running_stack(folder) as stack:
            assert await query(stack.postgres_dsn(), "SELECT 1") == 1
            pid = pid_of(stack.supervisor, "postgres")
            assert Path(f"/proc/{pid}").stat().st_uid != 0
        assert (folder / "postgres" / "PG_VERSION").stat().st_uid != 0
    with running_stack(folder) as stack:
        assert await query(stack.postgres_dsn(), "SELECT 1") == 1


def test_an_ordinary_user_runs_the_server_as_it_is() -> None:
    assert (postgres.identity() == Identity()) == (os.geteuid() != 0)


# Folder and ports


def test_a_folder_has_one_launcher_and_the_second_is_told_which(folder: Path) -> None:
    with EmbeddedStack(folder).locked(), pytest.raises(FolderInUse, match=f"process id {os.getpid()};"):
        EmbeddedStack(folder).start()


def test_a_stack_not_started_has_no_address(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match=r"Call start\(\) first"):
        _ = EmbeddedStack(tmp_path).kafka


def test_a_port_asked_for_and_taken_is_named(tmp_path: Path, taken_port: int) -> None:
    with pytest.raises(PortInUse, match=f"postgres: port {taken_port} on 127.0.0.1 was expected to be free"):
        EmbeddedStack(tmp_path, postgres_port=taken_port).start()
    with EmbeddedStack(tmp_path).locked():
        pass  # nothing holds the folder after a failed start


def test_ports_are_remembered_and_given_up_only_when_taken(tmp_path: Path, taken_port: int) -> None:
    file = tmp_path / "ports.json"
    first = choose_ports({"a": taken_port, "b": None}, file)
    assert first["a"] != taken_port
    assert choose_ports({"b": None, "a": None, "c": None}, file).items() >= first.items()
    file.write_text(json.dumps({"a": taken_port, "b": first["b"]}))
    again = choose_ports({"a": None, "b": None}, file)
    assert again["a"] != taken_port
    assert again["b"] == first["b"]


@linux_only
def test_a_port_that_is_claimed_is_not_chosen_before_anyone_listens_there(tmp_path: Path) -> None:
    ours, theirs = Claims(), Claims()
    (port,) = choose_ports({"a": None}, tmp_path / "ours.json", claims=ours).values()
    assert is_free(port)
    assert choose_ports({"a": port}, tmp_path / "theirs.json", claims=theirs)["a"] != port
    with pytest.raises(PortInUse):
        choose_ports({"a": None}, tmp_path / "theirs.json", {"a": port}, theirs)
    ours.release()
    assert choose_ports({"a": port}, tmp_path / "others.json", claims=theirs)["a"] == port
    theirs.release()


@linux_only
def test_two_stacks_started_at_once_share_no_port(folder: Path, tmp_path: Path) -> None:
    """Both remember the same ports, and would like the same ones for services that start later."""
    remembered = choose_ports({"postgres": None, "kafka": None, "one": None}, folder / "ports.json")
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    program = textwrap.dedent("""
        import json, sys
        from pathlib import Path
        from ordermill.embedded import EmbeddedStack

        stack = EmbeddedStack(Path(sys.argv[1]), {"one": None, "two": int(sys.argv[2])})
        sys.stdin.readline()
        with stack:
            Path(sys.argv[1], "chosen.json").write_text(json.dumps(stack.ports) + "\\n")
            sys.stdin.readline()
    """)
    command = [sys.executable, "-c", program]
    (wanted,) = choose_ports({"two": None}, tmp_path / "ports.json").values()
    with ExitStack() as ends:
        launchers = [
            ends.enter_context(
                subprocess.Popen(
                    [*command, str(each), str(wanted)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
                )
            )
            for each in (folder, other)
        ]
        for each in launchers:
            print("start", file=each.stdin, flush=True)
        chosen = [each / "chosen.json" for each in (folder, other)]
        eventually(lambda: all(each.exists() and each.read_text().endswith("\n") for each in chosen), 60)
        ports = [json.loads(each.read_text()) for each in chosen]
        assert [set(each) for each in ports] == [{"postgres", "kafka", "one", "two"}] * 2
        assert not set(ports[0].values()) & set(ports[1].values()), ports
        kept = [name for name in remembered if remembered[name] in (ports[0][name], ports[1][name])]
        assert kept == list(remembered), "one of them has what both remember"
        assert wanted in (ports[0]["two"], ports[1]["two"])
        for each in launchers:
            print("stop", file=each.stdin, flush=True)
        assert [each.wait(60) for each in launchers] == [0, 0]


# Broker


async def test_the_broker_speaks_to_aiokafka(folder: Path) -> None:
    with running_stack(folder) as stack:
        admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
        producer = AIOKafkaProducer(bootstrap_servers=stack.kafka, acks="all")
        consumer = AIOKafkaConsumer(
            bootstrap_servers=stack.kafka, auto_offset_reset="earliest", enable_auto_commit=False, fetch_max_wait_ms=5
        )
        for client in (admin, producer, consumer):
            await client.start()
        try:
            assert (await admin.describe_cluster())["cluster_id"] == stack.broker.cluster_id
            await admin.create_topics([NewTopic("orders", 6, 1)])
            partitions = [TopicPartition("orders", number) for number in range(6)]
            consumer.assign(partitions)
            assert set((await consumer.end_offsets(partitions)).values()) == {0}
            await producer.send_and_wait("orders", b"body", key=b"key", partition=3, headers=[("ce_id", b"1")])
            record = await consumer.getone()
            assert (record.partition, record.key, record.value, record.headers) == (
                3,
                b"key",
                b"body",
                (("ce_id", b"1"),),
            )
            ends = await consumer.end_offsets(partitions)
            assert [number for number in range(6) if ends[partitions[number]] > 0] == [3]
        finally:
            for client in (consumer, producer):
                await client.stop()
            await admin.close()


def test_a_broker_that_restarts_has_a_new_cluster_id(folder: Path) -> None:
    with running_stack(folder) as stack:
        before = stack.broker.cluster_id
        killed = pid_of(stack.supervisor, "kafka")
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        eventually(stack.supervisor.poll)
        stack.supervisor.wait_ready("kafka", lambda _: stack.broker.is_ready())
        assert stack.broker.cluster_id != before


# Supervisor: Python children are forked by launchers of their own, since pytest may have threads


class Launcher:
    """A Python process that runs `script` and notes pids as files `<name>.pid`."""

    def __init__(self, folder: Path, script: str) -> None:
        self.folder = folder
        prelude = """
            import os, signal, sys, time
            from pathlib import Path
            from ordermill.embedded import Child, Supervisor
            folder = Path(sys.argv[1])

            def tell(name, text):
                (folder / f"{name}.part").write_text(str(text))
                (folder / f"{name}.part").rename(folder / name)

            def lives(name):
                def run():
                    signal.signal(signal.SIGTERM, lambda *_: (tell(f"{name}.end", time.monotonic_ns()), sys.exit(0)))
                    tell(f"{name}.pid", os.getpid())
                    signal.pause()
                return run

            supervisor = Supervisor(folder / "run.json", grace_s=float(os.environ.get("GRACE_S", "10")))
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, supervisor.stop_soon)
        """
        (folder / "launcher.py").write_text(textwrap.dedent(prelude) + textwrap.dedent(script))
        self.process = subprocess.Popen(
            [sys.executable, str(folder / "launcher.py"), str(folder)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def told(self, name: str) -> int:
        eventually((self.folder / name).exists)
        return int((self.folder / name).read_text())


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[[str], Launcher]]:
    launched: list[Launcher] = []

    def make(script: str) -> Launcher:
        launched.append(Launcher(tmp_path, script))
        return launched[-1]

    yield make
    for launcher in launched:
        launcher.process.kill()
        launcher.process.wait()
    clear_leftovers(tmp_path / "run.json")


TWO_CHILDREN = """
    supervisor.start(Child("program", argv=lambda: ["sleep", "1000"], stage=0))
    supervisor.start(Child("function", function=lives("function")))
    tell("program.pid", supervisor.status()[0].pid)
    supervisor.run()
"""


def test_a_killed_child_is_restarted(launch: Callable[[str], Launcher]) -> None:
    launcher = launch(
        """
        supervisor.start(Child("program", argv=lambda: ["sleep", "1000"], stage=0))
        supervisor.start(Child("function", function=lives("function")))
        def tick():
            tell("program.pid", supervisor.status()[0].pid or 0)
            tell("restarts", sum(child.restarts for child in supervisor.status()))
        supervisor.run(tick)
        """
    )
    first = {name: launcher.told(f"{name}.pid") for name in ("program", "function")}
    for pid in first.values():
        os.kill(pid, signal.SIGKILL)
    for name, pid in first.items():
        eventually(lambda name=name, pid=pid: launcher.told(f"{name}.pid") not in {0, pid})
    eventually(lambda: launcher.told("restarts") == 2)


def test_a_signal_stops_all_later_stages_first_and_leaves_nothing(launch: Callable[[str], Launcher]) -> None:
    launcher = launch(
        """
        supervisor.start(Child("base", function=lives("base"), stage=0))
        supervisor.start(Child("upper", function=lives("upper")))
        supervisor.run()
        """
    )
    pids = [launcher.told("base.pid"), launcher.told("upper.pid")]
    launcher.process.send_signal(signal.SIGTERM)
    assert launcher.process.wait(15) == 0
    assert launcher.told("upper.end") < launcher.told("base.end")
    assert [started_at(pid) for pid in pids] == [None, None]
    assert not (launcher.folder / "run.json").exists()


def test_a_child_that_will_not_stop_is_killed(
    launch: Callable[[str], Launcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRACE_S", "0.1")
    launcher = launch(
        """
        def stubborn():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            tell("stubborn.pid", os.getpid())
            while True:
                signal.pause()
        supervisor.start(Child("stubborn", function=stubborn))
        supervisor.run()
        """
    )
    pid = launcher.told("stubborn.pid")
    launcher.process.send_signal(signal.SIGINT)
    assert launcher.process.wait(15) == 0
    assert started_at(pid) is None


@linux_only
def test_children_die_with_a_killed_launcher(launch: Callable[[str], Launcher]) -> None:
    launcher = launch(TWO_CHILDREN)
    pids = [launcher.told("function.pid"), launcher.told("program.pid")]
    launcher.process.kill()
    eventually(lambda: [started_at(pid) for pid in pids] == [None, None])


@linux_only
def test_a_start_after_the_launcher_was_killed_clears_its_servers(
    folder: Path, launch: Callable[[str], Launcher]
) -> None:
    launcher = launch(
        f"""
        from ordermill.embedded import EmbeddedStack
        stack = EmbeddedStack(Path({str(folder)!r})).start()
        tell("postgres.pid", stack.supervisor.status()[0].pid)
        stack.supervisor.run()
        """
    )
    pid = launcher.told("postgres.pid")
    launcher.process.kill()
    launcher.process.wait()
    with running_stack(folder):
        assert started_at(pid) is None


def test_a_child_stands_back_as_far_as_it_is_told_to(launch: Callable[[str], Launcher]) -> None:
    launcher = launch(
        """
        before = os.nice(0)
        child = Child("modest", function=lambda: sys.exit(os.nice(0) - before), essential=False, nice=5)
        supervisor.start(child)
        assert supervisor.wait(lambda: child.status is not None)
        tell("steps back", child.status)
        """
    )
    assert launcher.told("steps back") == 5


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="the processors are not shared out by session")
def test_so_does_its_session_where_processors_are_shared_out_by_session(launch: Callable[[str], Launcher]) -> None:
    launcher = launch(
        """
        def sessions() -> list[str]:
            return [Path(f"/proc/{child.pid}/autogroup").read_text().partition("nice ")[2].strip() for child in modest]

        modest = [Child(f"modest-{n}", function=lambda: time.sleep(60), essential=False, nice=5) for n in range(3)]
        for child in modest:
            supervisor.start(child)
        until = time.monotonic() + 20
        supervisor.wait(lambda: sessions() == ["5"] * 3 or time.monotonic() > until)
        tell("sessions", sessions().count("5"))
        supervisor.stop()
        """
    )
    assert launcher.told("sessions") == 3


def test_a_child_that_ends_is_told_of_and_not_restarted_if_not_essential(launch: Callable[[str], Launcher]) -> None:
    launcher = launch(
        """
        child = Child("once", function=lambda: sys.exit(3), essential=False)
        supervisor.start(child)
        assert supervisor.wait(lambda: child.status is not None)
        tell("status", child.status)
        """
    )
    assert launcher.told("status") == 3


async def test_forking_beside_an_event_loop_is_refused() -> None:
    with pytest.raises(UnsafeFork, match=r"child: forking needs .*, found (\d+ threads|a running event loop)"):
        Supervisor().start(Child("child", function=lambda: None))


def test_a_program_that_keeps_dying_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    supervisor = Supervisor()
    supervisor.start(Child("broken", argv=lambda: ["sh", "-c", "echo no disk; exit 4"], log=tmp_path / "broken.log"))
    with pytest.raises(NotStarted, match=r"(?s)broken: .*status 4.*no disk"):
        supervisor.wait_ready("broken", lambda _: False)
    supervisor.stop()


def test_a_program_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match="missing: expected to get ready, but it could not be run"):
        Supervisor().start(Child("missing", argv=lambda: [str(tmp_path / "none")]))


def test_leftovers_are_ended_but_a_number_used_again_is_not(tmp_path: Path) -> None:
    run_file = tmp_path / "run.json"
    with subprocess.Popen(["sleep", "1000"]) as ours, subprocess.Popen(["sleep", "1000"]) as foreign:
        known = {"name": "ours", "pid": ours.pid, "started": started_at(ours.pid), "stop_signal": signal.SIGTERM}
        reused = known | {"name": "foreign", "pid": foreign.pid, "started": "another boot/1"}
        run_file.write_text(json.dumps([known, reused]))
        assert clear_leftovers(run_file) == ["ours"]
        assert ours.wait(15) == -signal.SIGTERM
        assert foreign.poll() is None
        foreign.kill()
    assert not run_file.exists()


def test_a_free_port_is_free(taken_port: int) -> None:
    assert not is_free(taken_port)


# Another broker


def test_a_folder_that_is_no_apache_kafka_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()
    with pytest.raises(NoKafkaHere, match=r"kafka-server-start\.sh.*bin/"):
        EmbeddedStack(folder, kafka=str(tmp_path / "kafka")).start()


@pytest.mark.parametrize("named", ["no-such-folder", "localhost", "host:port"])
def test_what_is_neither_a_folder_nor_a_brokers_address_is_refused(folder: Path, named: str) -> None:
    with pytest.raises(BadAddress, match="host:port, or the folder"):
        EmbeddedStack(folder, kafka=named).start()


def test_with_a_broker_that_runs_elsewhere_none_is_started(folder: Path) -> None:
    with EmbeddedStack(folder, kafka="127.0.0.1:9") as stack:
        assert stack.kafka == "127.0.0.1:9"
        assert [status.name for status in stack.supervisor.status()] == ["postgres"]
