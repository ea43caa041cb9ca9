"""Dead letters: what could not be handled, looked at, handled after all, or dropped."""

from __future__ import annotations

import asyncio
import sys
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ordermill.errors import OrdermillError

from .client import NotThere
from .place import adopt, chosen, database_url, declared, opened
from .terminal import DONE, WRONG, JsonOption, cell, heading, print_json, print_pairs, print_table, say

if TYPE_CHECKING:
    from ordermill.contracts.service import DeadLettered
    from ordermill.eventlog.store import Store
    from ordermill.service.declare import Service
    from ordermill.service.running import RunningService

app = typer.Typer(help="Dead letters: list, show, redrive, drop.", no_args_is_help=True)

VIEW = "dead_letters"

ServiceArgument = Annotated[str | None, typer.Argument(metavar="SERVICE", help="Only of this one.")]
CodeOption = Annotated[str | None, typer.Option(help="Only those with this code, like contracts.malformed.")]
IdOption = Annotated[str | None, typer.Option("--id", help="Only this letter.")]
NoteOption = Annotated[str, typer.Option(help="Why, for those who look at it later.")]


STATUSES = ("waiting", "redriven", "dropped", "all")


@dataclass(frozen=True)
class Wanted:
    """Which letters; None and "" mean any."""

    status: str = ""
    code: str | None = None
    letter_id: str | None = None


@app.command(name="list")
def list_letters(
    service: ServiceArgument = None,
    code: CodeOption = None,
    status: Annotated[str, typer.Option(help=f"One of {', '.join(STATUSES)}.")] = "waiting",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many of each service.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List dead letters. Exit status: 0 there are some, 1 none."""
    if status not in STATUSES:
        raise typer.BadParameter(f"no status {status!r}; there are: {', '.join(STATUSES)}")
    services = chosen(service)
    adopt()
    wanted = Wanted("" if status == "all" else status, code)

    async def work() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for name in services:
            async with opened(name) as store:
                letters = await letters_of(store, wanted, limit)
                found += [{"service": name, "letter_id": key, **letter} for key, letter in letters]
        return found

    letters = asyncio.run(work())
    if as_json:
        for letter in letters:
            print_json(letter)
    elif letters:
        print_table(
            ["service", "letter", "status", "code", "topic", "type", "attempts", "reason"],
            [
                [
                    each["service"],
                    each["letter_id"],
                    each["status"],
                    each.get("code"),
                    each.get("source_topic"),
                    each.get("message_type"),
                    each.get("attempts"),
                    each.get("reason"),
                ]
                for each in letters
            ],
        )
    if not letters:
        say("no such dead letters")
    raise typer.Exit(DONE if letters else WRONG)


async def letters_of(store: Store, wanted: Wanted, limit: int | None = None) -> list[tuple[str, dict[str, Any]]]:
    """The letters of one log, by id, as its view shows them."""
    found: list[tuple[str, dict[str, Any]]] = []
    after = ""
    where = {"status": wanted.status} if wanted.status else {}
    while limit is None or len(found) < limit:
        page = await store.documents(VIEW, where, after, 1_000)
        found += [
            (key, letter)
            for key, letter in page
            if wanted.code in (None, letter.get("code")) and wanted.letter_id in (None, key)
        ]
        if len(page) < 1_000:
            break
        after = page[-1][0]
    return found[:limit]


@app.command()
def show(
    letter_id: Annotated[str, typer.Argument(metavar="LETTER", help="Its id, as `oms dlq list` shows it.")],
    only_body: Annotated[
        bool, typer.Option("--body", help="Only the body, byte for byte, to put into a file.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter: the reason, the headers, the body as it came. Exit status: 0 shown, 1 no such letter."""
    adopt()
    found = asyncio.run(_find(letter_id))
    if found is None:
        raise NotThere(f"no dead letter {letter_id!r} in any log; `oms dlq list --status all` shows all")
    service, status, letter, body = found
    if only_body:
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()
        return
    headers = [(header.name, _text(b64decode(header.value_base64))) for header in letter.headers]
    key = None if letter.key_base64 is None else _text(b64decode(letter.key_base64))
    content = letter.model_dump(mode="json", exclude={"headers", "key_base64", "value_base64"})
    if as_json:
        print_json(
            {"service": service, "status": status, **content, "key": key, "headers": headers, "body": _text(body)}
        )
        return
    print_pairs([("service", service), ("status", status), *content.items(), ("key", key)])
    heading("Headers")
    print_table(["name", "value"], headers)
    heading("Body")
    print(_text(body))


async def _find(letter_id: str) -> tuple[str, str, DeadLettered, bytes] | None:
    from ordermill.contracts.base import decode
    from ordermill.service.deadletters import LETTERS, body_of, whole

    stream = LETTERS.stream(letter_id)
    for service in chosen(None):
        async with opened(service) as store:
            rows = await store.read_stream(stream)
            state = LETTERS.fold(decode(row.type, row.data) for row in rows)
            if state.letter is not None:
                return service, state.status, await whole(store, state.letter), await body_of(store, state.letter)
    return None


def _text(content: bytes) -> str:
    """Bytes as text; those that are none are written as `\\x..`, and so is what a terminal would obey."""
    text = content.decode(errors="backslashreplace")
    return "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text)


@app.command()
def redrive(
    service: ServiceArgument = None, code: CodeOption = None, letter_id: IdOption = None, as_json: JsonOption = False
) -> None:
    """Handle waiting dead letters after all, oldest first, by the service's own rules, here and now.

    Each is handled and marked in one transaction; one that fails again stays as it is, with the reason on stderr.
    Safe while the services run, and safe to repeat. Exit status: 0 all that matched were handled, 1 none matched or
    some failed again.
    """
    _settle("redriven", service, Wanted("waiting", code, letter_id), None, as_json)


@app.command()
def drop(
    note: NoteOption,
    service: ServiceArgument = None,
    code: CodeOption = None,
    letter_id: IdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decide that waiting dead letters need no handling. They stay in the log, with the note.

    Exit status: 0 dropped, 1 none matched.
    """
    if service is None and code is None and letter_id is None:
        raise typer.BadParameter("say which: a service, --code or --id")
    _settle("dropped", service, Wanted("waiting", code, letter_id), note, as_json)


def _settle(word: str, service: str | None, wanted: Wanted, note: str | None, as_json: bool) -> None:
    services = chosen(service)
    adopt()

    async def work() -> tuple[list[dict[str, str]], list[str]]:
        done: list[dict[str, str]] = []
        failed: list[str] = []
        for name in services:
            async with opened(name) as store:
                letters = await _oldest_first(store, await letters_of(store, wanted))
                if not letters:
                    continue
                async with handling(name, store) as running:
                    for key, _ in letters:
                        problem = await _end(running, key, note)
                        if problem is None:
                            done.append({"service": name, "letter_id": key, "status": word})
                        else:
                            failed.append(f"{name} {key} stays: {problem}")
        return done, failed

    done, failed = asyncio.run(work())
    if as_json:
        for each in done:
            print_json(each)
    elif done:
        print_table(["service", "letter", "status"], [list(each.values()) for each in done])
    for problem in failed:
        say(problem)
    if not done and not failed:
        say("no such dead letters are waiting")
    raise typer.Exit(DONE if done and not failed else WRONG)


async def _oldest_first(store: Store, letters: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """As they were kept: messages of one key must keep their order."""
    from ordermill.service.deadletters import LETTERS

    kept = {key: (await store.read_stream(LETTERS.stream(key)))[0].recorded_at for key, _ in letters}

    def place(letter: tuple[str, dict[str, Any]]) -> tuple[Any, ...]:
        key, shown = letter
        return kept[key], shown["source_topic"], shown["partition"], shown["offset"], key

    return sorted(letters, key=place)


async def _end(running: RunningService, letter_id: str, note: str | None) -> str | None:
    """Drop a letter with a note, or redrive it without one; why not, if not."""
    from ordermill.service import deadletters

    try:
        if note is None:
            await running.redrive(letter_id, _actor())
        else:
            await running.execute((deadletters.drop(letter_id, note),), _actor())
    except OrdermillError as error:
        return cell(f"{error} [{error.code}]")
    except Exception as error:
        return f"unexpected {type(error).__name__}, a defect of ours: {cell(str(error))}"
    return None


def _actor() -> str:
    import getpass

    return f"user:{getpass.getuser()}"


@asynccontextmanager
async def handling(name: str, store: Store) -> AsyncIterator[RunningService]:
    """A service's handlers over its log, without Kafka. Its relay, which runs elsewhere, publishes what comes of it."""
    import logging

    from ordermill.eventlog.engine import Engine
    from ordermill.service.logs import configure_logging
    from ordermill.service.metrics import Metrics
    from ordermill.service.run import clock_of
    from ordermill.service.running import RunningService

    configure_logging(name, logging.getLevelName(logging.CRITICAL))
    service, platform = declared(name)
    await _look_around(service)
    yield RunningService(service, Engine(store, service.rules(), clock_of(platform)), Metrics(), platform.retries)


async def _look_around(service: Service) -> None:
    """The picture of other services' states that it follows on Kafka, from where they keep what they publish."""
    import asyncpg

    from ordermill.contracts.base import decode
    from ordermill.eventlog.postgres import translated

    for followed in service.follows:
        owner = followed.message.topic.split(".")[1]
        with translated():
            connection = await asyncpg.connect(database_url(owner))
            try:
                for type_name, data in await connection.fetch(
                    "SELECT type, data FROM publications WHERE topic = $1", followed.message.topic
                ):
                    followed.absorb(decode(type_name, data))
            finally:
                await connection.close()
