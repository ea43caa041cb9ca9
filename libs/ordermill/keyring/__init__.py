"""Customers' keys. Personal data rests sealed under them; to forget a customer is to destroy the key.

A key is 32 random bytes, wrapped with AES-256-GCM under the installation's master key. Sealed text is AES-256-GCM with
a random 96-bit nonce and the key's id as associated data, so a token cannot be moved to another customer.

Who was forgotten and buys again is sealed under a key of the next generation (`c-…-2`): nothing old opens by it.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Collection, Iterable, Mapping
from hashlib import sha256
from time import monotonic
from typing import Protocol

import asyncpg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ordermill.contracts.personal import Person
from ordermill.errors import Poison
from ordermill.eventlog.postgres import keep_as_it_is, statement, translated

CACHED_FOR_S = 300.0
"""So long a key opens what was sealed under it, though another process destroyed it. What seals is asked for anew."""
_WORKED_WITH_FOR_S = 600.0
"""So long after that a key may be worked with: what it is for may wait for a database meanwhile."""
_NONCE = 12
_UNKNOWN: tuple[AESGCM | None, float] = (None, 0.0)


class BadSeal(Poison):
    """A sealed text that this installation's keys do not open."""

    code = "keyring.bad-seal"

    def __init__(self, key_id: str) -> None:
        super().__init__(f"a text sealed under {key_id} does not open: damaged, or from another installation")


class KeyStore(Protocol):
    async def get(self, key_ids: Collection[str]) -> dict[str, bytes | None]:
        """Wrapped keys; None for destroyed ones; unknown ones are left out."""
        ...

    async def add(self, wrapped: Mapping[str, bytes]) -> Collection[str]:
        """Keep these, unless there is one by that id already; which were kept."""
        ...

    async def destroy(self, key_id: str) -> None: ...


class Keyring:
    """Seals and opens personal data. Keys stay in memory for minutes, so a forgotten customer is forgotten soon.

    Nothing is sealed by memory: what rests under a key that another process has destroyed is lost.
    """

    def __init__(
        self,
        store: KeyStore,
        master_key: bytes,
        random_bytes: Callable[[int], bytes] = os.urandom,
        now_s: Callable[[], float] = monotonic,
    ) -> None:
        if len(master_key) != 32:
            raise ValueError(f"the master key has {len(master_key)} bytes, it must have 32 (OMS_MASTER_KEY, base64)")
        self._store = store
        self._master = AESGCM(master_key)
        self._naming_key = hmac.digest(master_key, b"customer ids", sha256)
        self._random = random_bytes
        self._now_s = now_s
        self._cache: dict[str, tuple[AESGCM | None, float]] = {}
        """By id: the key, None for a destroyed one, and when it was asked for."""
        self._asked_for: set[str] = set()
        self._one_look_up = asyncio.Lock()

    def customer_id(self, *identity: str) -> str:
        """The same for the same identity (an e-mail address, or a channel and its id), telling nothing of it."""
        name = "\0".join(part.strip().lower() for part in identity)
        return "c-" + hmac.digest(self._naming_key, name.encode(), sha256)[:16].hex()

    def fingerprint(self, person: Person) -> str:
        """The same for the same name and address, telling nothing of them without the master key."""
        return hmac.digest(self._naming_key, b"address\0" + person.model_dump_json().encode(), sha256)[:16].hex()

    async def ensure(self, customer_ids: Collection[str]) -> None:
        """Have these customers' keys at hand as they are now, making those that are missing; those destroyed give way
        to new ones.

        Those who ask meanwhile share the next look-up.
        """
        began = self._now_s()
        while absent := self._absent(map(self._newest, customer_ids), began):
            self._asked_for.update(absent)
            async with self._one_look_up:
                if self._absent(absent, began):
                    shared, self._asked_for = sorted({*absent, *self._asked_for}), set()
                    try:
                        await self._have(shared)
                    except BadSeal:  # perhaps of somebody else's key
                        await self._have(self._absent(absent, began))

    def _newest(self, customer_id: str) -> str:
        """The id of the key that is theirs now, as far as is known here."""
        key_id = customer_id
        while key_id in self._cache and self._cache[key_id][0] is None:
            key_id = _next_generation(key_id)
        return key_id

    async def _have(self, absent: Collection[str]) -> None:
        asked_at = self._now_s()
        known = await self._store.get(absent)
        fresh = {key_id: self._wrap(key_id, self._random(32)) for key_id in absent if key_id not in known}
        if fresh:
            added = await self._store.add(fresh)
            known |= {key_id: fresh[key_id] for key_id in added}
            if others := fresh.keys() - known.keys():
                known |= await self._store.get(others)
        self._keep(known, asked_at)

    def seal(self, customer_id: str, person: Person) -> str | None:
        """`person` sealed; None for a customer who was forgotten since. `ensure` the key first."""
        if customer_id not in self._cache:
            raise KeyError(customer_id)
        key_id = self._newest(customer_id)
        key, _ = self._cache.get(key_id, _UNKNOWN)
        if key is None:
            return None
        nonce = self._random(_NONCE)
        sealed = nonce + key.encrypt(nonce, person.model_dump_json(exclude_defaults=True).encode(), key_id.encode())
        return f"sealed.v1.{key_id}.{urlsafe_b64encode(sealed).rstrip(b'=').decode()}"

    async def look_up(self, tokens: Collection[str]) -> None:
        """Have at hand the keys that these are sealed under, as far as there are any. Raises BadSeal."""
        now = self._now_s()
        absent = self._absent({_parts(token)[0] for token in tokens}, now - CACHED_FOR_S)
        if absent:
            self._keep(await self._store.get(absent), now)

    def forgotten(self, token: str) -> bool:
        """Whether nobody can open it any more. `look_up` its key first."""
        return self._cache.get(_parts(token)[0], _UNKNOWN)[0] is None

    async def open(self, tokens: Collection[str]) -> dict[str, Person | None]:
        """Each token's person; None where the customer was forgotten. Raises BadSeal."""
        await self.look_up(tokens)
        return {token: self._open(token) for token in tokens}

    def opens(self, key_id: str, wrapped: bytes) -> bool:
        """Whether the master key is the one that this customer's key was wrapped with."""
        try:
            self._unwrap(key_id, wrapped)
        except BadSeal:
            return False
        return True

    async def forget(self, key_id: str) -> None:
        """Destroy the key: what was sealed under it can never be read again."""
        await self._store.destroy(key_id)
        self._keep({key_id: None}, self._now_s())

    def _open(self, token: str) -> Person | None:
        key_id, body = _parts(token)
        key, _ = self._cache.get(key_id, _UNKNOWN)
        if key is None:
            return None
        try:
            raw = urlsafe_b64decode(body + "=" * (-len(body) % 4))
            return Person.model_validate_json(key.decrypt(raw[:_NONCE], raw[_NONCE:], key_id.encode()))
        except (InvalidTag, ValueError):
            raise BadSeal(key_id) from None

    def _absent(self, key_ids: Iterable[str], since: float) -> list[str]:
        """Those not asked for since then. In one order wherever it is asked: chance goes to the same keys again."""
        return sorted(k for k in set(key_ids) if k not in self._cache or self._cache[k][1] < since)

    def _keep(self, wrapped: Mapping[str, bytes | None], asked_at: float) -> None:
        if len(self._cache) > 20_000:
            over = self._now_s() - CACHED_FOR_S - _WORKED_WITH_FOR_S
            self._cache = {k: entry for k, entry in self._cache.items() if entry[1] >= over}
        for key_id, key in wrapped.items():
            if key_id in self._cache and self._cache[key_id][1] > asked_at:
                continue  # an answer that came late: it may have been destroyed since
            self._cache[key_id] = (None if key is None else AESGCM(self._unwrap(key_id, key)), asked_at)

    def _wrap(self, key_id: str, key: bytes) -> bytes:
        nonce = self._random(_NONCE)
        return nonce + self._master.encrypt(nonce, key, key_id.encode())

    def _unwrap(self, key_id: str, wrapped: bytes) -> bytes:
        try:
            return self._master.decrypt(wrapped[:_NONCE], wrapped[_NONCE:], key_id.encode())
        except InvalidTag:
            raise BadSeal(key_id) from None


def _next_generation(key_id: str) -> str:
    name, dash, number = key_id.rpartition("-")
    if dash and number.isdecimal() and "-" in name:
        return f"{name}-{int(number) + 1}"
    return f"{key_id}-2"


def _parts(token: str) -> tuple[str, str]:
    match token.split("."):
        case ["sealed", "v1", key_id, body]:
            return key_id, body
    raise BadSeal("no key of ours")


class MemoryKeyStore:
    def __init__(self) -> None:
        self._keys: dict[str, bytes | None] = {}

    async def get(self, key_ids: Collection[str]) -> dict[str, bytes | None]:
        return {key_id: self._keys[key_id] for key_id in key_ids if key_id in self._keys}

    async def add(self, wrapped: Mapping[str, bytes]) -> Collection[str]:
        added = wrapped.keys() - self._keys.keys()
        self._keys |= {key_id: wrapped[key_id] for key_id in added}
        return added

    async def destroy(self, key_id: str) -> None:
        self._keys[key_id] = None


class PostgresKeyStore:
    """Keys in a small database of their own, with its own role. Connects when first asked."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pool: asyncpg.Pool | None = None

    async def _connected(self) -> asyncpg.Pool:
        if self._pool is None:
            self._pool = await asyncpg.create_pool(
                self._dsn, min_size=0, max_size=2, command_timeout=30, reset=keep_as_it_is
            )
        return self._pool

    async def get(self, key_ids: Collection[str]) -> dict[str, bytes | None]:
        with translated():
            pool = await self._connected()
            with statement("SELECT", "customer_keys", "keyring"):
                rows = await pool.fetch(
                    "SELECT key_id, wrapped FROM customer_keys WHERE key_id = ANY($1::text[])", list(key_ids)
                )
        return {row["key_id"]: row["wrapped"] for row in rows}

    async def add(self, wrapped: Mapping[str, bytes]) -> Collection[str]:
        in_order = sorted(wrapped)  # two who add the same would wait for each other in a circle
        with translated():
            pool = await self._connected()
            with statement("INSERT", "customer_keys", "keyring", len(wrapped)):
                rows = await pool.fetch(
                    """INSERT INTO customer_keys (key_id, wrapped) SELECT * FROM unnest($1::text[], $2::bytea[])
                       ON CONFLICT (key_id) DO NOTHING RETURNING key_id""",
                    in_order,
                    [wrapped[key_id] for key_id in in_order],
                )
        return [row["key_id"] for row in rows]

    async def destroy(self, key_id: str) -> None:
        with translated():
            pool = await self._connected()
            await pool.execute(
                """INSERT INTO customer_keys (key_id, destroyed_at) VALUES ($1, now())
                   ON CONFLICT (key_id) DO UPDATE SET wrapped = NULL, destroyed_at = now()""",
                key_id,
            )
