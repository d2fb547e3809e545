"""What is received and not yet taken."""

import asyncio

from broker.inbox import Inbox
from broker.transport import Delivery
from tests.broker.stories import TIME_LIMIT_S


async def no_ack() -> None:
    """The broker of these tests remembers nothing."""


def test_control_that_waits_is_served_before_bulk_that_came_earlier() -> None:
    async def story() -> list[bytes]:
        inbox, served, done = Inbox(), [], asyncio.Event()

        async def receive(delivery: Delivery) -> None:
            await asyncio.sleep(0)
            served.append(delivery.body)
            if len(served) == 6:
                done.set()

        inbox.open()
        for number in range(3):
            inbox.put("bulk", Delivery("k", b"bulk %d" % number, no_ack))
        for number in range(3):
            inbox.put("control", Delivery("k", b"control %d" % number, no_ack))
        serving = asyncio.create_task(inbox.serve(receive))
        await done.wait()
        serving.cancel()
        await asyncio.wait([serving])
        return served

    assert asyncio.run(asyncio.wait_for(story(), TIME_LIMIT_S)) == [
        *(b"control 0", b"control 1", b"control 2"),
        *(b"bulk 0", b"bulk 1", b"bulk 2"),
    ]


def test_what_was_not_taken_before_the_inbox_was_shut_is_never_served() -> None:
    async def story() -> list[bytes]:
        inbox, served, done = Inbox(), [], asyncio.Event()

        async def receive(delivery: Delivery) -> None:
            served.append(delivery.body)
            done.set()

        inbox.put("control", Delivery("k", b"before it opened", no_ack))
        inbox.open()
        inbox.put("control", Delivery("k", b"before it was shut", no_ack))
        inbox.shut()
        inbox.put("bulk", Delivery("k", b"while it was shut", no_ack))
        inbox.open()
        inbox.put("bulk", Delivery("k", b"after it opened again", no_ack))
        serving = asyncio.create_task(inbox.serve(receive))
        await done.wait()
        serving.cancel()
        await asyncio.wait([serving])
        return served

    assert asyncio.run(asyncio.wait_for(story(), TIME_LIMIT_S)) == [b"after it opened again"]
