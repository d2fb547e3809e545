"""What a publisher may write into a frame that RabbitMQ carries unread: nobody else's messages wait for it."""

import struct
from typing import Any

import aio_pika
import pytest
from pamqp import commands

from broker.amqp import AmqpOptions, AmqpTransport
from messages.envelope import EnvelopeError
from services.engine.envelopes import Envelopes
from tests.broker.collector import Collector
from tests.broker.stories import control, in_time, running
from tests.fuzz.identities import ME, identity, peers
from tests.rabbitmq import fresh_parties, running_broker

QUICK = AmqpOptions(backoff_min_s=0.05, backoff_max_s=0.2)


class Raw(str):
    """A text that goes on the wire as bytes that are none."""

    __slots__ = ()

    def encode(self, *_: Any, **__: Any) -> bytes:
        return str.encode(self).replace(b"XX", b"\xff\xfe")


class Spoilt(commands.Basic.Properties):
    """Properties whose bytes are written by hand: flags (section 4.2.6.1), then values."""

    def __init__(self, flags: int, values: bytes) -> None:
        super().__init__(message_id="1")
        self._written = struct.pack(">H", flags) + values

    def marshal(self) -> bytes:
        return self._written


async def publish(party: str, key: str, properties: commands.Basic.Properties | None = None) -> None:
    """Publish as somebody with the rights of `party` and a library of his own."""
    connection = await aio_pika.connect(running_broker().amqp_url(party))
    async with connection:
        channel = await (await connection.channel(publisher_confirms=False)).get_underlay_channel()
        await channel.basic_publish(b"spoilt", exchange="warren", routing_key=key, properties=properties)
        # The broker answers in order: what was published before is in its queue now.
        await (await connection.channel()).close()


@pytest.mark.parametrize(
    ("suffix", "properties"),
    [
        ("XX", None),
        ("", Spoilt(1 << 15, b"\x02\xff\xfe")),  # content-type
        ("", Spoilt(1 << 7, b"\x02\xff\xfe")),  # message-id
        ("", Spoilt(1 << 6, struct.pack(">Q", 2**63))),  # timestamp
    ],
    ids=["routing key", "content type", "message id", "timestamp"],
)
def test_a_frame_that_a_partner_spoilt_keeps_nobody_from_the_next(suffix: str, properties: Any) -> None:
    a, b = fresh_parties("a", "b")

    async def story() -> None:
        collector = Collector()
        transport = AmqpTransport(running_broker().amqp_url(b), b, [a], options=QUICK)
        async with running(transport, collector):
            await transport.connected()
            await publish(a, Raw(control(a, b) + suffix), properties)
            await publish(a, control(a, b))
            await collector.count(2)
        assert collector.bodies == [b"spoilt", b"spoilt"]
        assert transport.state.changes == 1
        for delivery in collector.deliveries:
            assert delivery.routing_key.isascii()
            with pytest.raises(EnvelopeError):
                Envelopes(identity(ME), peers()).open(delivery.body, delivery.routing_key)

    in_time(story())
