"""The one way out: where it does not go, what it does not believe, and what it never tells."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, TypeAdapter, ValidationError

from ordermill.service import outbound
from ordermill.service.guard import is_public
from ordermill.service.outbound import (
    Outbound,
    OutboundSettings,
    Provider,
    ProviderInsecure,
    ProviderRefused,
    ProviderUnavailable,
    ProviderUrl,
)

SECRET = SecretStr("a-key-that-no-error-may-hold")
Answer = Callable[[bytes], bytes]


class Server:
    """Answers each request with the bytes that `answer` makes of it."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.answers: list[Answer] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                request = head + await reader.readexactly(length)
                self.heard.append(request)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                writer.write(answer(request))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()


def key_of(request: bytes) -> bytes:
    return request.partition(b"Idempotency-Key: ")[2].partition(b"\r\n")[0]


def says(status: int, body: bytes = b"{}", *headers: str, key: bytes | None = None) -> Answer:
    def answer(request: bytes) -> bytes:
        head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers]
        named = b"Idempotency-Key: " + (key_of(request) if key is None else key)
        return "\r\n".join(head).encode() + b"\r\n" + named + b"\r\n\r\n" + body

    return answer


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    await made.start()
    yield made
    await made.close()


Make = Callable[..., Provider]


@pytest.fixture
async def provider(server: Server) -> AsyncIterator[Make]:
    """`provider(tries=1)`: the server as a provider, under these settings."""
    made: list[Outbound] = []

    def make(url: str = "", **settings: Any) -> Provider:
        patient = {"connect_s": 10, "read_s": 20, "total_s": 30, "allow_private": True, "tries": 1}
        made.append(Outbound(OutboundSettings(**(patient | settings))))
        return made[-1].provider("carrier", url or f"http://127.0.0.1:{server.port}/v1", SECRET)

    yield make
    for each in made:
        await each.close()


async def unavailable(call: Awaitable[Any]) -> ProviderUnavailable:
    with pytest.raises(ProviderUnavailable) as found:
        await call
    assert SECRET.get_secret_value() not in f"{found.value!r} {found.value}"
    return found.value


async def test_a_call_shows_its_key_and_ours_and_brings_the_answer(server: Server, provider: Make) -> None:
    server.answers = [says(201, b'{"label": 1}')]
    assert await provider().post("/labels", {"weight_g": 1}, "F1.1") == {"label": 1}
    (request,) = server.heard
    assert request.startswith(b"POST /v1/labels HTTP/1.1\r\n")
    assert key_of(request) == b"F1.1"
    assert b"Authorization: Bearer a-key-that-no-error-may-hold\r\n" in request
    assert request.endswith(b'{"weight_g":1}')


# Where it does not go


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1", "0.0.0.0"])
async def test_private_addresses_are_not_called_unless_they_may_be(server: Server, provider: Make, host: str) -> None:
    server.answers = [says(201)]
    guarded = provider(f"https://{host}:{server.port}", allow_private=False, tries=3)
    error = await unavailable(guarded.post("/labels", {}, "F1.1"))
    assert "which is no public address; see OMS_OUTBOUND_ALLOW_PRIVATE" in str(error)
    assert server.heard == []
    assert await provider().post("/labels", {}, "F1.1") == {}


async def test_the_address_that_was_checked_is_the_one_that_is_dialed(
    server: Server, provider: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is public when it is checked, and private when it is looked up again."""
    answers = ["192.88.99.1", "127.0.0.1"]
    looked_up: list[str] = []

    async def rebinding(host: str, port: int, **more: Any) -> list[Any]:
        looked_up.append(host)
        return [(2, 1, 6, "", (answers.pop(0) if len(answers) > 1 else answers[0], port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", rebinding)
    guarded = provider(f"https://carrier.example:{server.port}", allow_private=False, connect_s=0.3)
    error = await unavailable(guarded.post("/labels", {}, "F1.1"))
    assert "no connection" in str(error)
    assert (looked_up, server.heard) == (["carrier.example"], [])


async def test_a_name_with_a_private_address_among_public_ones_is_not_trusted(
    server: Server, provider: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def mixed(host: str, port: int, **more: Any) -> list[Any]:
        return [(2, 1, 6, "", (address, port)) for address in ("192.88.99.1", "10.1.2.3")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", mixed)
    error = await unavailable(provider("https://carrier.example", allow_private=False).post("/", {}, "F1.1"))
    assert "carrier.example leads to 10.1.2.3" in str(error)


@given(st.ip_addresses())
def test_what_is_public_is_global_whatever_carries_it(address: IPv4Address | IPv6Address) -> None:
    if isinstance(address, IPv4Address):
        mapped = IPv6Address(f"::ffff:{address}")
        assert is_public(mapped) == is_public(address)
        assert not is_public(address) or address.is_global
        return
    assert not is_public(address) or (address.is_global and not address.is_multicast)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1", "10.2.3.4", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:10.0.0.1", "2002:7f00:1::",
        "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "::7f00:1", "::ffff:0:7f00:1", "fec0::1", "5f00::1",
    ],
)  # fmt: skip
def test_no_address_inside_is_public(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_addresses_outside_are_public(text: str) -> None:
    assert is_public(ip_address(text))


async def test_redirects_are_not_followed(server: Server, provider: Make) -> None:
    server.answers = [says(307, b"", f"Location: http://127.0.0.1:{server.port}/elsewhere")]
    error = await unavailable(provider(tries=3).post("/labels", {}, "F1.1"))
    assert "sends us elsewhere (HTTP 307)" in str(error)
    assert len(server.heard) == 1


def test_keys_do_not_travel_in_the_clear(provider: Make) -> None:
    with pytest.raises(ProviderInsecure, match=r"expected an https:// URL, found http://carrier.example"):
        provider("http://carrier.example", allow_private=False)


async def test_a_certificate_that_nobody_vouches_for_is_not_believed(provider: Make, tmp_path: Path) -> None:
    tls = Server()
    await tls.start(self_signed(tmp_path))
    try:
        tls.answers = [says(201)]
        error = await unavailable(provider(f"https://localhost:{tls.port}").post("/labels", {}, "F1.1"))
        assert "no connection" in str(error)
        assert tls.heard == []
    finally:
        await tls.close()


def self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "self-signed.pem"
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    file.write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain) + certificate.public_bytes(encoding)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@pytest.mark.parametrize(
    "url",
    ["carrier.example", "ftp://carrier.example", "https://", "https://u:p@carrier.example", "https://c.example?a=1"],
)
def test_a_url_that_is_none_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ValidationError, match="expected"):
        TypeAdapter(ProviderUrl).validate_python(url)


# What it does not believe


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (says(201, b"<html>"), "can't be read"),
        (says(201, b"[1]"), "can't be read"),
        (says(201, b"\xff"), "can't be read"),
        (says(201, b"{}", key=b"F1.2"), "not to this question"),
        (says(404, b"{}", key=b""), "not to this question"),
        (says(201, b'{"a": "' + b"x" * 5_000 + b'"}'), "more than 2000 bytes"),
        (says(201, b"\x1f\x8b", "Content-Encoding: gzip"), "compressed"),
        (says(401), "refuses our key (HTTP 401)"),
        (says(500), "can't do it now (HTTP 500)"),
        (lambda request: b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "connection broke"),
        (lambda request: b"HTTP/1.1 201 X\r\nContent-Length: 50\r\n\r\n{", "no answer within"),
    ],
)
async def test_an_answer_that_says_nothing_leaves_it_open_whether_anything_was_done(
    server: Server, provider: Make, answer: Answer, words: str
) -> None:
    server.answers = [answer]
    read_s = 0.3 if words == "no answer within" else 20
    error = await unavailable(provider(answer_max_bytes=2_000, read_s=read_s).post("/labels", {}, "F1.1"))
    assert words in str(error)


async def test_an_answer_that_trickles_in_for_ever_is_cut_off(provider: Make) -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 201 X\r\nContent-Length: 100000\r\n\r\n")
        try:
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass

    slow = await asyncio.start_server(trickle, "127.0.0.1", 0)
    try:
        url = f"http://127.0.0.1:{slow.sockets[0].getsockname()[1]}"
        error = await unavailable(provider(url, total_s=0.7).post("/labels", {}, "F1.1"))
        assert "no answer within 0.7 s" in str(error)
    finally:
        slow.close()


async def test_a_connection_that_brought_another_s_answer_is_not_used_again(provider: Make) -> None:
    connections = 0

    async def muddled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        owed: list[bytes] = []
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(2)
                answer = says(201)(request)
                if connections > 1:
                    writer.write(answer)
                elif not owed:  # the first answer twice at once; from then on each comes with the next question
                    owed = [answer, b""]
                    writer.write(answer * 2)
                else:
                    owed.append(answer)
                    writer.write(owed[-2])
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(muddled, "127.0.0.1", 0)
    try:
        muddle = provider(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert await muddle.post("/labels", {}, "F1") == {}
        assert "not to this question" in str(await unavailable(muddle.post("/labels", {}, "F2")))
        assert await muddle.post("/labels", {}, "F2") == {}
        assert connections == 2
    finally:
        server.close()


async def test_a_refusal_is_for_good_and_says_why(server: Server, provider: Make) -> None:
    server.answers = [says(422, b'{"title": "Refused", "detail": "no such\\u0000 street\\n"}')]
    with pytest.raises(ProviderRefused, match=r"^carrier: no such  street$"):
        await provider(tries=3).post("/labels", {}, "F1.1")
    assert len(server.heard) == 1


# When it asks again


async def test_what_failed_fast_is_asked_again_within_the_call_under_the_same_key(
    server: Server, provider: Make
) -> None:
    server.answers = [says(503), says(502), says(201, b'{"label": 1}')]
    assert await provider(tries=3).post("/labels", {}, "F1.1") == {"label": 1}
    assert [key_of(request) for request in server.heard] == [b"F1.1"] * 3


IN_TEN_HOURS = format_datetime(datetime.now(UTC) + timedelta(hours=10), usegmt=True)


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("Retry-After: 120", 120, 120),
        pytest.param(f"Retry-After: {IN_TEN_HOURS}", 30_000, 36_000, id="an instant"),
        ("Retry-After: soon", None, None),
        ("Retry-After: -5", None, None),
        ("Retry-After: Fri, 99 Foo 2026", None, None),
        ("Retry-After: Fri, 31 Dec 9999 23:59:59 -0100", None, None),
    ],
)
async def test_how_long_a_provider_wants_to_be_left_alone_is_passed_on(
    server: Server, provider: Make, header: str, low: float | None, high: float | None
) -> None:
    server.answers = [says(429, b"{}", header)]
    error = await unavailable(provider(tries=2).post("/labels", {}, "F1.1"))
    if low is None or high is None:
        assert error.retry_after_s is None
    else:
        assert error.retry_after_s is not None
        assert low <= error.retry_after_s <= high
        assert len(server.heard) == 1


async def test_a_provider_that_fails_is_left_alone_and_that_costs_no_try(server: Server, provider: Make) -> None:
    server.answers = [says(500)]
    failing = provider(circuit_failures=2, circuit_pause_s=60)
    assert [(await unavailable(failing.post("/labels", {}, "F1.1"))).counts for _ in range(4)] == [
        True, True, False, False,
    ]  # fmt: skip
    assert len(server.heard) == 2


async def test_a_defect_of_ours_in_a_probe_does_not_shut_the_circuit_for_good(
    server: Server, provider: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers = [says(500), says(200, b"{}"), says(200, b"{}")]
    failing = provider(circuit_failures=1, circuit_pause_s=0.02)
    await unavailable(failing.post("/labels", {}, "F1.1"))
    await asyncio.sleep(0.05)
    with monkeypatch.context() as defect:
        defect.setattr(outbound, "_object", lambda body: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            await failing.post("/labels", {}, "F1.1")
    await asyncio.sleep(0.05)
    assert await failing.post("/labels", {}, "F1.1") == {}


async def test_refusals_and_a_busy_provider_open_no_circuit(server: Server, provider: Make) -> None:
    server.answers = [says(422), says(429), says(422), says(429), says(201)]
    alive = provider(circuit_failures=1)
    for _ in range(2):
        with pytest.raises(ProviderRefused):
            await alive.post("/labels", {}, "F1.1")
        await unavailable(alive.post("/labels", {}, "F1.1"))
    assert await alive.post("/labels", {}, "F1.1") == {}


async def test_no_more_calls_are_out_than_may_be(provider: Make) -> None:
    out = most = 0

    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal out, most
        request = await reader.readuntil(b"\r\n\r\n")
        out += 1
        most = max(most, out)
        await asyncio.sleep(0.02)
        out -= 1
        writer.write(says(201, b"{}", "Connection: close")(request))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(slowly, "127.0.0.1", 0)
    try:
        few = provider(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", calls=3)
        await asyncio.gather(*(few.post("/labels", {}, f"F{n}") for n in range(20)))
        assert most == 3
    finally:
        server.close()


async def test_a_call_that_is_given_up_at_any_moment_leaves_the_way_free_for_the_next(
    server: Server, provider: Make
) -> None:
    """A connection that was given up while it was made, or while it was waited for, is not tried again for ever."""
    server.answers = [says(200, b'{"label": "L1"}')]
    for steps in range(30):
        carrier = provider(calls=1, total_s=5.0, circuit_failures=100)
        given_up = asyncio.create_task(carrier.post("/labels", {}, f"F{steps}"))
        for _ in range(steps):
            await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
        assert await carrier.post("/labels", {}, f"G{steps}") == {"label": "L1"}, steps


async def test_a_provider_that_may_be_well_again_is_asked_once_whoever_gives_up_meanwhile(
    server: Server, provider: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two calls wait for room, one of them is called off: that is no word of the one that asks."""
    carrier = provider(circuit_failures=1, circuit_pause_s=0.05, calls=2)
    asked: list[str] = []
    answered, slow = asyncio.Event(), asyncio.Event()

    async def exchange(path: str, content: bytes, key: str) -> dict[str, Any]:
        asked.append(key)
        if key == "before":
            await slow.wait()
        elif key == "fails":
            raise outbound._Failure("down")
        elif key == "probe":
            await answered.wait()
        return {}

    monkeypatch.setattr(carrier, "_exchange", exchange)
    before = asyncio.create_task(carrier.post("/labels", {}, "before"))
    await asyncio.sleep(0)
    await unavailable(carrier.post("/labels", {}, "fails"))
    await asyncio.sleep(0.1)
    probe = asyncio.create_task(carrier.post("/labels", {}, "probe"))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(carrier.post("/labels", {}, "waiting"))
    await asyncio.sleep(0.01)
    waiting.cancel()
    before.cancel()
    await asyncio.gather(waiting, before, return_exceptions=True)
    await unavailable(carrier.post("/labels", {}, "second"))
    assert asked == ["before", "fails", "probe"]
    answered.set()
    assert await probe == {}
    await carrier.post("/labels", {}, "after")
    assert asked[-1] == "after"
