"""A connection of aio-pika that is closed when it does not come about."""

from contextlib import suppress

import aio_pika
from aio_pika.abc import TimeoutType


class OwnConnection(aio_pika.Connection):
    """For `aio_pika.connect(..., connection_class=OwnConnection)`.

    aio-pika leaves one that was refused open, to be closed by whoever collects it as garbage. In a thread without an
    event loop that cannot be, and Python warns on standard error of a coroutine that was never awaited.
    """

    async def connect(self, timeout: TimeoutType = None) -> None:  # noqa: ASYNC109 - aio-pika's
        """Connect; raises what aio-pika raises."""
        try:
            await super().connect(timeout)
        except BaseException:
            with suppress(Exception):
                await self.close()
            raise
