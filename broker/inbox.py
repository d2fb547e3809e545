"""What a transport has received and its receiver has not taken yet: control before bulk."""

import asyncio
from collections import deque
from typing import NoReturn

from broker.transport import Delivery, Receiver


class Inbox:
    """Two rows of deliveries, served one at a time each.

    A receiver that holds up a bulk delivery holds up bulk only. Bulk waits while control is waiting. The rows
    are bounded by what the broker hands over unacknowledged (its prefetch).
    """

    def __init__(self) -> None:
        self._rows: dict[str, deque[Delivery]] = {"control": deque(), "bulk": deque()}
        self._wake = {"control": asyncio.Event(), "bulk": asyncio.Event()}
        self._open = False

    def open(self) -> None:
        """Take deliveries, of a new line or after a pause."""
        self._open = True

    def shut(self) -> None:
        """Forget what was not taken and take nothing more: the broker brings it again by the next line."""
        self._open = False
        for row in self._rows.values():
            row.clear()

    def put(self, traffic: str, delivery: Delivery) -> None:
        """Append a delivery to the row `traffic`, "control" or "bulk", unless shut."""
        if self._open:
            self._rows[traffic].append(delivery)
            self._wake[traffic].set()

    async def serve(self, receiver: Receiver) -> None:
        """Hand deliveries to `receiver` until cancelled; its exception ends this in an `ExceptionGroup`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._serve_control(receiver))
            group.create_task(self._serve_bulk(receiver))

    async def _serve_control(self, receiver: Receiver) -> NoReturn:
        row, wake = self._rows["control"], self._wake["control"]
        while True:
            while not row:
                wake.clear()
                await wake.wait()
            delivery = row.popleft()
            if not row:
                self._wake["bulk"].set()
            await receiver(delivery)

    async def _serve_bulk(self, receiver: Receiver) -> NoReturn:
        row, control, wake = self._rows["bulk"], self._rows["control"], self._wake["bulk"]
        while True:
            while not row or control:
                wake.clear()
                await wake.wait()
            await receiver(row.popleft())
