"""How commands print and how they fail: data to stdout, talk to stderr, one line for each error.

Exit status: 0 done; 1 refused, nothing found, or something wrong found; 2 wrong usage; 3 unreachable, or no
installation; 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from ordermill.errors import OrdermillError

JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of text: one value, or one a line.")]

DONE, WRONG, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130

_FAR_AWAY = frozenset(
    {"cli.unreachable", "settings.wrong", "installation.none", "eventlog.unavailable", "kafka.unavailable"}
)


_WrongUsage = cast("type[Exception]", typer.BadParameter.__base__)


class Oms(TyperGroup):
    """The root command: what was to be expected becomes one line and an exit status, never a traceback."""

    def make_context(self, info_name: str | None, *args: Any, **more: Any) -> Any:
        try:
            return super().make_context(info_name, *args, **more)
        except _WrongUsage as error:
            raise _told(error, info_name or "oms") from None

    def invoke(self, ctx: Any) -> Any:
        words = [*ctx._protected_args, *ctx.args]
        try:
            _check_readable(words)
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except _WrongUsage as error:
            raise _told(error, self._meant(ctx, words)) from None
        except Exception as error:
            found = explained(error)
            if found is None:
                raise
            status, text = found
            say(f"oms: {text}")
            raise typer.Exit(status) from None

    def _meant(self, ctx: Any, words: Sequence[str]) -> str:
        """The command that these words begin with; where an option lacks its value, the error does not tell."""
        at, path = self, [ctx.command_path]
        for word in words:
            found = at.get_command(ctx, word) if isinstance(at, TyperGroup) else None
            if found is None:
                break
            at = cast("Any", found)
            path.append(word)
        return " ".join(path)


def _check_readable(words: Sequence[str]) -> None:
    """Bytes that are no UTF-8 may name a file, and nothing of ours."""
    for word in words:
        if any("\ud800" <= char <= "\udfff" for char in word) and not os.path.lexists(word):
            raise typer.BadParameter(f"{word!r}: expected UTF-8")


def _told(error: Any, command: str) -> Exception:
    """Wrong usage in one line, if it is one; of `command` where the error does not tell of which."""
    if type(error).__name__ == "NoArgsIsHelpError":
        return cast("Exception", error)
    at = error.ctx.command_path if error.ctx is not None else command
    say(f"oms: {' '.join(error.format_message().split())} (see `{at} --help`)")
    return typer.Exit(USAGE)


def explained(error: Exception) -> tuple[int, str] | None:
    """The exit status and the line for an error that can happen to anyone; None for a defect of ours."""
    text = " ".join(str(error).split())
    if isinstance(error, OrdermillError):
        return (UNREACHABLE if error.code in _FAR_AWAY else WRONG), text
    if _is_a(error, "ordermill.embedded.errors", "EmbeddedError"):
        return WRONG, text
    if _is_a(error, "asyncpg.exceptions", "UndefinedTableError"):
        return UNREACHABLE, f"the database is not set up as this program expects ({text}): run `oms migrate`"
    if _is_a(error, "asyncpg", "PostgresError"):
        return UNREACHABLE, f"PostgreSQL refuses: {text}. `oms doctor` says more"
    if isinstance(error, OSError) and error.filename is not None:
        return WRONG, f"{error.filename}: {error.strerror}"
    return None


def _is_a(error: Exception, module: str, name: str) -> bool:
    """Whether `error` is of that class, without importing its module: if nobody has, it is not."""
    cls = getattr(sys.modules.get(module), name, None)
    return cls is not None and isinstance(error, cls)


def say(text: str) -> None:
    """A line for people."""
    sys.stdout.flush()  # what was told before comes before, also where both go to one pipe
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """One JSON value on one line."""
    print(json.dumps(value, ensure_ascii=False, default=_as_json))


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return str(value)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A rich table on a terminal, aligned text elsewhere. Numbers stand to the right."""
    rows = [list(row) for row in rows]
    right = [bool(rows) and all(isinstance(row[n], int | float) for row in rows) for n in range(len(columns))]
    cells = [[cell(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for name, to_right in zip(columns, right, strict=True):
            table.add_column(name, justify="right" if to_right else "left", overflow="fold", no_wrap=to_right)
        for row in cells:
            table.add_row(*(Text(text) for text in row))
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for row in [list(columns), *cells]:
        parts = (
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(row, widths, right, strict=True)
        )
        print("  ".join(parts).rstrip())


def print_pairs(pairs: Iterable[tuple[str, Any]]) -> None:
    """Names and values, one a line; values that are empty are left out."""
    shown = [(name, cell(value)) for name, value in pairs if value not in (None, "", [], ())]
    width = max((len(name) for name, _ in shown), default=0)
    for name, text in shown:
        print(f"{name.ljust(width)}  {text}")


def heading(text: str) -> None:
    print(f"\n{text}")


def cell(value: Any) -> str:
    """A value as people read it, on one line and without anything that a terminal would obey."""
    match value:
        case None:
            text = ""
        case bool():
            text = "yes" if value else "no"
        case {"minor": int(minor), "currency": str(currency)}:
            text = money(minor, currency)
        case datetime():
            text = instant(value)
        case str() | int() | float():
            text = str(value)
        case list() | tuple():
            text = ", ".join(cell(each) for each in value)
        case Mapping():
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        case _:
            text = str(value)
    return "".join(char if char.isprintable() else " " for char in text)


def money(minor: int, currency: str) -> str:
    from ordermill.contracts.fields import Money

    return str(Money(minor=minor, currency=currency))


def instant(value: str | datetime | None) -> str:
    """To the second, UTC."""
    if value is None:
        return ""
    when = datetime.fromisoformat(value) if isinstance(value, str) else value
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, told how much is done; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
