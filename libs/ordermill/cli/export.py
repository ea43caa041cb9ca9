"""Facts for analysts: the logs as Parquet files."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from ordermill.errors import Refused

from .place import adopt, chosen, opened
from .terminal import JsonOption, print_json, print_table, progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ordermill.eventlog.records import SequencedRow
    from ordermill.eventlog.store import Store

app = typer.Typer()

IN_A_FILE = 250_000
_PAGE = 5_000
_FILE = re.compile(r"(?P<service>[a-z]+)-(?P<first>\d{12})-(?P<last>\d{12})\.parquet")
_COLUMNS = {
    "service": "VARCHAR", "seq": "BIGINT", "stream": "VARCHAR", "version": "INTEGER", "event_id": "UUID",
    "type": "VARCHAR", "happened_at": "TIMESTAMPTZ", "recorded_at": "TIMESTAMPTZ", "actor": "VARCHAR",
    "correlation_id": "VARCHAR", "causation_id": "VARCHAR", "hash": "VARCHAR", "data": "VARCHAR",
}  # fmt: skip


class NoParquet(Refused):
    """What writes Parquet is not installed."""

    code = "cli.no-parquet"

    def __init__(self) -> None:
        super().__init__("this needs DuckDB: pip install 'ordermill[export]', in the environment that `oms` runs in")


class FilesMissing(Refused):
    """The files in a folder do not hold a log from its first event on."""

    code = "cli.files-missing"

    def __init__(self, folder: Path, service: str, after: int, name: str) -> None:
        super().__init__(
            f"{folder}: {name} does not go on behind event {after} of {service}: a file is missing or there twice. "
            "Bring it back, or export into an empty folder"
        )


class ExportedMeanwhile(Refused):
    """Somebody else writes to the folder at the same time."""

    code = "cli.exported-meanwhile"

    def __init__(self, folder: Path, service: str) -> None:
        super().__init__(
            f"{folder}: another export wrote events of {service} there meanwhile, so these were not written twice. "
            "Let one finish before the next begins"
        )


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", file_okay=False, help="Where the files go.")],
    service: Annotated[str | None, typer.Argument(metavar="SERVICE", help="One log; all if not given.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write every fact of the logs to Parquet files, each log's in its order; the next time only what is new.

    One row is one event, `data` its JSON; names and addresses are sealed. Exit status: 0 done, 1 files are missing, or
    another export writes there.
    """
    services = chosen(service)
    adopt()
    folder.mkdir(parents=True, exist_ok=True)

    async def work() -> list[tuple[str, int, int, str]]:
        written = []
        for name in services:
            async with opened(name) as store:
                after = exported(folder, name)
                with progress(f"{name} log", await store.head() - after) as tell:
                    written += [(name, *each) for each in await export_log(store, name, folder, tell)]
        return written

    written = asyncio.run(work())
    columns = ["service", "first", "last", "file"]
    if as_json:
        for row in written:
            print_json(dict(zip(columns, row, strict=True)))
    else:
        print_table(columns, written)


def exported(folder: Path, service: str) -> int:
    """Up to which event of a log there are files. Raises FilesMissing."""
    last = 0
    for name in sorted(path.name for path in folder.iterdir()):
        found = _FILE.fullmatch(name)
        if found is not None and found["service"] == service:
            if int(found["first"]) != last + 1:
                raise FilesMissing(folder, service, last, name)
            last = int(found["last"])
    return last


async def export_log(
    store: Store, service: str, folder: Path, progress: Callable[[int], None] = lambda events: None
) -> list[tuple[int, int, str]]:
    """What of a log is not in the folder yet: first and last event of each file written, and its name.

    Raises FilesMissing, ExportedMeanwhile, NoParquet.
    """
    last = exported(folder, service)
    began = last
    written: list[tuple[int, int, str]] = []
    while True:
        with NamedTemporaryFile(dir=folder, suffix=".jsonl") as lines:
            first = last + 1
            while last - first + 1 < IN_A_FILE and (
                page := await store.read(last, min(_PAGE, IN_A_FILE - (last - first + 1)))
            ):
                lines.writelines(_lines(service, page))
                last = page[-1].seq
                progress(last - began)
            if last < first:
                return written
            lines.flush()
            name = f"{service}-{first:012}-{last:012}.parquet"
            part = Path(lines.name).with_suffix(".part")
            try:
                await asyncio.to_thread(_write, Path(lines.name), part)
                if exported(folder, service) != first - 1:
                    raise ExportedMeanwhile(folder, service)
                os.replace(part, folder / name)
            finally:
                part.unlink(missing_ok=True)
            written.append((first, last, name))


def _lines(service: str, page: Sequence[SequencedRow]) -> list[bytes]:
    return [
        orjson.dumps(
            {
                "service": service,
                "seq": seq,
                "stream": row.stream,
                "version": row.version,
                "event_id": str(row.event_id),
                "type": row.type,
                "happened_at": row.happened_at,
                "recorded_at": row.recorded_at,
                "actor": row.actor,
                "correlation_id": row.correlation_id,
                "causation_id": row.causation_id,
                "hash": row.hash.hex(),
                "data": row.data.decode(),
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
        for seq, row in page
    ]


def _write(lines: Path, target: Path) -> None:
    try:
        import duckdb
    except ImportError:
        raise NoParquet from None
    with duckdb.connect() as connection:
        read = connection.read_json(str(lines), columns=_COLUMNS, format="newline_delimited")
        read.project("* REPLACE (data::JSON AS data)").write_parquet(str(target), compression="zstd")
