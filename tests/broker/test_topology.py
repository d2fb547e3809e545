"""Queues, limits and permissions as RabbitMQ itself understands them."""

import asyncio
import re
from collections.abc import Awaitable, Callable

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ChannelAccessRefused

from broker import applying, topology
from broker.amqp import AmqpTransport
from broker.definitions import password_hash, shared
from broker.management import Management
from broker.topology import Limits, TopologyError, party_queues, permissions
from broker.transport import PublishFailed
from tests.broker.collector import Collector
from tests.broker.stories import bulk, comes_true, control, in_time, running
from tests.rabbitmq import fresh_parties, observer, ready, running_broker


def test_a_delivery_limit_of_minus_one_is_stated_where_rabbitmq_has_one_and_nowhere_else() -> None:
    for version, stated in (((3, 10), None), ((3, 13), None), ((4, 0), -1), ((4, 3), -1)):
        for queue in party_queues("b", ["a"], version):
            expected = None if queue.name == "dead.b" else stated
            assert queue.arguments.get("x-delivery-limit") == expected, (version, queue.name)


def test_three_parties_get_a_pair_of_queues_for_each_that_they_hear_and_rights_for_their_own_only() -> None:
    wanted = shared(["a", "b", "c"])
    names = {queue["name"] for queue in wanted["queues"]}
    pairs = [(one, other) for one in "abc" for other in "abc" if one != other]
    assert names == {f"{traffic}.{one}.{other}" for traffic in ("control", "bulk") for one, other in pairs} | {
        f"dead.{name}" for name in "abc"
    }
    for name in "abc":
        read = re.compile(permissions(name).read)
        own = {queue for queue in names if queue.split(".")[1] == name}
        assert {queue for queue in names if read.match(queue)} == own
        said = [f"from.{one}.to.{other}.control.job.kind" for one, other in pairs]
        write = re.compile(permissions(name).topic_write)
        assert {key for key in said if write.match(key)} == {key for key in said if key.startswith(f"from.{name}.")}


def test_the_password_hash_is_the_one_of_rabbitmqs_documentation() -> None:
    # The worked example of "Credentials and Passwords": password test12, salt 90 8D C6 0A.
    expected = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
    assert password_hash("test12", bytes.fromhex("908DC60A")) == expected


@pytest.mark.parametrize("name", ["", "A", "a.b", "a*", "#", "a" * 41, "a\n", "a b"])
def test_a_name_that_could_reach_beyond_its_queue_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name is"):
        permissions(name)
    with pytest.raises(ValueError, match="name is"):
        party_queues("b", [name], (4, 3))


def test_what_apply_makes_is_what_definitions_say() -> None:
    a, b = fresh_parties("a", "b")
    management = Management(running_broker().admin_url)
    wanted = shared([a, b], version=topology.parse_version(management.version()))
    compared = {
        "queues": ("name", "durable", "arguments"),
        "permissions": ("user", "configure", "write", "read"),
        "topic_permissions": ("user", "exchange", "write", "read"),
    }
    made = management.get("definitions", "warren")
    rights = {
        "permissions": management.get("permissions"),
        "topic_permissions": management.get("topic-permissions"),
        "queues": made["queues"],
    }
    for kind, fields in compared.items():
        found = [{field: record[field] for field in fields} for record in rights[kind]]
        for record in wanted[kind]:
            assert {field: record[field] for field in fields} in found, record
    bindings = [(bound["source"], bound["destination"], bound["routing_key"]) for bound in made["bindings"]]
    for bound in wanted["bindings"]:
        assert (bound["source"], bound["destination"], bound["routing_key"]) in bindings


def test_applying_again_changes_nothing_and_other_limits_are_an_error_that_names_the_queue() -> None:
    broker = running_broker()
    parties = fresh_parties("a", "b")
    told = asyncio.run(applying.apply(broker.admin_url, parties))
    assert f"queue control.{parties[1]}.{parties[0]}" in told
    assert not [line for line in told if line.startswith("user ")]
    with pytest.raises(TopologyError, match=rf"control\.{parties[0]}.*x-max-length-bytes"):
        asyncio.run(applying.apply(broker.admin_url, parties, limits=Limits(control_bytes=12345)))


def test_applying_over_amqp_makes_queues_and_says_that_users_are_left_alone() -> None:
    broker = running_broker()
    told = asyncio.run(applying.apply(broker.admin_amqp_url, ["over-amqp-a", "over-amqp-b"]))
    assert "left alone" in told[-1]
    assert asyncio.run(ready("bulk.over-amqp-b.over-amqp-a")) == 0
    assert "over-amqp-a" not in [user["name"] for user in Management(broker.admin_url).get("users")]


@pytest.mark.parametrize("scheme", ["http", "amqp"])
def test_a_broker_that_refuses_or_is_away_is_an_error_without_the_password(scheme: str) -> None:
    broker = running_broker()
    port = broker.management_port if scheme == "http" else broker.amqp_port
    for url in (f"{scheme}://administrator:S3cret@127.0.0.1:{port}", f"{scheme}://me:S3cret@127.0.0.1:1"):
        with pytest.raises(TopologyError) as failed:
            asyncio.run(applying.apply(url, ["a", "b"]))
        assert "S3cret" not in str(failed.value)


def test_a_queue_at_its_byte_limit_refuses_bulk_but_takes_control_and_takes_bulk_again_once_read() -> None:
    async def story() -> None:
        broker = running_broker()
        a, b = "small-a", "small-b"
        broker.add_parties([a, b], limits=Limits(bulk_bytes=300_000))
        async with running(AmqpTransport(broker.amqp_url(a), a, [b]), Collector()) as sender:
            await sender.connected()
            confirmed = 0
            with pytest.raises(PublishFailed) as failed:
                while confirmed < 100:
                    await sender.publish(bulk(a, b), bytes(100_000))
                    confirmed += 1
            assert failed.value.code == "full"
            # Quorum queues overshoot a little.
            assert 3 <= confirmed <= 5
            await sender.publish(control(a, b), b"still open")
            collector = Collector()
            async with running(AmqpTransport(broker.amqp_url(b), b, [a]), collector):
                await collector.count(confirmed + 1)
            await sender.publish(bulk(a, b), bytes(100_000))

    in_time(story())


def test_what_a_reader_rejects_is_kept_in_the_dead_queue_of_its_party() -> None:
    async def story() -> None:
        broker = running_broker()
        a, b = fresh_parties("a", "b")
        async with running(AmqpTransport(broker.amqp_url(a), a, [b]), Collector()) as sender:
            await sender.connected()
            await sender.publish(control(a, b), b"rejected")
        connection = await aio_pika.connect(broker.amqp_url(b))
        async with connection, connection.channel() as channel:

            async def reject(message: aio_pika.abc.AbstractIncomingMessage) -> None:
                await message.reject(requeue=False)

            queue = await channel.get_queue(f"control.{b}.{a}", ensure=False)
            await queue.consume(reject)
            dead = await channel.get_queue(f"dead.{b}", ensure=False)
            while (found := await dead.get(fail=False)) is None:
                await asyncio.sleep(0.02)
            assert (found.body, found.routing_key) == (b"rejected", control(a, b))
            await found.ack()

    in_time(story())


def test_a_third_party_can_neither_hear_two_others_nor_speak_in_their_names() -> None:
    a, b, c = fresh_parties("a", "b", "c")

    async def attempts(channel: AbstractChannel) -> dict[str, Callable[[], Awaitable[object]]]:
        heard = await channel.get_queue(f"control.{b}.{a}", ensure=False)
        warren = await channel.get_exchange("warren", ensure=False)
        message = aio_pika.Message(b"x")
        return {
            "hear what a says to b": lambda: heard.consume(print),
            "speak to b as a": lambda: warren.publish(message, control(a, b)),
            "speak to a as b": lambda: warren.publish(message, control(b, a)),
        }

    async def story() -> None:
        broker = running_broker()
        connection = await aio_pika.connect(broker.amqp_url(c))
        async with connection:
            for name in await attempts(await connection.channel()):
                attempt = (await attempts(await connection.channel()))[name]
                with pytest.raises(ChannelAccessRefused):
                    await attempt()
        async with running(AmqpTransport(broker.amqp_url(c), c, [a, b]), Collector()) as third:
            await third.connected()
            collectors = {name: Collector() for name in (a, b)}
            for name, collector in collectors.items():
                async with running(AmqpTransport(broker.amqp_url(name), name, [c]), collector):
                    await third.publish(control(c, name), b"to you alone")
                    await collector.count(1)

    in_time(story())


def test_a_party_can_neither_declare_nor_bind_nor_read_nor_write_elsewhere() -> None:
    a, b = fresh_parties("a", "b")

    async def attempts(channel: AbstractChannel) -> dict[str, Callable[[], Awaitable[object]]]:
        own = await channel.get_queue(f"control.{a}.{b}", ensure=False)
        others = await channel.get_queue(f"control.{b}.{a}", ensure=False)
        others_dead = await channel.get_queue(f"dead.{b}", ensure=False)
        warren = await channel.get_exchange("warren", ensure=False)
        dead = await channel.get_exchange("warren.dead", ensure=False)
        to_queue = channel.default_exchange.publish
        message = aio_pika.Message(b"x")
        return {
            "declare a queue": lambda: channel.declare_queue("mine", durable=True),
            "declare an exchange": lambda: channel.declare_exchange("mine"),
            "delete its queue": own.delete,
            "bind its queue to everything": lambda: own.bind("warren", "#"),
            "read another's queue": lambda: others.consume(print),
            "read another's dead letters": lambda: others_dead.get(fail=False),
            "purge another's queue": others.purge,
            "write to a queue directly": lambda: to_queue(message, others.name),
            "write to dead letters": lambda: dead.publish(message, control(a, b)),
            "speak as another": lambda: warren.publish(message, control(b, a)),
            "report as another": lambda: warren.publish(message, f"status.{b}.j-1", mandatory=False),
            "speak as one whose name begins like its own": lambda: warren.publish(message, control(f"{a}-x", b)),
        }

    async def story() -> None:
        connection = await aio_pika.connect(running_broker().amqp_url(a))
        async with connection:
            for name in await attempts(await connection.channel()):
                # A refusal closes the channel.
                attempt = (await attempts(await connection.channel()))[name]
                try:
                    await attempt()
                except ChannelAccessRefused:
                    continue
                pytest.fail(f"a party may {name}")

    in_time(story())


def test_an_observer_queue_sees_everything_and_forgets_the_oldest_instead_of_refusing_senders() -> None:
    async def story() -> None:
        broker = running_broker()
        a, b = fresh_parties("a", "b")
        queue = topology.observer_queue(a, bytes_max=1000)
        connection = await aio_pika.connect(broker.admin_amqp_url)
        async with (
            connection,
            connection.channel() as channel,
            running(AmqpTransport(broker.amqp_url(a), a, [b]), Collector()) as sender,
        ):
            await topology.declare(channel, [queue])
            await sender.connected()
            for _ in range(30):
                await sender.publish(control(a, b), bytes(100))
            assert 0 < await ready(queue.name) < 30
            assert await ready(f"control.{b}.{a}") == 30
            await channel.queue_delete(queue.name)

    in_time(story())


def test_the_sessions_observer_sees_messages_as_they_pass() -> None:
    async def story() -> None:
        broker = running_broker()
        a, b = fresh_parties("a", "b")
        async with (
            observer() as seen,
            running(AmqpTransport(broker.amqp_url(a), a, [b]), Collector()) as sender,
        ):
            await sender.connected()
            await sender.publish(control(a, b), b"passing")
            await comes_true(lambda: (control(a, b), b"passing") in seen)

    in_time(story())


def test_the_definitions_hold_no_password_and_no_user_of_the_default_installation() -> None:
    text = str(shared(["a", "b"], passwords={"a": "S3cret"}))
    assert "S3cret" not in text
    assert "guest" not in text
