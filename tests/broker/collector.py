"""A receiver for tests: remembers what came, and lets a test wait for it."""

import asyncio
from collections.abc import Callable

from broker.transport import Delivery


class Collector:
    """Keeps deliveries in their order of arrival and acknowledges them, unless told to hold."""

    def __init__(self, *, acknowledge: bool = True) -> None:
        self.deliveries: list[Delivery] = []
        self._acknowledge = acknowledge
        self._arrived = asyncio.Condition()

    @property
    def bodies(self) -> list[bytes]:
        """The bodies in order of arrival."""
        return [delivery.body for delivery in self.deliveries]

    async def __call__(self, delivery: Delivery) -> None:
        """Receive: the `Receiver` that a transport is given."""
        async with self._arrived:
            self.deliveries.append(delivery)
            self._arrived.notify_all()
        if self._acknowledge:
            await delivery.ack()

    async def until(self, condition: Callable[[list[bytes]], bool]) -> None:
        """Wait until `condition` holds of the bodies that came so far."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: condition(self.bodies))

    async def count(self, number: int) -> None:
        """Wait until so many deliveries came."""
        await self.until(lambda bodies: len(bodies) >= number)
