"""The port's weak contract, written once and kept by every transport.

`TransportContract` is the suite; the classes at the end name the transports that pass it.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Protocol

import pytest

from broker.amqp import AmqpOptions, AmqpTransport
from broker.embedded import EmbeddedBroker, EmbeddedTransport
from broker.mqtt import MqttOptions, MqttTransport
from broker.transport import MESSAGE_BYTES_MAX, Delivery, PublishFailed, Transport
from tests.broker.collector import Collector
from tests.broker.stories import bulk, comes_true, control, in_time, insist, running
from tests.proxy import proxy
from tests.rabbitmq import fresh_parties, running_broker


class World(Protocol):
    """Parties `a`, `b` and `c` at one broker, and what can happen to it."""

    a: str
    b: str
    c: str

    def transport(self, party: str) -> Transport: ...

    async def cut_lines(self) -> None: ...

    async def go_away(self) -> None: ...

    async def come_back(self) -> None: ...


async def both(stack: AsyncExitStack, world: World) -> tuple[Transport, Transport, Collector]:
    """`a` with a receiver that does not matter, and `b` with a collector, both connected."""
    collector = Collector()
    sender = await stack.enter_async_context(running(world.transport(world.a), Collector()))
    recipient = await stack.enter_async_context(running(world.transport(world.b), collector))
    await sender.connected()
    await recipient.connected()
    return sender, recipient, collector


class TransportContract:
    """What every transport keeps. A subclass says by `world` where it is tried."""

    tells_of_nowhere = True
    """Whether a publish that no queue takes fails. Where it cannot, the message is lost as a transport may lose it."""

    def world(self) -> AbstractAsyncContextManager[World]:
        raise AssertionError("a subclass names its world")

    def tell(self, story: Callable[[World, AsyncExitStack], Awaitable[None]]) -> None:
        async def told() -> None:
            async with self.world() as world, AsyncExitStack() as stack:
                await story(world, stack)

        in_time(told())

    def test_a_message_reaches_its_recipient_as_it_was_sent_and_nobody_else(self) -> None:
        async def story(world: World, stack: AsyncExitStack) -> None:
            sender, _, collector = await both(stack, world)
            bystander = Collector()
            third = await stack.enter_async_context(running(world.transport(world.c), bystander))
            await third.connected()
            body = bytes(range(256)) * 5000
            await sender.publish(bulk(world.a, world.b), body)
            await sender.publish(control(world.a, world.b), b"")
            await collector.count(2)
            came = sorted((delivery.routing_key, delivery.body) for delivery in collector.deliveries)
            assert came == [(bulk(world.a, world.b), body), (control(world.a, world.b), b"")]
            assert bystander.bodies == []

        self.tell(story)

    def test_a_message_that_is_resent_gets_through_while_lines_are_cut(self) -> None:
        async def story(world: World, stack: AsyncExitStack) -> None:
            sender, _, collector = await both(stack, world)
            for number in range(30):
                if number % 10 == 5:
                    await world.cut_lines()
                key = (control if number % 2 else bulk)(world.a, world.b)
                await insist(lambda key=key, number=number: sender.publish(key, b"%d" % number))
            await collector.until(lambda bodies: set(bodies) == {b"%d" % number for number in range(30)})

        self.tell(story)

    def test_an_acknowledged_delivery_does_not_come_back(self) -> None:
        async def story(world: World, stack: AsyncExitStack) -> None:
            sender, recipient, collector = await both(stack, world)
            for number in range(5):
                await sender.publish(control(world.a, world.b), b"%d" % number)
            await collector.count(5)
            # The broker answers in order: when this one is back, the acknowledgements have been read.
            await sender.publish(control(world.a, world.b), b"last before the cut")
            await collector.count(6)
            before = recipient.state.changes
            await world.cut_lines()
            await comes_true(lambda: recipient.state.changes > before and recipient.state.up)
            await insist(lambda: sender.publish(control(world.a, world.b), b"marker"))
            await collector.until(lambda bodies: b"marker" in bodies)
            assert [collector.bodies.count(b"%d" % number) for number in range(5)] == [1] * 5

        self.tell(story)

    def test_an_unacknowledged_delivery_comes_back_after_the_line_was_lost(self) -> None:
        async def story(world: World, stack: AsyncExitStack) -> None:
            holder = Collector(acknowledge=False)
            sender = await stack.enter_async_context(running(world.transport(world.a), Collector()))
            recipient = await stack.enter_async_context(running(world.transport(world.b), holder))
            await sender.connected()
            await recipient.connected()
            for key in (control(world.a, world.b), bulk(world.a, world.b)):
                await sender.publish(key, key.encode())
            await holder.count(2)
            await world.cut_lines()
            await holder.count(4)
            assert sorted(holder.bodies[:2]) == sorted(holder.bodies[2:])

        self.tell(story)

    def test_an_acknowledgement_on_a_lost_line_raises_nothing_and_the_delivery_comes_back(self) -> None:
        async def story(world: World, stack: AsyncExitStack) -> None:
            holder = Collector(acknowledge=False)
            sender = await stack.enter_async_context(running(world.transport(world.a), Collector()))
            recipient = await stack.enter_async_context(running(world.transport(world.b), holder))
            await sender.connected()
            await recipient.connected()
            await insist(lambda: sender.publish(control(world.a, world.b), b"held"))
            await holder.count(1)
            await world.cut_lines()
            await holder.count(2)
            await holder.deliveries[0].ack()
            await holder.deliveries[1].ack()
            await holder.deliveries[1].ack()
            await world.cut_lines()
            await insist(lambda: sender.publish(control(world.a, world.b), b"marker"))
            await holder.until(lambda bodies: b"marker" in bodies)

        self.tell(story)

    def test_a_publish_to_nowhere_is_unroutable_where_the_protocol_has_a_word_for_it_and_harms_nothing(self) -> None:
        async def story(world: World, stack: AsyncExitStack) -> None:
            sender, _, collector = await both(stack, world)
            code = ""
            try:
                await sender.publish(control(world.a, "nobody"), b"?")
            except PublishFailed as failed:
                code = failed.code
            assert code == ("unroutable" if self.tells_of_nowhere else "")
            await sender.publish(control(world.a, world.b), b"the next one goes")
            await collector.count(1)

        self.tell(story)

    def test_a_status_that_nobody_asked_for_vanishes_without_an_error(self) -> None:
        async def story(world: World, stack: AsyncExitStack) -> None:
            sender, _, _ = await both(stack, world)
            await sender.publish(f"status.{world.a}.j-1", b"fitting")

        self.tell(story)

    def test_an_oversized_body_is_refused_and_the_largest_allowed_one_is_carried(self) -> None:
        async def story(world: World, stack: AsyncExitStack) -> None:
            sender, _, collector = await both(stack, world)
            with pytest.raises(PublishFailed) as failed:
                await sender.publish(bulk(world.a, world.b), bytes(MESSAGE_BYTES_MAX + 1))
            assert failed.value.code == "oversized"
            await sender.publish(bulk(world.a, world.b), bytes(MESSAGE_BYTES_MAX))
            await collector.count(1)
            assert len(collector.bodies[0]) == MESSAGE_BYTES_MAX

        self.tell(story)

    def test_a_publish_without_a_line_is_disconnected_at_once(self) -> None:
        async def story(world: World, stack: AsyncExitStack) -> None:
            transport = world.transport(world.a)
            with pytest.raises(PublishFailed) as failed:
                await transport.publish(control(world.a, world.b), b"too early")
            assert failed.value.code == "disconnected"

        self.tell(story)

    def test_a_pause_gives_back_what_is_held_and_takes_nothing_until_resumed_while_publishing_goes_on(
        self,
    ) -> None:
        async def story(world: World, stack: AsyncExitStack) -> None:
            holder, answers = Collector(acknowledge=False), Collector()
            sender = await stack.enter_async_context(running(world.transport(world.a), answers))
            recipient = await stack.enter_async_context(running(world.transport(world.b), holder))
            await sender.connected()
            await recipient.connected()
            await sender.publish(control(world.a, world.b), b"held")
            await holder.count(1)
            recipient.pause()
            await recipient.connected()
            await insist(lambda: recipient.publish(control(world.b, world.a), b"still speaking"))
            await answers.count(1)
            await sender.publish(control(world.a, world.b), b"meanwhile")
            # The answer to a question that is asked after "meanwhile" shows that it would have come by now.
            await recipient.publish(control(world.b, world.a), b"later")
            await answers.count(2)
            assert holder.bodies == [b"held"]
            recipient.resume()
            await holder.until(lambda bodies: bodies.count(b"held") == 2 and b"meanwhile" in bodies)

        self.tell(story)

    def test_a_transport_may_start_paused(self) -> None:
        async def story(world: World, stack: AsyncExitStack) -> None:
            collector = Collector()
            recipient = world.transport(world.b)
            recipient.pause()
            sender = await stack.enter_async_context(running(world.transport(world.a), Collector()))
            await stack.enter_async_context(running(recipient, collector))
            await sender.connected()
            await recipient.connected()
            assert "paused" in recipient.state.detail
            await sender.publish(control(world.a, world.b), b"waits")
            assert collector.bodies == []
            recipient.resume()
            await collector.count(1)

        self.tell(story)

    def test_a_stalled_receiver_of_bulk_does_not_stop_control(self) -> None:
        async def story(world: World, stack: AsyncExitStack) -> None:
            stalled, release, words = asyncio.Event(), asyncio.Event(), Collector()

            async def receive(delivery: Delivery) -> None:
                if ".bulk." in delivery.routing_key:
                    stalled.set()
                    await release.wait()
                await words(delivery)

            sender = await stack.enter_async_context(running(world.transport(world.a), Collector()))
            recipient = await stack.enter_async_context(running(world.transport(world.b), receive))
            await sender.connected()
            await recipient.connected()
            for _ in range(20):
                await sender.publish(bulk(world.a, world.b), bytes(100_000))
            await stalled.wait()
            for number in range(80):
                await sender.publish(control(world.a, world.b), b"%d" % number)
            await words.count(80)
            assert words.bodies == [b"%d" % number for number in range(80)]
            release.set()
            await words.count(100)

        self.tell(story)

    def test_a_transport_may_start_before_its_broker_and_survive_its_absence(self) -> None:
        async def story(world: World, stack: AsyncExitStack) -> None:
            await world.go_away()
            collector = Collector()
            sender = await stack.enter_async_context(running(world.transport(world.a), Collector()))
            recipient = await stack.enter_async_context(running(world.transport(world.b), collector))
            for round_ in itertools.count(1):
                assert not sender.state.up
                assert "waiting for the" in sender.state.detail
                await world.come_back()
                await sender.connected()
                await recipient.connected()
                assert sender.state.changes == round_
                await insist(lambda: sender.publish(control(world.a, world.b), b"hello"))
                await collector.count(round_)
                if round_ == 2:
                    return
                await world.go_away()
                await comes_true(lambda: not sender.state.up)

        self.tell(story)

    def test_a_fault_of_the_receiver_ends_the_run(self) -> None:
        async def story(world: World, stack: AsyncExitStack) -> None:
            async def receive(delivery: Delivery) -> None:
                raise ArithmeticError("a fault of the program")

            sender = await stack.enter_async_context(running(world.transport(world.a), Collector()))
            recipient = world.transport(world.b)
            run = asyncio.create_task(recipient.run(receive))
            await sender.connected()
            await recipient.connected()
            await insist(lambda: sender.publish(control(world.a, world.b), b"x"))
            await asyncio.wait([run])
            error = run.exception()
            assert isinstance(error, ExceptionGroup)
            assert error.subgroup(ArithmeticError) is not None

        self.tell(story)


class EmbeddedWorld:
    a, b, c = "a", "b", "c"

    def __init__(self) -> None:
        self.broker = EmbeddedBroker(["a", "b", "c"])

    def transport(self, party: str) -> Transport:
        return EmbeddedTransport(self.broker, party, [peer for peer in "abc" if peer != party])

    async def cut_lines(self) -> None:
        for party in "abc":
            self.broker.drop(party)

    async def go_away(self) -> None:
        self.broker.stop()

    async def come_back(self) -> None:
        self.broker.start()


class TestEmbedded(TransportContract):
    @asynccontextmanager
    async def world(self) -> AsyncIterator[World]:
        yield EmbeddedWorld()


QUICK_MQTT = MqttOptions(backoff_min_s=0.05, backoff_max_s=0.2, publish_timeout_s=60)
QUICK = AmqpOptions(backoff_min_s=0.05, backoff_max_s=0.2, publish_timeout_s=60)


class TestAmqp(TransportContract):
    """On a real RabbitMQ, each party behind a line that can be cut."""

    @asynccontextmanager
    async def world(self) -> AsyncIterator[World]:
        broker = running_broker()
        parties = fresh_parties("a", "b", "c")
        async with proxy(broker.amqp_port) as line:

            class AmqpWorld:
                a, b, c = parties

                def transport(self, party: str) -> Transport:
                    peers = [peer for peer in parties if peer != party]
                    return AmqpTransport(broker.amqp_url(party, port=line.port), party, peers, options=QUICK)

                async def cut_lines(self) -> None:
                    line.cut()

                async def go_away(self) -> None:
                    await line.down()

                async def come_back(self) -> None:
                    await line.up()

            yield AmqpWorld()


class TestMqtt(TransportContract):
    """The same RabbitMQ through its MQTT plug-in, each party behind a line that can be cut."""

    tells_of_nowhere = False

    @asynccontextmanager
    async def world(self) -> AsyncIterator[World]:
        broker = running_broker()
        parties = fresh_parties("a", "b", "c", mqtt=("a", "b", "c"))
        async with proxy(broker.mqtt_port) as line:

            class MqttWorld:
                a, b, c = parties

                def transport(self, party: str) -> Transport:
                    return MqttTransport(broker.mqtt_url(party, port=line.port), party, options=QUICK_MQTT)

                async def cut_lines(self) -> None:
                    line.cut()

                async def go_away(self) -> None:
                    await line.down()

                async def come_back(self) -> None:
                    await line.up()

            yield MqttWorld()
