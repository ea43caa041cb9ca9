"""Which version of its code wrote all that a view holds: who migrates, starts a service or rebuilds notes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .views import View

_MIXED = 0


async def note_new(connection: Any, view: View) -> None:
    """A view is there, maybe only now. Where its streams have events already, nobody knows what wrote it, if any."""
    await connection.execute(
        """INSERT INTO view_versions (view, version)
           SELECT $1, CASE WHEN EXISTS (SELECT FROM events WHERE stream > $3 AND stream < $4) THEN $5 ELSE $2::int END
           ON CONFLICT (view) DO NOTHING""",
        view.name,
        view.version,
        f"{view.category}-",
        f"{view.category}.",  # "." follows "-"
        _MIXED,
    )


async def note_built(connection: Any, view: View) -> None:
    """All of it was written anew."""
    await connection.execute(
        """INSERT INTO view_versions (view, version) VALUES ($1, $2)
           ON CONFLICT (view) DO UPDATE SET version = EXCLUDED.version""",
        view.name,
        view.version,
    )


async def note_writer(connection: Any, views: Sequence[View]) -> None:
    """Code that has these versions writes from now on: a view of another version will be mixed."""
    await connection.execute(
        """UPDATE view_versions AS v SET version = $3 FROM unnest($1::text[], $2::int[]) AS writer (view, version)
           WHERE v.view = writer.view AND v.version <> writer.version""",
        [view.name for view in views],
        [view.version for view in views],
        _MIXED,
    )


async def outdated(connection: Any, views: Sequence[View]) -> list[str]:
    """Those that may hold what other code wrote."""
    known = dict(await connection.fetch("SELECT view, version FROM view_versions"))
    return [view.name for view in views if known.get(view.name) != view.version]


def remedy(service: str, views: Sequence[str]) -> str:
    """What to do about them."""
    commands = " and ".join(f"`oms rebuild {service} {view}`" for view in views)
    return f"once all of {service} runs this release: {commands}"
