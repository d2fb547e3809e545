"""Reading the status of jobs at a broker: what a dashboard does, over AMQP or MQTT, as a user who may nothing else."""

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from broker.address import Address
from broker.connection import OwnConnection
from broker.frames import read_leniently
from broker.mqtt_line import LineLost, MqttAddress, MqttLine
from broker.topology import EXCHANGE
from broker.waiting import cancellation_asked_for, heed_cancellation

PATTERN: Final = "status.#"
WATCHER: Final = "watch"
"""The user of a URL that names none."""
ANSWER_S: Final = 10.0
HEARTBEAT_S: Final = 10
BACKOFF_MIN_S: Final = 0.3
BACKOFF_MAX_S: Final = 10.0
QUEUE_BYTES_MAX: Final = 8 * 2**20

Take = Callable[[str, bytes], None]
Tell = Callable[[str], None]
Once = Callable[[Take, Tell], Awaitable[str]]
"""One connection, from its opening until it is lost; why it was."""


def watch(url: str, take: Take, tell: Tell) -> Coroutine[Any, Any, NoReturn]:
    """Hand over every status until cancelled, over as many connections as that takes.

    Args:
        url: `amqp[s]://` or `mqtt[s]://` of a user with `broker.rights.watcher_rights`.
        take: gets routing key and body, neither of them checked.
        tell: gets a sentence for the operator whenever the connection comes or goes.

    Raises:
        ValueError: the URL is malformed, or goes without TLS to another machine.

    """
    once = _by_mqtt(url) if urlsplit(url).scheme in ("mqtt", "mqtts") else _by_amqp(url)
    return _stay_connected(once, take, tell)


async def _stay_connected(once: Once, take: Take, tell: Tell) -> NoReturn:
    pause_s = BACKOFF_MIN_S
    while True:
        began = asyncio.get_running_loop().time()
        tell(await once(take, tell))
        heed_cancellation()
        if asyncio.get_running_loop().time() - began > BACKOFF_MAX_S:
            pause_s = BACKOFF_MIN_S
        await asyncio.sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311 - guards nothing
        pause_s = min(pause_s * 2, BACKOFF_MAX_S)


def _session(user: str) -> str:
    return f"warren-watch.{user}.{secrets.token_hex(8)}"


def _by_mqtt(url: str) -> Once:
    address = MqttAddress.parse(url, WATCHER, allow_plain=False)
    about = address.about

    async def once(take: Take, tell: Tell) -> str:
        def take_over(routing_key: str, body: bytes, ack: Callable[[], None]) -> None:
            ack()
            take(routing_key, body)

        try:
            line = MqttLine(
                address,
                _session(about.user),
                tls=address.tls_context(),
                persistent=False,
                keepalive_s=HEARTBEAT_S,
                answer_s=ANSWER_S,
                take=take_over,
            )
            try:
                await line.open()
                await line.read(PATTERN.replace(".", "/"))
                tell(f"connected to {about.place}")
                await line.lost.wait()
            finally:
                await line.close()
        except LineLost:
            return f"the broker at {about.place} does not let {about.user} read status: `warren broker watcher`"
        except Exception as error:
            return address.explain(error)
        return f"the connection was lost; waiting for the broker at {about.place}"

    return once


def _by_amqp(url: str) -> Once:
    address = Address.parse(url, WATCHER, HEARTBEAT_S)

    async def once(take: Take, tell: Tell) -> str:
        lost = asyncio.Event()

        async def take_over(message: AbstractIncomingMessage) -> None:
            take(message.routing_key or "", message.body)

        try:
            connection = await aio_pika.connect(address.url, timeout=ANSWER_S, connection_class=OwnConnection)
            connection.close_callbacks.add(lambda *_: lost.set())
            async with connection:
                channel = await connection.channel(publisher_confirms=False)
                channel.close_callbacks.add(lambda *_: lost.set())
                queue = await channel.declare_queue(
                    _session(address.user),
                    exclusive=True,
                    arguments={"x-max-length-bytes": QUEUE_BYTES_MAX, "x-overflow": "drop-head"},
                )
                await queue.bind(EXCHANGE, PATTERN)
                await queue.consume(take_over, no_ack=True)
                tell(f"connected to {address.place}")
                heed_cancellation()
                await lost.wait()
        except asyncio.CancelledError:
            if cancellation_asked_for():
                raise
        except aio_pika.exceptions.ChannelClosed as error:
            return (
                f"the broker at {address.place} does not let {address.user} read status: `warren broker watcher` "
                f"({type(error).__name__})"
            )
        except Exception as error:
            return address.explain(error)
        return f"the connection was lost; waiting for the broker at {address.place}"

    read_leniently()
    return once
