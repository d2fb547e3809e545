"""A broker inside this process, for tests, simulations and a first try without RabbitMQ.

It keeps the contract of the port and the topology of RabbitMQ (`broker.topology`: same queues, bindings, byte
limits, single active consumer), and can be told to lose, repeat, reorder and corrupt by a seeded choice.
Nothing is kept on disk. One event loop.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from broker.consuming import Consuming
from broker.inbox import Inbox
from broker.matching import matches
from broker.topology import EXCHANGE, NEWEST_VERSION, Limits, party_queues, queue_name
from broker.transport import (
    MESSAGE_BYTES_MAX,
    Delivery,
    PublishCode,
    PublishFailed,
    Receiver,
    TransportState,
)
from broker.waiting import any_set

CONTROL_PREFETCH: Final = 64
BULK_PREFETCH: Final = 8


@dataclass(frozen=True, slots=True)
class Faults:
    """How a broker mistreats messages after it confirmed them, each as a probability per message and queue.

    Attributes:
        seed: the same seed and the same order of publishes give the same faults.
        loss: the message vanishes.
        repeat: it is queued twice.
        reorder: it is queued at a random place.
        corrupt: one random byte of the body is changed.
        delay: seconds that a message is on its way at most; each copy has its own.

    """

    seed: int
    loss: float = 0.0
    repeat: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class _Message:
    routing_key: str
    body: bytes


@dataclass(slots=True, eq=False)
class _Consumer:
    inbox: Inbox
    traffic: str
    prefetch: int
    held: dict[int, _Message] = field(default_factory=dict)
    taken: int = 0


@dataclass(slots=True, eq=False)
class _Queue:
    patterns: tuple[str, ...]
    bytes_max: int
    messages: deque[_Message] = field(default_factory=deque)
    bytes_ready: int = 0
    consumers: list[_Consumer] = field(default_factory=list)


class EmbeddedBroker:
    """Queues between the transports of one process.

    Args:
        parties: get queues at once; every `EmbeddedTransport` adds the ones it reads.
        limits: byte limits of the queues.
        faults: none unless given.
        observer: called with routing key and body of every message that is published.

    """

    def __init__(
        self,
        parties: Sequence[str] = (),
        *,
        limits: Limits | None = None,
        faults: Faults | None = None,
        observer: Callable[[str, bytes], None] | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._faults = faults
        self._chance = random.Random(faults.seed if faults else 0)  # noqa: S311 - faults must be repeatable
        self._observer = observer
        self._queues: dict[str, _Queue] = {}
        self._running = asyncio.Event()
        self._running.set()
        self._lines: dict[str, list[asyncio.Event]] = {}
        self._blocked: dict[str, asyncio.Event] = {}
        self._forgotten = 0
        for party in parties:
            self.declare(party, [peer for peer in parties if peer != party])

    def declare(self, party: str, peers: Sequence[str]) -> None:
        """Make the queues in which `party` finds what `peers` send; existing ones stay."""
        for queue in party_queues(party, peers, NEWEST_VERSION, self._limits):
            patterns = tuple(pattern for exchange, pattern in queue.bindings if exchange == EXCHANGE)
            bytes_max = int(queue.arguments["x-max-length-bytes"])
            self._queues.setdefault(queue.name, _Queue(patterns, bytes_max))

    def stop(self) -> None:
        """Go away as a stopped broker does: every line is lost, the messages stay."""
        self._running.clear()
        for party in self._lines:
            self.drop(party)

    def start(self) -> None:
        """Come back after `stop`."""
        self._running.set()

    def drop(self, party: str) -> None:
        """Cut the lines of `party`; its transports come back by themselves."""
        for lost in self._lines.get(party, ()):
            lost.set()

    def block(self, party: str) -> None:
        """Cut `party` off from the broker until `unblock`."""
        self._blocked.setdefault(party, asyncio.Event()).clear()
        self.drop(party)

    def unblock(self, party: str) -> None:
        """Let `party` reach the broker again."""
        self._blocked.setdefault(party, asyncio.Event()).set()

    def forget(self) -> None:
        """Lose everything that is held, handed over or on its way, as a broker does whose disk is gone."""
        self._forgotten += 1
        for queue in self._queues.values():
            queue.messages.clear()
            queue.bytes_ready = 0
            for consumer in queue.consumers:
                consumer.held.clear()
        for party in self._lines:
            self.drop(party)

    async def _reachable(self, party: str) -> None:
        await self._running.wait()
        if party in self._blocked:
            await self._blocked[party].wait()
            await self._running.wait()

    def ready(self, queue: str) -> int:
        """How many messages wait in `queue`, without those handed over and not acknowledged."""
        return len(self._queues[queue].messages)

    def _publish(self, routing_key: str, body: bytes, *, mandatory: bool) -> None:
        if not self._running.is_set():
            raise PublishFailed(PublishCode.DISCONNECTED, "the embedded broker is stopped")
        if self._observer:
            self._observer(routing_key, body)
        found = [queue for queue in self._queues.values() if any(matches(p, routing_key) for p in queue.patterns)]
        if not found and mandatory:
            raise PublishFailed(PublishCode.UNROUTABLE, f"no queue takes {routing_key}")
        if any(queue.bytes_ready + len(body) > queue.bytes_max for queue in found):
            raise PublishFailed(PublishCode.FULL, f"a queue for {routing_key} is full")
        for queue in found:
            self._send(queue, _Message(routing_key, body))

    def _send(self, queue: _Queue, message: _Message) -> None:
        faults, chance = self._faults, self._chance
        copies = 1
        if faults is not None:
            if chance.random() < faults.loss:
                return
            if message.body and chance.random() < faults.corrupt:
                message = _Message(message.routing_key, self._corrupted(message.body))
            if chance.random() < faults.repeat:
                copies = 2
        for _ in range(copies):
            if faults is not None and faults.delay:
                way = chance.uniform(0.0, faults.delay)
                asyncio.get_running_loop().call_later(way, self._arrive, queue, message, self._forgotten)
            else:
                self._arrive(queue, message, self._forgotten)

    def _arrive(self, queue: _Queue, message: _Message, forgotten: int) -> None:
        if forgotten != self._forgotten:
            return
        place = len(queue.messages)
        if self._faults is not None and self._chance.random() < self._faults.reorder:
            place = self._chance.randint(0, place)
        queue.messages.insert(place, message)
        queue.bytes_ready += len(message.body)
        self._hand_over(queue)

    def _corrupted(self, body: bytes) -> bytes:
        place = self._chance.randrange(len(body))
        return body[:place] + bytes([body[place] ^ self._chance.randint(1, 255)]) + body[place + 1 :]

    def _hand_over(self, queue: _Queue) -> None:
        while queue.messages and queue.consumers and len(queue.consumers[0].held) < queue.consumers[0].prefetch:
            consumer = queue.consumers[0]
            message = queue.messages.popleft()
            queue.bytes_ready -= len(message.body)
            consumer.taken += 1
            tag = consumer.taken
            consumer.held[tag] = message

            async def ack(consumer: _Consumer = consumer, tag: int = tag) -> None:
                if consumer.held.pop(tag, None) is not None:
                    self._hand_over(queue)

            consumer.inbox.put(consumer.traffic, Delivery(message.routing_key, message.body, ack))

    def _attach(self, party: str, peers: Sequence[str], inbox: Inbox) -> list[tuple[_Queue, _Consumer]]:
        attached = []
        for traffic, prefetch in (("control", CONTROL_PREFETCH), ("bulk", BULK_PREFETCH)):
            for peer in peers:
                queue = self._queues[queue_name(traffic, party, peer)]
                consumer = _Consumer(inbox, traffic, prefetch)
                queue.consumers.append(consumer)
                attached.append((queue, consumer))
                self._hand_over(queue)
        return attached

    def _detach(self, attached: Sequence[tuple[_Queue, _Consumer]]) -> None:
        for queue, consumer in attached:
            queue.consumers.remove(consumer)
            for message in reversed(consumer.held.values()):
                queue.messages.appendleft(message)
                queue.bytes_ready += len(message.body)
            consumer.held.clear()
            self._hand_over(queue)


class EmbeddedTransport(Consuming):
    """The transport of one party at an `EmbeddedBroker`. Declares the queues that it reads."""

    def __init__(self, broker: EmbeddedBroker, party: str, peers: Sequence[str]) -> None:
        super().__init__()
        self._broker = broker
        self._party = party
        self._peers = tuple(peers)
        self._changes = 0
        broker.declare(party, peers)

    @property
    def state(self) -> TransportState:
        """The present state."""
        detail = "waiting for the embedded broker"
        if self._up.is_set():
            detail = "paused" if self._paused else "connected to the embedded broker"
        return TransportState(self._up.is_set(), detail, self._changes)

    async def publish(self, routing_key: str, body: bytes) -> None:
        """See `Transport.publish`."""
        # A real broker never answers at once: give others their turn, so that nobody relies on it.
        await asyncio.sleep(0)
        if len(body) > MESSAGE_BYTES_MAX:
            raise PublishFailed(PublishCode.OVERSIZED, f"{len(body)} bytes are more than {MESSAGE_BYTES_MAX}")
        if not self._up.is_set():
            raise PublishFailed(PublishCode.DISCONNECTED, self.state.detail)
        self._broker._publish(routing_key, body, mandatory=not routing_key.startswith("status."))

    async def run(self, receiver: Receiver) -> None:
        """See `Transport.run`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._inbox.serve(receiver))
            group.create_task(self._stay_connected())

    async def _stay_connected(self) -> None:
        broker = self._broker
        while True:
            await broker._reachable(self._party)
            lost = asyncio.Event()
            broker._lines.setdefault(self._party, []).append(lost)
            self._changes += 1
            self._up.set()
            try:
                await self._consume(lost)
            finally:
                self._up.clear()
                broker._lines[self._party].remove(lost)
            await asyncio.sleep(0)

    async def _consume(self, lost: asyncio.Event) -> None:
        while not lost.is_set():
            self._turned.clear()
            attached = []
            if not self._paused:
                self._inbox.open()
                attached = self._broker._attach(self._party, self._peers, self._inbox)
            try:
                await any_set(lost, self._turned)
            finally:
                self._inbox.shut()
                self._broker._detach(attached)
