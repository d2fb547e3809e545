"""Messages over MQTT beside the same messages over AMQP, through one private RabbitMQ on this machine.

One at a time, as the relay publishes: the next one goes when the broker has confirmed the last. The recipient
acknowledges at once. Each way has its turn in every round, and the fastest round counts: interruptions only add.
"""

import asyncio
import time
from typing import Final

from broker.amqp import AmqpTransport
from broker.mqtt import MqttTransport
from broker.private import PrivateBroker
from broker.transport import Delivery, Transport

WAYS: Final = {
    "amqp to amqp": ("central", "partner"),
    "mqtt to amqp": ("edge", "partner"),
    "amqp to mqtt": ("partner", "edge"),
    "mqtt to mqtt": ("edge", "rim"),
}
SPEAKERS: Final = ("edge", "rim")
PARTIES: Final = ("central", "partner", *SPEAKERS)
SMALL_BYTES: Final = 1024
LARGE_BYTES: Final = 2**20


class _Counter:
    """Acknowledges what comes and counts it."""

    def __init__(self) -> None:
        self.came = 0
        self._changed = asyncio.Event()

    async def __call__(self, delivery: Delivery) -> None:
        await delivery.ack()
        self.came += 1
        self._changed.set()

    async def reach(self, number: int) -> None:
        while self.came < number:
            self._changed.clear()
            await self._changed.wait()


def measure_transports(small: int, large: int, rounds: int) -> dict[str, dict[str, float]]:
    """By way: `messages_per_s` of 1 KiB of control, `mib_per_s` of bulk in messages of 1 MiB, `round_trip_ms`.

    Args:
        small: control messages per round.
        large: bulk messages per round.
        rounds: turns of each way.

    """
    with PrivateBroker(parties=PARTIES, mqtt=SPEAKERS) as broker:
        return asyncio.run(_measure(broker, small, large, rounds))


async def _measure(broker: PrivateBroker, small: int, large: int, rounds: int) -> dict[str, dict[str, float]]:
    transports: dict[str, Transport] = {
        party: MqttTransport(broker.mqtt_url(party), party)
        if party in SPEAKERS
        else AmqpTransport(broker.amqp_url(party), party, [peer for peer in PARTIES if peer != party])
        for party in PARTIES
    }
    counters = {party: _Counter() for party in PARTIES}
    found: dict[str, dict[str, float]] = {}
    running = [asyncio.create_task(transports[party].run(counters[party])) for party in PARTIES]
    for transport in transports.values():
        await transport.connected()
    for _ in range(rounds):
        for way, (sender, recipient) in WAYS.items():
            one = found.setdefault(way, {"messages_per_s": 0.0, "mib_per_s": 0.0, "round_trip_ms": float("inf")})
            control, bulk = (f"from.{sender}.to.{recipient}.{traffic}.job.a.kind" for traffic in ("control", "bulk"))
            back = f"from.{recipient}.to.{sender}.control.job.a.kind"
            taken = await _seconds(transports[sender], counters[recipient], control, bytes(SMALL_BYTES), small)
            one["messages_per_s"] = max(one["messages_per_s"], small / taken)
            taken = await _seconds(transports[sender], counters[recipient], bulk, bytes(LARGE_BYTES), large)
            one["mib_per_s"] = max(one["mib_per_s"], large / taken)
            began = time.perf_counter()
            await _seconds(transports[sender], counters[recipient], control, b"ping", 1)
            await _seconds(transports[recipient], counters[sender], back, b"pong", 1)
            one["round_trip_ms"] = min(one["round_trip_ms"], 1000 * (time.perf_counter() - began))
    for task in running:
        task.cancel()
    await asyncio.wait(running)
    return {way: {name: round(value, 1) for name, value in one.items()} for way, one in found.items()}


async def _seconds(sender: Transport, recipient: _Counter, key: str, body: bytes, count: int) -> float:
    """From the first message's publish until the last one has been acknowledged."""
    before, began = recipient.came, time.perf_counter()
    for _ in range(count):
        await sender.publish(key, body)
    await recipient.reach(before + count)
    return time.perf_counter() - began
