"""What the transports share whose broker gives back, at a pause, what was not acknowledged."""

import asyncio

from broker.inbox import Inbox


class Consuming:
    """Whether such a transport is up, and whether it consumes or is paused."""

    def __init__(self) -> None:
        self._inbox = Inbox()
        self._up = asyncio.Event()
        self._paused = False
        self._turned = asyncio.Event()

    async def connected(self) -> None:
        """Wait until the transport is up."""
        await self._up.wait()

    def pause(self) -> None:
        """Give the receiver nothing more, and back to the broker what is not acknowledged; publishing goes on."""
        self._paused = True
        self._inbox.shut()
        self._turned.set()

    def resume(self) -> None:
        """Consume again."""
        self._paused = False
        self._turned.set()
