"""The broker inside the process: its faults, its limits, and its likeness to RabbitMQ."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.embedded import EmbeddedBroker, EmbeddedTransport, Faults
from broker.topology import Limits
from broker.transport import PublishFailed
from tests.broker.collector import Collector
from tests.broker.stories import bulk, control, in_time, running

probabilities = st.sampled_from([0.0, 0.2, 0.5])


@settings(max_examples=30, deadline=None)
@given(st.builds(Faults, st.integers(0, 2**32), probabilities, probabilities, probabilities, probabilities))
def test_a_message_that_is_resent_gets_through_every_mixture_of_faults(faults: Faults) -> None:
    async def story() -> None:
        broker, collector = EmbeddedBroker(["a", "b"], faults=faults), Collector()
        sender, recipient = EmbeddedTransport(broker, "a", ["b"]), EmbeddedTransport(broker, "b", ["a"])
        wanted = {b"message %d" % number for number in range(20)}
        async with running(sender, Collector()), running(recipient, collector):
            await sender.connected()
            while not wanted <= set(collector.bodies):
                for body in wanted - set(collector.bodies):
                    await sender.publish(control("a", "b"), body)

    in_time(story())


def bodies_after(faults: Faults | None) -> list[bytes]:
    """What waits for `b` after 200 messages were published to it while it was away."""
    seen: list[bytes] = []

    async def story() -> None:
        broker, collector = EmbeddedBroker(["a", "b"], faults=faults), Collector()
        sender = EmbeddedTransport(broker, "a", ["b"])
        async with running(sender, Collector()):
            await sender.connected()
            for number in range(200):
                await sender.publish(control("a", "b"), b"%03d" % number)
            waiting = broker.ready("control.b.a")
            async with running(EmbeddedTransport(broker, "b", ["a"]), collector):
                await collector.count(waiting)
        seen.extend(collector.bodies)

    in_time(story())
    return seen


def test_each_fault_does_what_it_is_called_and_the_same_seed_does_it_again() -> None:
    sent = [b"%03d" % number for number in range(200)]
    assert bodies_after(None) == sent
    lossy = bodies_after(Faults(1, loss=0.3))
    assert 0 < len(lossy) < 200
    assert lossy == sorted(lossy)
    assert max(Counter(bodies_after(Faults(1, repeat=0.3))).values()) == 2
    shuffled = bodies_after(Faults(1, reorder=0.3))
    assert shuffled != sent
    assert sorted(shuffled) == sent
    corrupted = bodies_after(Faults(1, corrupt=0.3))
    assert len(corrupted) == 200
    assert 20 < sum(body not in sent for body in corrupted) < 200
    assert shuffled == bodies_after(Faults(1, reorder=0.3))
    assert shuffled != bodies_after(Faults(2, reorder=0.3))


def test_a_queue_at_its_byte_limit_is_full_for_its_sender_only_and_takes_more_once_it_was_read() -> None:
    async def story() -> None:
        broker = EmbeddedBroker(["a", "b", "c"], limits=Limits(control_bytes=100, bulk_bytes=100))
        a, c = EmbeddedTransport(broker, "a", ["b", "c"]), EmbeddedTransport(broker, "c", ["a", "b"])
        async with running(a, Collector()), running(c, Collector()):
            await a.connected()
            await a.publish(bulk("a", "b"), bytes(60))
            with pytest.raises(PublishFailed) as failed:
                await a.publish(bulk("a", "b"), bytes(60))
            assert failed.value.code == "full"
            await a.publish(control("a", "b"), bytes(60))
            await c.publish(bulk("c", "b"), bytes(60))
            collector = Collector()
            async with running(EmbeddedTransport(broker, "b", ["a", "c"]), collector):
                await collector.count(3)
                await a.publish(bulk("a", "b"), bytes(60))
                await collector.count(4)

    in_time(story())


def test_an_observer_sees_every_message() -> None:
    seen: list[tuple[str, bytes]] = []

    async def story() -> None:
        broker = EmbeddedBroker(["a", "b"], observer=lambda key, body: seen.append((key, body)))
        a = EmbeddedTransport(broker, "a", ["b"])
        async with running(a, Collector()):
            await a.connected()
            await a.publish(control("a", "b"), b"one")
            await a.publish("status.a.j-1", b"two")

    in_time(story())
    assert seen == [(control("a", "b"), b"one"), ("status.a.j-1", b"two")]
