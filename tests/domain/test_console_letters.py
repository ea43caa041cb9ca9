"""Dead letters as the machine room ends them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.console.pictures.letters import Letter

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)


def test_letters_kept_at_one_moment_are_ended_in_the_order_of_their_topic() -> None:
    letters = [
        Letter(letter_id="d", source_topic="t", partition=0, offset=1, kept_at=MONDAY + timedelta(minutes=1)),
        Letter(letter_id="a", source_topic="t", partition=0, offset=7, kept_at=MONDAY),
        Letter(letter_id="c", source_topic="t", partition=0, offset=2, kept_at=MONDAY),
        Letter(letter_id="b", source_topic="s", partition=3, offset=9, kept_at=MONDAY),
    ]
    assert [letter.letter_id for letter in sorted(letters, key=lambda letter: letter.turn)] == ["b", "c", "a", "d"]
