"""Proof that all follows from the logs: views built anew, everything checked."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .place import adopt, chosen, declared, known_service, opened, opened_all, owner_url
from .terminal import DONE, WRONG, JsonOption, print_json, print_table, progress, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ordermill.contracts.service import CheckpointMade
    from ordermill.eventlog.rebuild import RebuildReport

app = typer.Typer()


@app.command()
def rebuild(
    service: Annotated[str, typer.Argument(metavar="SERVICE")],
    view: Annotated[str | None, typer.Argument(metavar="VIEW", help="One of its views; all if not given.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Build a service's views anew from its log, beside the live ones, and swap them in while it works on.

    Exit status: 0 done, 1 the live view left no moment to swap.
    """
    known_service(service)
    adopt()
    reports = asyncio.run(_rebuild(service, view))
    if as_json:
        for report in reports:
            print_json({"service": service, **_fields(report)})
        return
    print_table(
        ["view", "documents", "events", "caught up", "seconds"],
        [[each.view, each.documents, each.events, each.caught_up, round(each.seconds, 2)] for each in reports],
    )


def _fields(report: RebuildReport) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(report)


async def _rebuild(service: str, view: str | None) -> list[RebuildReport]:
    from ordermill.eventlog.aggregates import Aggregates
    from ordermill.eventlog.rebuild import rebuild_view

    rules = declared(service)[0].rules()
    names = [each.name for each in rules.views]
    if view is not None and view not in names:
        raise typer.BadParameter(f"{service} has no view {view!r}; it has: {', '.join(names)}")
    owner = owner_url(service)
    reports = []
    async with opened(service) as store:
        total = (await store.counts())["events"]
        for each in rules.views:
            if view in (None, each.name):
                with progress(f"{service} {each.name}", total) as tell:
                    reports.append(await rebuild_view(owner, store, Aggregates(rules.deciders), each, tell))
    return reports


@dataclass
class Verified:
    """What was checked, how many of it, and what is wrong."""

    checked: dict[str, int] = field(default_factory=dict)
    violations: list[Any] = field(default_factory=list)
    origins: dict[Any, Any] = field(default_factory=dict)
    """By violation: the first event that shows it, and its causes; asked for by --why."""


@app.command()
def verify(
    service: Annotated[str | None, typer.Argument(metavar="SERVICE", help="One log; all if not given.")] = None,
    settled: Annotated[
        bool, typer.Option("--settled", help="Nothing may be under way any more: all must add up to the last unit.")
    ] = False,
    why: Annotated[
        bool, typer.Option("--why", help="Of what is not conserved also the first event that shows it, and its causes.")
    ] = False,
    held: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help="Checkpoints kept elsewhere, as `oms checkpoints --json`."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check hashes, numbers and checkpoints of every log, and that views are what folding gives, byte for byte.

    Over all logs together also that units, lines and money are conserved, that effects happened once, by the facts and
    by the simulated providers' own ledger, and that each routing decision comes out the same when made again.
    Exit status: 0 all as it must be, 1 something is wrong.
    """
    if settled and service is not None:
        raise typer.BadParameter("--settled looks at all logs together: leave the service out")
    services = chosen(service)
    kept = _held(held) if held is not None else ()
    adopt()
    found = asyncio.run(_verify(services, settled, why, kept))
    if as_json:
        told = [{"violation": str(each), **as_dict(origin)} for each, origin in found.origins.items()]
        violations = [as_dict(each) for each in found.violations]
        print_json({"checked": found.checked, "violations": violations, "origins": told})
    else:
        print_table(["checked", "count"], list(found.checked.items()))
        for violation in found.violations:
            print(violation)
            if violation in found.origins:
                print(f"  {found.origins[violation]}")
    say(f"violations: {len(found.violations)}" if found.violations else "all as it must be")
    raise typer.Exit(WRONG if found.violations else DONE)


def _held(path: Path) -> Sequence[CheckpointMade]:
    from ordermill.eventlog.checkpoints import read_held

    return read_held(path.read_bytes())


def as_dict(violation: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(violation)


async def _verify(services: tuple[str, ...], settled: bool, why: bool, held: Sequence[CheckpointMade] = ()) -> Verified:
    from ordermill.audit import audit, ledger_reader
    from ordermill.audit.origin import origins
    from ordermill.eventlog.checkpoints import not_as_held
    from ordermill.eventlog.proofs import checkpoints_of
    from ordermill.eventlog.verify import Violation, verify_store

    found = Verified()
    async with opened_all(services) as stores:
        for name, store in stores.items():
            events = (await store.counts())["events"]
            found.checked[f"{name} events"] = events
            # Each event is looked at twice: in its stream and in the sequence.
            with progress(f"{name} log", events * 2) as tell:
                found.violations += await verify_store(store, declared(name)[0].rules(), tell)
            own = await checkpoints_of(store, name)
            found.checked[f"{name} checkpoints"] = len(own)
            found.violations += [
                Violation("not-as-held", f"{name} checkpoint {each.number}", text)
                for each, text in not_as_held((each for each in held if each.service == name), own)
            ]
        if len(stores) > 1:
            total = sum(count for what, count in found.checked.items() if what.endswith(" events"))
            with progress("all together", total * 2) as tell:
                report = await audit(stores, settled, tell, ledger_reader())
            found.checked |= report.checked
            found.violations += report.violations
            if why and report.violations:
                found.origins = await origins(stores, report.violations)
    return found
