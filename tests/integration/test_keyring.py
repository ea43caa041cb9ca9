"""Both key stores, one suite; and what the ring promises upon them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path

import pytest

import ordermill.keyring
from ordermill.contracts.fields import key_of
from ordermill.contracts.personal import Person
from ordermill.eventlog.migrate import migrate, provision
from ordermill.keyring import CACHED_FOR_S, BadSeal, Keyring, KeyStore, MemoryKeyStore, PostgresKeyStore
from tests.conftest import Databases

MASTER = bytes(range(32))
ADA = Person(name="Ada Lovelace", street=("12 St James's Square",), city="London", email="ada@example.org")


@pytest.fixture(params=["memory", "postgres"])
async def keys(request: pytest.FixtureRequest, databases: Databases) -> AsyncIterator[KeyStore]:
    if request.param == "memory":
        yield MemoryKeyStore()
        return
    database = databases.of(databases.access())
    await provision(databases.server, database.access)
    await migrate(database.owner_dsn, database.access.role, Path(ordermill.keyring.__file__).parent / "migrations")
    yield PostgresKeyStore(database.dsn)
    await databases.drop([database.access.database])


class Time:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Slow:
    """A store that takes its time, and counts the keys of each look-up."""

    def __init__(self, keys: KeyStore) -> None:
        self._keys = keys
        self.looked_up: list[int] = []

    async def get(self, key_ids: Collection[str]) -> dict[str, bytes | None]:
        self.looked_up.append(len(key_ids))
        await asyncio.sleep(0.01)
        return await self._keys.get(key_ids)

    async def add(self, wrapped: Mapping[str, bytes]) -> Collection[str]:
        return await self._keys.add(wrapped)

    async def destroy(self, key_id: str) -> None:
        await self._keys.destroy(key_id)


async def sealed(ring: Keyring, key_id: str, person: Person = ADA) -> str:
    await ring.ensure([key_id])
    token = ring.seal(key_id, person)
    assert token is not None
    return token


class TestStores:
    async def test_a_key_is_kept_as_it_was_added_first(self, keys: KeyStore) -> None:
        assert set(await keys.add({"c-1": b"one", "c-2": b"two"})) == {"c-1", "c-2"}
        assert set(await keys.add({"c-1": b"other", "c-3": b"three"})) == {"c-3"}
        assert await keys.get(["c-1", "c-2", "c-3", "c-4"]) == {"c-1": b"one", "c-2": b"two", "c-3": b"three"}
        assert await keys.get([]) == {}

    async def test_two_who_add_the_same_keys_never_wait_in_a_circle(self, keys: KeyStore) -> None:
        there = {f"c-{number}": b"one" for number in range(3_000)}
        back = dict(reversed(there.items()))
        added = await asyncio.gather(keys.add(there), keys.add(back), keys.add(there), keys.add(back))
        assert sum(map(len, added)) == len(there)

    async def test_a_destroyed_key_stays_destroyed(self, keys: KeyStore) -> None:
        await keys.add({"c-1": b"one"})
        for key_id in ("c-1", "c-1", "c-never-seen"):
            await keys.destroy(key_id)
        await keys.add({"c-1": b"again", "c-never-seen": b"again"})
        assert await keys.get(["c-1", "c-never-seen"]) == {"c-1": None, "c-never-seen": None}


class TestRing:
    async def test_what_was_sealed_opens(self, keys: KeyStore) -> None:
        ring = Keyring(keys, MASTER)
        ada, grace = await sealed(ring, "c-ada"), await sealed(ring, "c-grace", Person(name="Grace"))
        assert "Lovelace" not in ada
        assert await ring.open([ada, grace]) == {ada: ADA, grace: Person(name="Grace")}
        assert await Keyring(keys, MASTER).open([ada]) == {ada: ADA}

    async def test_the_same_is_sealed_differently_each_time(self, keys: KeyStore) -> None:
        ring = Keyring(keys, MASTER)
        assert await sealed(ring, "c-ada") != await sealed(ring, "c-ada")

    async def test_a_text_moved_to_another_customer_does_not_open(self, keys: KeyStore) -> None:
        ring = Keyring(keys, MASTER)
        token = await sealed(ring, "c-ada")
        await ring.ensure(["c-grace"])
        with pytest.raises(BadSeal, match="c-grace"):
            await ring.open([token.replace("c-ada", "c-grace")])

    async def test_a_key_moved_to_another_customer_does_not_unwrap(self, keys: KeyStore) -> None:
        token = await sealed(Keyring(keys, MASTER), "c-ada")
        wrapped = (await keys.get(["c-ada"]))["c-ada"]
        assert wrapped is not None
        await keys.add({"c-grace": wrapped})
        with pytest.raises(BadSeal, match="c-grace"):
            await Keyring(keys, MASTER).open([token.replace("c-ada", "c-grace")])

    async def test_another_installation_cannot_open_it(self, keys: KeyStore) -> None:
        token = await sealed(Keyring(keys, MASTER), "c-ada")
        with pytest.raises(BadSeal):
            await Keyring(keys, bytes(32)).open([token])

    @pytest.mark.parametrize("token", ["", "sealed", "sealed.v2.c-ada.AAAA", "sealed.v1.c-ada", "sealed.v1.c-ada.A.A"])
    async def test_what_is_no_seal_of_ours_says_so(self, keys: KeyStore, token: str) -> None:
        with pytest.raises(BadSeal):
            await Keyring(keys, MASTER).open([token])

    async def test_a_damaged_text_says_so(self, keys: KeyStore) -> None:
        ring = Keyring(keys, MASTER)
        token = await sealed(ring, "c-ada")
        for damaged in (token[:-1], token[:40], token[:-4] + "AAAA", "sealed.v1.c-ada.AAAAA"):
            with pytest.raises(BadSeal, match="c-ada"):
                await ring.open([damaged])

    async def test_a_forgotten_customer_cannot_be_read_again(self, keys: KeyStore) -> None:
        ring = Keyring(keys, MASTER)
        token, other = await sealed(ring, "c-ada"), await sealed(ring, "c-grace")
        await ring.forget("c-ada")
        assert await ring.open([token, other]) == {token: None, other: ADA}
        await ring.ensure(["c-ada"])
        assert await ring.open([token, other]) == {token: None, other: ADA}
        assert await Keyring(keys, MASTER).open([token]) == {token: None}

    async def test_who_was_forgotten_and_buys_again_can_be_forgotten_again(self, keys: KeyStore) -> None:
        ring = Keyring(keys, MASTER)
        tokens = []
        for generation in ("c-ada", "c-ada-2", "c-ada-3"):
            token = await sealed(ring, "c-ada")
            assert key_of(token) == generation
            assert await sealed(Keyring(keys, MASTER), "c-ada") != token
            assert await Keyring(keys, MASTER).open([token]) == {token: ADA}
            tokens.append(token)
            await ring.forget(key_of(token))
            assert await ring.open(tokens) == dict.fromkeys(tokens)
        assert await Keyring(keys, MASTER).open(tokens) == dict.fromkeys(tokens)

    async def test_who_is_forgotten_while_an_order_of_theirs_is_worked_on_is_forgotten_there_too(
        self, keys: KeyStore
    ) -> None:
        ring = Keyring(keys, MASTER)
        await ring.ensure(["c-ada"])
        await ring.forget("c-ada")
        assert ring.seal("c-ada", ADA) is None

    async def test_nothing_is_sealed_under_a_key_that_another_process_has_destroyed(self, keys: KeyStore) -> None:
        time = Time()
        ring, other = Keyring(keys, MASTER, now_s=time), Keyring(keys, MASTER)
        await sealed(ring, "c-ada")
        await other.forget("c-ada")
        time.now_s = 1.0
        again = await sealed(ring, "c-ada")
        assert key_of(again) == "c-ada-2"
        assert await Keyring(keys, MASTER).open([again]) == {again: ADA}

    async def test_an_answer_that_is_older_than_the_forgetting_brings_no_key_back(self, keys: KeyStore) -> None:
        time, slow = Time(), Slow(keys)
        ring = Keyring(slow, MASTER, now_s=time)
        token = await sealed(ring, "c-ada")
        time.now_s = CACHED_FOR_S + 1

        class Overtaken(Slow):
            async def get(self, key_ids: Collection[str]) -> dict[str, bytes | None]:
                answer = await super().get(key_ids)
                time.now_s += 1
                await ring.forget("c-ada")
                return answer

        setattr(ring, "_store", Overtaken(keys))  # noqa: B010
        assert await ring.open([token]) == {token: None}

    async def test_a_key_that_was_at_hand_stays_so_for_who_works_with_it_however_many_there_are(self) -> None:
        time, keys = Time(), MemoryKeyStore()
        ring = Keyring(keys, MASTER, now_s=time)
        ada, grace = await sealed(ring, "c-ada"), await sealed(Keyring(keys, MASTER), "c-grace")
        await ring.ensure([f"c-{number}" for number in range(20_000)])

        class Late(Slow):
            async def get(self, key_ids: Collection[str]) -> dict[str, bytes | None]:
                time.now_s = CACHED_FOR_S + 1
                return await super().get(key_ids)

        setattr(ring, "_store", Late(keys))  # noqa: B010
        time.now_s = CACHED_FOR_S
        await ring.ensure(["c-ada"])
        assert await ring.open([ada, grace]) == {ada: ADA, grace: ADA}
        assert ring.seal("c-ada", ADA) is not None

    async def test_another_process_forgets_when_its_cache_runs_out(self, keys: KeyStore) -> None:
        time = Time()
        ring = Keyring(keys, MASTER, now_s=time)
        token = await sealed(ring, "c-ada")
        await Keyring(keys, MASTER).forget("c-ada")
        time.now_s = CACHED_FOR_S
        assert await ring.open([token]) == {token: ADA}
        time.now_s = CACHED_FOR_S + 1
        assert await ring.open([token]) == {token: None}

    async def test_a_key_unknown_when_asked_for_can_still_be_made(self, keys: KeyStore) -> None:
        ring = Keyring(keys, MASTER)
        token = await sealed(Keyring(MemoryKeyStore(), MASTER), "c-ada")
        assert await ring.open([token]) == {token: None}
        again = await sealed(ring, "c-ada")
        assert await ring.open([again]) == {again: ADA}

    async def test_two_rings_that_race_to_make_one_key_get_the_same(self, keys: KeyStore) -> None:
        meeting = asyncio.Barrier(2)

        class Racing:
            """Lets both rings find that there is no key before either adds one."""

            async def get(self, key_ids: Collection[str]) -> dict[str, bytes | None]:
                return await keys.get(key_ids)

            async def add(self, wrapped: Mapping[str, bytes]) -> Collection[str]:
                await meeting.wait()
                return await keys.add(wrapped)

            async def destroy(self, key_id: str) -> None:
                await keys.destroy(key_id)

        one, two = Keyring(Racing(), MASTER), Keyring(Racing(), MASTER)
        tokens = await asyncio.gather(sealed(one, "c-ada"), sealed(two, "c-ada"))
        for ring in (one, two, Keyring(keys, MASTER)):
            assert await ring.open(tokens) == dict.fromkeys(tokens, ADA)

    async def test_those_who_ask_at_the_same_moment_share_a_look_up(self, keys: KeyStore) -> None:
        slow = Slow(keys)
        ring = Keyring(slow, MASTER)
        tokens = await asyncio.gather(*(sealed(ring, f"c-{number}") for number in range(50)))
        assert slow.looked_up == [1, 49]  # the first asks alone
        assert await Keyring(keys, MASTER).open(tokens) == dict.fromkeys(tokens, ADA)

    async def test_one_who_gives_up_and_one_whose_key_is_damaged_stop_nobody_else(self, keys: KeyStore) -> None:
        await keys.add({"c-damaged": b"no key of ours at all, however long it is"})
        ring = Keyring(Slow(keys), MASTER)
        names = ("c-first", "c-ada", "c-grace", "c-damaged")
        asking = [asyncio.create_task(sealed(ring, name)) for name in names]
        await asyncio.sleep(0)
        asking[1].cancel()
        first, gave_up, grace, damaged = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(gave_up, asyncio.CancelledError)
        assert isinstance(damaged, BadSeal)
        assert isinstance(first, str) and isinstance(grace, str)
        assert await Keyring(keys, MASTER).open([first, grace]) == {first: ADA, grace: ADA}

    async def test_a_customers_id_is_the_same_however_it_is_written(self, keys: KeyStore) -> None:
        ring = Keyring(keys, MASTER)
        assert ring.customer_id("Ada@Example.org ") == ring.customer_id("ada@example.org")
        assert ring.customer_id("web", "1") != ring.customer_id("web1")
        assert ring.customer_id("ada@example.org") != Keyring(keys, bytes(32)).customer_id("ada@example.org")

    def test_a_master_key_has_32_bytes(self) -> None:
        with pytest.raises(ValueError, match="16 bytes"):
            Keyring(MemoryKeyStore(), bytes(16))
