"""A TCP line that can be cut, stalled and closed: what a network does, without root."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from broker.installation import free_ports


class Proxy:
    """Passes bytes between `port` on this machine and a target port."""

    def __init__(self, target_port: int, port: int = 0) -> None:
        self.port = port or free_ports(1)[0]
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._lines: set[asyncio.StreamWriter] = set()
        self._carrying: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def up(self) -> None:
        """Take connections."""
        if self._server is None:
            self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)

    async def down(self) -> None:
        """Refuse connections and cut those there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._lines:
            line: socket.socket = writer.get_extra_info("socket")
            with suppress(OSError):
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def stall(self) -> None:
        """Become a black hole: connections stay, nothing passes."""
        self._flowing.clear()

    def flow(self) -> None:
        """End of the black hole."""
        self._flowing.set()

    async def ended(self) -> None:
        """Wait until no connection is left."""
        if self._carrying:
            await asyncio.wait(self._carrying)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)
        self._lines.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            self._lines.discard(writer)
            return
        self._lines.add(far_writer)
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            self._lines -= {writer, far_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65_536):
                await self._flowing.wait()
                writer.write(piece)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def proxy(target_port: int) -> AsyncIterator[Proxy]:
    """A proxy that is up while the context lasts."""
    line = Proxy(target_port)
    await line.up()
    try:
        yield line
    finally:
        line.flow()
        await line.down()
        await line.ended()


class Cutting(Proxy):
    """A line that is cut, while it is `bad`, after so many bytes as `lasts` says: mostly within a frame."""

    def __init__(self, target_port: int, port: int, lasts: Callable[[], int]) -> None:
        super().__init__(target_port, port)
        self._lasts = lasts
        self.bad = False
        self.cuts = 0

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = self._lasts()
        with suppress(OSError):
            while piece := await reader.read(65_536):
                if self.bad and len(piece) >= left:
                    # What came before the cut arrives.
                    writer.write(piece[:left])
                    await writer.drain()
                    self.cuts += 1
                    self.cut()
                    return
                left -= len(piece)
                writer.write(piece)
                await writer.drain()
        writer.close()
