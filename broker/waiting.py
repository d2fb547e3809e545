"""Waiting for the first of several events, without a task left behind."""

import asyncio


async def any_set(*events: asyncio.Event) -> None:
    """Return when at least one of `events` is set."""
    heed_cancellation()
    async with asyncio.TaskGroup() as group:
        waits = [group.create_task(event.wait()) for event in events]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


def cancellation_asked_for() -> bool:
    """Whether a `CancelledError` in the current task was meant for it.

    aiormq ends what waits on a lost connection with `CancelledError`, which is then no wish of ours to stop.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def heed_cancellation() -> None:
    """Raise the `CancelledError` that the current task was to get, where a library has kept it to itself.

    `asyncio.wait_for` does before Python 3.12 when what it waits for comes in the same instant, and aio-pika and aiormq
    wait with it. A daemon that was told to stop would go on with what it has just connected to, for ever.
    """
    if cancellation_asked_for():
        raise asyncio.CancelledError
