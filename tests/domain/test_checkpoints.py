"""What checkpoints and proofs show: no event before them can be changed, moved or left out unseen."""

from __future__ import annotations

from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordermill.contracts.service import CheckpointMade
from ordermill.eventlog import merkle
from ordermill.eventlog.checkpoints import (
    CHECKPOINTS,
    MOST,
    Close,
    Closed,
    NotHeld,
    Signer,
    decide,
    digest_of,
    faults_after,
    is_signed,
    not_as_held,
    read_held,
)

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
SIGNER = Signer(bytes(range(32)))
ROOT = sha256(b"a log").hexdigest()

hashes = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=70)


def leaves_of(found: list[bytes]) -> list[bytes]:
    return [merkle.leaf(seq, event_hash) for seq, event_hash in enumerate(found, 1)]


def close(state: Closed, first: int, last: int, root: str = ROOT) -> list[CheckpointMade]:
    made = decide(state, Close("capture", first, last, root, MONDAY + timedelta(minutes=first), SIGNER))
    assert all(isinstance(each, CheckpointMade) for each in made)
    return [each for each in made if isinstance(each, CheckpointMade)]


def chain(*ranges: tuple[int, int]) -> list[CheckpointMade]:
    found: list[CheckpointMade] = []
    for first, last in ranges:
        found += close(CHECKPOINTS.fold(found), first, last)
    return found


class TestTree:
    @given(hashes, st.data())
    def test_from_each_leaf_its_path_leads_to_the_root(self, found: list[bytes], data: st.DataObject) -> None:
        leaves = leaves_of(found)
        index = data.draw(st.integers(0, len(leaves) - 1))
        assert merkle.root_by(leaves[index], merkle.path(leaves, index)) == merkle.root(leaves)

    @given(hashes, st.data())
    def test_no_other_event_and_no_other_number_comes_to_that_root(
        self, found: list[bytes], data: st.DataObject
    ) -> None:
        leaves = leaves_of(found)
        index = data.draw(st.integers(0, len(leaves) - 1))
        steps, root = merkle.path(leaves, index), merkle.root(leaves)
        assert merkle.root_by(merkle.leaf(index + 2, found[index]), steps) != root
        assert merkle.root_by(merkle.leaf(index + 1, sha256(found[index]).digest()), steps) != root

    @given(hashes, st.data())
    def test_whatever_is_changed_moved_or_left_out_gives_another_root(
        self, found: list[bytes], data: st.DataObject
    ) -> None:
        root = merkle.root(leaves_of(found))
        at = data.draw(st.integers(0, len(found) - 1))
        others = [
            [*found[:at], sha256(found[at]).digest(), *found[at + 1 :]],
            [*found[:at], *found[at + 1 :]],
            [*found, found[at]],
        ]
        if at and found[at] != found[at - 1]:
            others.append([*found[: at - 1], found[at], found[at - 1], *found[at + 1 :]])
        assert all(not other or merkle.root(leaves_of(other)) != root for other in others)

    @pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13])
    def test_the_tree_is_that_of_rfc_9162(self, size: int) -> None:
        """Which defines it from above: the left part is the largest power of two that leaves something over."""

        def from_above(leaves: list[bytes]) -> bytes:
            if len(leaves) == 1:
                return leaves[0]
            left = 1 << (len(leaves) - 1).bit_length() - 1
            return sha256(b"\1" + from_above(leaves[:left]) + from_above(leaves[left:])).digest()

        leaves = leaves_of([bytes([number]) * 32 for number in range(size)])
        assert merkle.root(leaves) == from_above(leaves)


class TestCheckpoints:
    def test_each_names_the_one_before_and_goes_on_where_that_ended(self) -> None:
        first, second = chain((1, 10), (11, 11))
        assert (first.number, second.number) == (1, 2)
        assert second.previous == digest_of(first)
        state = Closed()
        for each in (first, second):
            assert list(faults_after(state, each)) == []
            state = CHECKPOINTS.evolve(state, each)
        assert state == Closed(2, 11, digest_of(second))

    def test_what_another_instance_has_closed_is_not_closed_again(self) -> None:
        state = CHECKPOINTS.fold(chain((1, 10)))
        assert close(state, 1, 10) == close(state, 1, 12) == []

    def test_the_same_command_gives_the_same_checkpoint(self) -> None:
        assert close(Closed(), 1, 10) == close(Closed(), 1, 10)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("service", "returns"),
            ("number", 3),
            ("first", 10),
            ("last", 12),
            ("root", "1" * 64),
            ("previous", "1" * 64),
            ("made_at", MONDAY),
            ("key", Signer(bytes(32)).key),
            ("signature", b64encode(bytes(64)).decode()),
        ],
    )
    def test_nothing_of_a_checkpoint_can_be_changed_without_its_key(self, field: str, value: object) -> None:
        first, second = chain((1, 10), (11, 11))
        forged = second.model_copy(update={field: value})
        assert is_signed(second)
        assert not is_signed(forged)
        assert list(faults_after(CHECKPOINTS.fold([first]), forged))

    def test_one_that_is_left_out_is_missed(self) -> None:
        first, second, third = chain((1, 10), (11, 20), (21, 30))
        assert list(faults_after(CHECKPOINTS.fold([first]), third)) == [
            "follows checkpoint 1",
            "is of events 21 to 30, 11 comes next",
            "does not name the one before as that is",
        ]
        assert list(faults_after(CHECKPOINTS.fold([first]), second)) == []

    def test_one_may_not_close_more_than_its_tree_may_hold(self) -> None:
        assert list(faults_after(Closed(), close(Closed(), 1, MOST)[0])) == []
        assert list(faults_after(Closed(), close(Closed(), 1, MOST + 1)[0]))

    @pytest.mark.parametrize("key", ["AAAA", b64encode(bytes(31)).decode()])
    def test_a_key_that_is_none_signs_nothing(self, key: str) -> None:
        assert not is_signed(chain((1, 1))[0].model_copy(update={"key": key}))

    def test_the_signature_is_ed25519s_over_the_documented_text(self) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        made = chain((1, 10))[0]
        text = f"ordermill checkpoint\ncapture\n1\n1\n10\n{ROOT}\n{'0' * 64}\n{1772442060000000}\n".encode()
        assert made.made_at == datetime.fromtimestamp(1772442060, UTC)
        assert b64decode(made.signature) == Ed25519PrivateKey.from_private_bytes(bytes(range(32))).sign(text)
        assert digest_of(made) == sha256(text).hexdigest()

    def test_who_kept_them_misses_what_was_cut_off_the_end_or_written_anew(self) -> None:
        kept = chain((1, 10), (11, 20), (21, 30))
        assert list(not_as_held(kept, kept)) == []
        assert list(not_as_held(kept[:2], kept)) == [], "later ones are no news to who kept earlier ones"
        ((missed, why),) = not_as_held(kept, kept[:2])
        assert (missed, why) == (kept[2], "the log has 2: events from 21 on have been taken away")
        anew = [kept[0], *close(CHECKPOINTS.fold(kept[:1]), 11, 20, root="1" * 64)]
        assert [each for each, _ in not_as_held(kept, anew)] == kept[1:]

    def test_what_was_kept_is_read_as_it_was_printed_one_a_line(self) -> None:
        kept = chain((1, 10), (11, 20))
        assert read_held(b"\n".join(each.to_json() for each in kept)) == kept
        with pytest.raises(NotHeld, match=r"line 2: no checkpoint: number: Field required"):
            read_held(kept[0].to_json() + b'\n{"service": "capture"}')
        stranger = kept[0].model_copy(update={"service": "billing"})
        with pytest.raises(NotHeld, match="line 1: no checkpoint: there is no service 'billing'"):
            read_held(stranger.to_json())
