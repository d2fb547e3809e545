"""A transport that is told to stop does, at whatever moment of its connecting that comes."""

import asyncio
import random

import pytest

from broker.amqp import AmqpTransport
from broker.mqtt import MqttTransport
from broker.transport import Delivery
from tests.broker.aside import told_aside
from tests.rabbitmq import fresh_parties, running_broker


async def _nobody(delivery: Delivery) -> None:
    await delivery.ack()


def _transport(url: str, party: str, peer: str) -> AmqpTransport | MqttTransport:
    return MqttTransport(url, party) if url.startswith("mqtt") else AmqpTransport(url, party, [peer])


async def _stopped_after(transport: AmqpTransport | MqttTransport, turns: int | None = None) -> int:
    """Run a transport for so many turns of the event loop, or until it is up, and stop it. Returns the turns."""
    running = asyncio.ensure_future(transport.run(_nobody))
    taken = 0
    while taken != turns and not (turns is None and transport.state.up):
        await asyncio.sleep(0)
        taken += 1
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    return taken


async def stopped_at_many_moments(url: str, party: str, peer: str, times: int) -> None:
    """Ends when each of so many transports has."""
    chance = random.Random(1)
    most = await _stopped_after(_transport(url, party, peer))
    for _ in range(times):
        await _stopped_after(_transport(url, party, peer), chance.randrange(most))


@pytest.mark.parametrize(("protocol", "times"), [("amqp", 400), ("mqtt", 5)])
def test_a_transport_ends_whenever_it_is_told_to_while_it_connects(protocol: str, times: int) -> None:
    """aio-pika waits with `asyncio.wait_for`, which kept one request of a hundred to itself (Python 3.11)."""
    party, peer = fresh_parties("shop", "bank", mqtt=["shop"] if protocol == "mqtt" else [])
    broker = running_broker()
    url = broker.mqtt_url(party) if protocol == "mqtt" else broker.amqp_url(party)
    told_aside(stopped_at_many_moments, url, party, peer, times)
