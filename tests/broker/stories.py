"""Words in which the tests of transports are told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from broker.transport import PublishFailed, Receiver, Transport

TIME_LIMIT_S = 240


def in_time(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, TIME_LIMIT_S))


@asynccontextmanager
async def running(transport: Transport, receiver: Receiver) -> AsyncIterator[Transport]:
    """`transport` as a daemon runs it, while the context lasts."""
    task = asyncio.create_task(transport.run(receiver))
    try:
        yield transport
    finally:
        task.cancel()
        await asyncio.wait([task])


def control(sender: str, recipient: str, job: str = "j-1") -> str:
    return f"from.{sender}.to.{recipient}.control.{job}.link.terms"


def bulk(sender: str, recipient: str, job: str = "j-1") -> str:
    return f"from.{sender}.to.{recipient}.bulk.{job}.share.chunk"


async def insist(publish: Callable[[], Awaitable[None]]) -> None:
    """Publish until it is confirmed, as the relay does."""
    while True:
        try:
            return await publish()
        except PublishFailed:
            await asyncio.sleep(0.01)


async def comes_true(condition: Callable[[], bool]) -> None:
    """Wait for a condition that nobody announces."""
    while not condition():
        await asyncio.sleep(0.005)
