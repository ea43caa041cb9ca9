"""An HTTP server that can misbehave on the wire, below what a web framework can: drop, tear and repeat answers."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

WIRE_HEADER = "X-Simulator-Wire"
_MARK = WIRE_HEADER.lower().encode() + b": "


class FaultyProtocol(H11Protocol):
    """An answer with `X-Simulator-Wire: dropped`, `torn` or `twice` is sent that way."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its base does
        self._wire = _Wire(transport)
        super().connection_made(self._wire)  # type: ignore[arg-type]  # passes on all that a transport can

    def on_response_complete(self) -> None:
        self._wire.end_answer()
        super().on_response_complete()


class _Wire:
    """A transport that looks for the mark in the head of an answer."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._fault = b""
        self._sent = b""

    def write(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 "):
            mark = data.lower().partition(_MARK)[2]
            self._fault, self._sent = mark.partition(b"\r\n")[0], b""
        match self._fault:
            case b"dropped":
                self._transport.abort()
            case b"torn":
                self._transport.write(data[: len(data) // 2])
                self._transport.close()
            case _:
                self._transport.write(data)
                self._sent += data

    def end_answer(self) -> None:
        if self._fault == b"twice":
            self._transport.write(self._sent)
        self._sent = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
