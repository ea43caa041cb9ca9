"""`python -m tests.chaos.proxy PORT TARGET`: a network between 127.0.0.1:PORT and 127.0.0.1:TARGET that can be cut.

It ends with its stdin, and does what its lines say:

cut     nothing passes any more in either direction; nothing is closed, new connections lead nowhere
mend    what was held back passes on, as a network's retransmissions would
reset   each connection is ended with a reset, on both sides
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from contextlib import suppress

_AT_ONCE = struct.pack("ii", 1, 0)
"""Linger for no time: closing sends a reset, not a regular end."""


class Network:
    def __init__(self, target: int) -> None:
        self._target = target
        self._whole = asyncio.Event()
        self._whole.set()
        self._ends: set[asyncio.StreamWriter] = set()

    def obey(self, line: str) -> None:
        match line.strip():
            case "cut":
                self._whole.clear()
            case "mend":
                self._whole.set()
            case "reset":
                for end in self._ends:
                    end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                    end.transport.abort()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = {writer}
        self._ends.add(writer)
        try:
            with suppress(OSError):
                await self._whole.wait()
                there, back = await asyncio.open_connection("127.0.0.1", self._target)
                ends.add(back)
                self._ends.add(back)
                await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        finally:
            self._ends -= ends
            for end in ends:
                end.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                await self._whole.wait()
                writer.write(data)
                await writer.drain()
        finally:
            await self._whole.wait()
            writer.close()


async def main(port: int, target: int) -> None:
    network = Network(target)
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    async with await asyncio.start_server(network.connect, "127.0.0.1", port, backlog=512):
        print("ready", flush=True)
        while line := await orders.readline():
            network.obey(line.decode())
            print(line.decode().strip(), flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
