"""One connection to RabbitMQ, from its opening until it is lost. `broker.amqp` opens the next one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NoReturn

import aio_pika
import aiormq.abc
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractIncomingMessage
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, DeliveryError, PublishError

from broker.address import APPLY_HINT, in_words
from broker.inbox import Inbox
from broker.topology import (
    EXCHANGE,
    TRAFFIC,
    Limits,
    declare,
    is_probe,
    party_queues,
    probe_key,
    queue_name,
    server_version,
)
from broker.transport import Delivery
from broker.waiting import any_set, cancellation_asked_for, heed_cancellation

log = structlog.get_logger(__name__)

CLOSE_TIMEOUT_S: Final = 2.0

_OnClose = Callable[[object, BaseException | None], None]


class LinkLost(Exception):
    """The connection is of no more use; the text is a sentence for the operator, free of secrets."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a link consumes.

    Attributes:
        control_prefetch: deliveries per control queue that may be unacknowledged.
        bulk_prefetch: the same per bulk queue; small, as each may hold megabytes.
        probe_s: a queue that was silent for so long is asked for a sign of life.
        answer_s: time limit of acknowledgements and probes.

    """

    control_prefetch: int
    bulk_prefetch: int
    probe_s: float
    answer_s: float


@dataclass(slots=True, eq=False)
class _Consumer:
    """What the watchdog knows of one queue: times are those of the event loop."""

    queue: str
    probe_key: str
    prefetch: int
    heard_at: float
    probed_at: float | None = None
    held: int = 0


class Link:
    """An open connection. `lost` is set, with `reason`, when it has become useless."""

    def __init__(self, connection: AbstractConnection, party: str, peers: Sequence[str], reading: Reading) -> None:
        self.lost = asyncio.Event()
        self.reason = ""
        self._connection = connection
        self._party = party
        self._peers = tuple(peers)
        self._reading = reading
        # A refused publish closes its channel. So publishing has channels apart from consuming, and bulk has
        # one apart from control.
        self._publishers = {traffic: _Publisher(connection) for traffic in ("control", "bulk", "status")}
        connection.close_callbacks.add(self._on_connection_close)

    async def declare(self, limits: Limits | None) -> None:
        """Declare what this party reads; for demonstrations and tests."""
        queues = party_queues(self._party, self._peers, server_version(self._connection), limits)
        async with self._connection.channel() as channel:
            await declare(channel, queues)

    async def publish(self, routing_key: str, body: bytes) -> None:
        """Publish and wait for the confirm; raises what aio-pika raises, even a `CancelledError` unasked."""
        words = routing_key.split(".")
        status = words[0] == "status"
        bulk = len(words) > 4 and words[4] == "bulk"
        publisher = self._publishers["status" if status else "bulk" if bulk else "control"]
        await publisher.publish(routing_key, body, mandatory=not status)

    async def depths(self) -> dict[str, int]:
        """Messages that wait in each queue that this party reads; raises what aio-pika raises."""
        found = {}
        async with self._connection.channel() as channel:
            for traffic in TRAFFIC:
                for peer in self._peers:
                    queue = await channel.declare_queue(queue_name(traffic, self._party, peer), passive=True)
                    found[queue.name] = queue.declaration_result.message_count or 0
        return found

    async def consume(self, inbox: Inbox, *, until: asyncio.Event, ready: Callable[[], None]) -> None:
        """Consume all queues into `inbox` until the link is lost or `until` is set.

        Calls `ready` when every queue is being consumed. What is unacknowledged at the end goes back.

        Raises:
            LinkLost: a queue is missing or may not be read, or this user may not write in the party's name.

        """
        reading = self._reading
        channels: list[tuple[AbstractChannel, _OnClose]] = []
        consumers: list[_Consumer] = []
        for traffic, prefetch in (("control", reading.control_prefetch), ("bulk", reading.bulk_prefetch)):
            channel = await self._connection.channel(publisher_confirms=False)
            channels.append((channel, self._lose_on_close(channel)))
            await channel.set_qos(prefetch_count=prefetch)
            for peer in self._peers:
                name, key = queue_name(traffic, self._party, peer), probe_key(self._party, peer, traffic)
                consumer = _Consumer(name, key, prefetch, asyncio.get_running_loop().time())
                await self._start_consumer(channel, traffic, consumer, inbox)
                consumers.append(consumer)
        await self._check_own_name()
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch(consumers))
            ready()
            await any_set(self.lost, until)
            watching.cancel()
        if not self.lost.is_set():
            for channel, on_close in channels:
                channel.close_callbacks.discard(on_close)
                await channel.close()

    async def close(self) -> None:
        """Close the connection; never raises for one that is lost already."""
        with suppress(Exception):
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._connection.close()
            except asyncio.CancelledError:
                if cancellation_asked_for():
                    raise

    def _lose_on_close(self, channel: AbstractChannel) -> "_OnClose":
        def on_close(_: object, error: BaseException | None = None) -> None:
            self._lose(f"a channel was closed ({_words(error)})")

        channel.close_callbacks.add(on_close)
        return on_close

    async def _start_consumer(self, channel: AbstractChannel, traffic: str, consumer: _Consumer, inbox: Inbox) -> None:
        loop = asyncio.get_running_loop()
        underlay = await channel.get_underlay_channel()

        async def on_message(message: AbstractIncomingMessage) -> None:
            consumer.heard_at = loop.time()
            consumer.held += 1
            ack = self._acknowledgement(underlay, consumer, message.delivery_tag or 0)
            routing_key = message.routing_key or ""
            if is_probe(routing_key):
                await ack()
            else:
                inbox.put(traffic, Delivery(routing_key, message.body, ack))

        def on_cancel(_: object) -> None:
            self._lose(f"the broker stopped delivering from queue {consumer.queue}")

        underlay.on_consumer_cancel_callbacks.add(on_cancel)
        try:
            queue = await channel.get_queue(consumer.queue, ensure=False)
            await queue.consume(on_message)
        except ChannelNotFoundEntity:
            raise LinkLost(f"queue {consumer.queue} is missing: {APPLY_HINT}") from None
        except ChannelAccessRefused:
            raise LinkLost(f"the broker's user may not read queue {consumer.queue}: {APPLY_HINT}") from None

    async def _check_own_name(self) -> None:
        """Raise `LinkLost` where the user may not write as this party: nothing that is sent would ever arrive."""
        if not self._peers:
            return
        publisher = self._publishers["status"]
        try:
            async with asyncio.timeout(self._reading.answer_s):
                await publisher.publish(probe_key(self._party, self._peers[0], "control"), b"", mandatory=True)
        except ChannelAccessRefused:
            refused = f"the broker's user may not write in the name of {self._party} (topic permission)"
            raise LinkLost(f"{refused}: {APPLY_HINT}") from None
        except (PublishError, DeliveryError, TimeoutError):
            # A missing binding, a full queue: said where it is met.
            pass

    def _acknowledgement(
        self, channel: aiormq.abc.AbstractChannel, consumer: _Consumer, tag: int
    ) -> Callable[[], Awaitable[None]]:
        done = False

        async def ack() -> None:
            nonlocal done
            if done:
                return
            done = True
            consumer.held -= 1
            # On a lost line the message comes back and the journal knows it: nothing to tell anybody.
            with suppress(Exception):
                try:
                    # A writer that is gone never empties its queue, and nobody would wake us.
                    async with asyncio.timeout(self._reading.answer_s):
                        await channel.basic_ack(tag, wait=False)
                except asyncio.CancelledError:
                    if cancellation_asked_for():
                        raise
            heed_cancellation()

        return ack

    async def _watch(self, consumers: Sequence[_Consumer]) -> NoReturn:
        """Lose the link when a queue with room for more does not bring even our own probe.

        Known causes: a broker's cancel that went unnoticed, a delivery that timed out at the broker, another
        consumer that holds the queue.
        """
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._reading.probe_s)
            for consumer in consumers:
                if consumer.held >= consumer.prefetch or consumer.heard_at > (consumer.probed_at or loop.time()):
                    consumer.probed_at = None
                if consumer.held >= consumer.prefetch:
                    continue
                if consumer.probed_at is not None:
                    self._lose(f"queue {consumer.queue} does not deliver; another consumer may hold it")
                elif loop.time() - consumer.heard_at >= self._reading.probe_s:
                    await self._probe(consumer)
                    heed_cancellation()

    async def _probe(self, consumer: _Consumer) -> None:
        consumer.probed_at = asyncio.get_running_loop().time()
        publisher = self._publishers["status"]
        try:
            async with asyncio.timeout(self._reading.answer_s):
                await publisher.publish(consumer.probe_key, b"", mandatory=True)
        except (PublishError, ChannelAccessRefused):
            consumer.probed_at = None
            log.warning("queue_not_watched", queue=consumer.queue, advice=APPLY_HINT)
        except DeliveryError:
            # The queue is full, so there is something to deliver: as good as a probe.
            pass
        except asyncio.CancelledError:
            if cancellation_asked_for():
                raise
            self._lose("the connection was lost")
        except Exception as error:
            self._lose(f"a probe was not confirmed ({type(error).__name__})")

    def _on_connection_close(self, _: object, error: BaseException | None) -> None:
        self._lose(f"the connection was lost ({_words(error)})")

    def _lose(self, reason: str) -> None:
        if not self.lost.is_set():
            self.reason = reason
            self.lost.set()


def _words(error: BaseException | None) -> str:
    # What aiormq gives after a line was silent for too long.
    if error is None or isinstance(error, asyncio.CancelledError):
        return "no sign of life"
    return in_words(error)[:300]


class _Publisher:
    """A channel with publisher confirms, opened when needed and again after the broker closed it."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._opening = asyncio.Lock()
        self._channel: AbstractChannel | None = None
        self._exchange: AbstractExchange | None = None

    async def publish(self, routing_key: str, body: bytes, *, mandatory: bool) -> None:
        exchange = await self._open()
        # Persistent: a broker that restarts keeps it, and the MQTT plug-in delivers it as QoS 1.
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await exchange.publish(message, routing_key, mandatory=mandatory)

    async def _open(self) -> AbstractExchange:
        async with self._opening:
            if self._exchange is None or self._channel is None or self._channel.is_closed:
                # Without on_return_raises an unroutable message would vanish without an error.
                self._channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
                self._exchange = await self._channel.get_exchange(EXCHANGE, ensure=False)
            return self._exchange
