"""The pages of `docs/reference/`, written from the code: `python -m ordermill.reference docs/reference`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

WRITTEN = "Written from the code by `make docs`; do not edit.\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    lines += [f"| {' | '.join(cell(each) for each in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """Text that stays in one cell."""
    return " ".join(text.split()).replace("|", "\\|")


def pages() -> dict[str, Callable[[], str]]:
    """Each page's file name and what writes it."""
    from . import commands, events, metrics, settings, topics

    return {
        "commands.md": commands.reference,
        "settings.md": settings.reference,
        "events.md": events.reference,
        "topics.md": topics.reference,
        "metrics.md": metrics.reference,
    }
