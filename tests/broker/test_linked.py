"""Two organisations, each with a broker of its own: what the link carries, what it survives, and what it refuses."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import PurePosixPath

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelAccessRefused, ProbableAuthenticationError

from broker.amqp import AmqpOptions, AmqpTransport
from broker.definitions import PeerBroker, linked, peer_broker
from tests.broker.collector import Collector
from tests.broker.stories import TIME_LIMIT_S, bulk, comes_true, control, in_time, insist, running
from tests.linked import OTHER, OWN, Linked, linked_brokers
from tests.rabbitmq import ready, tls_url

A, B = OWN
QUICK = AmqpOptions(backoff_min_s=0.05, backoff_max_s=0.2)


@pytest.fixture
def pair() -> Iterator[Linked]:
    found = linked_brokers()
    found.purge()
    yield found


def transport(pair: Linked, party: str) -> AmqpTransport:
    return AmqpTransport(pair.url(party), party, [OTHER[party]], options=QUICK)


@asynccontextmanager
async def conversation(pair: Linked):
    """A sender at A and what B has collected, both connected."""
    collector = Collector()
    async with running(transport(pair, A), Collector()) as sender, running(transport(pair, B), collector) as reader:
        await sender.connected()
        await reader.connected()
        yield sender, collector


def test_what_is_sent_to_the_own_broker_arrives_at_the_peers_daemon_both_ways(pair: Linked) -> None:
    async def story() -> None:
        async with AsyncExitStack() as stack:
            collectors = {own: Collector() for own in OWN}
            transports = {
                own: await stack.enter_async_context(running(transport(pair, own), collectors[own])) for own in OWN
            }
            for own in OWN:
                await transports[own].connected()
                await transports[own].publish(control(own, OTHER[own]), b"a word")
                await transports[own].publish(bulk(own, OTHER[own]), bytes(1_000_000))
            for own in OWN:
                await collectors[OTHER[own]].count(2)
                keys = {delivery.routing_key for delivery in collectors[OTHER[own]].deliveries}
                assert keys == {control(own, OTHER[own]), bulk(own, OTHER[own])}
                assert set(collectors[OTHER[own]].bodies) == {b"a word", bytes(1_000_000)}

    in_time(story())


def test_a_link_that_is_cut_again_and_again_loses_nothing(pair: Linked) -> None:
    number = 400

    async def story() -> None:
        async with conversation(pair) as (sender, collector):
            cuts = 0
            for index in range(number):
                await insist(lambda index=index: sender.publish(control(A, B), b"%d" % index))
                if index % 80 == 40:
                    # Something is under way, and something more will be.
                    await collector.until(lambda bodies, index=index: len(set(bodies)) > index - 40)
                    cuts += pair.lines[B].cut()
            await collector.until(lambda bodies: len(set(bodies)) == number)
            assert cuts >= 3
            first_seen = list(dict.fromkeys(collector.bodies))
            assert first_seen == [b"%d" % index for index in range(number)]

    in_time(story())


def test_a_broker_that_is_killed_loses_nothing_of_what_it_confirmed(pair: Linked) -> None:
    number = 200

    async def story() -> None:
        async with conversation(pair) as (sender, collector):
            for index in range(number // 2):
                await sender.publish(control(A, B), b"%d" % index)
            await asyncio.to_thread(pair.brokers[A].restart)
            for index in range(number // 2, number):
                await insist(lambda index=index: sender.publish(control(A, B), b"%d" % index))
            await collector.until(lambda bodies: len(set(bodies)) == number)

    asyncio.run(asyncio.wait_for(story(), TIME_LIMIT_S))


def test_while_the_peers_broker_is_away_messages_wait_at_home(pair: Linked) -> None:
    async def story() -> None:
        async with running(transport(pair, A), Collector()) as sender:
            await sender.connected()
            pair.lines[B].stall()
            pair.lines[B].cut()
            try:
                await sender.publish(control(A, B), b"patience")
                assert await ready(f"out.{B}", pair.brokers[A]) == 1
            finally:
                pair.lines[B].cut()
                pair.lines[B].flow()
            collector = Collector()
            async with running(transport(pair, B), collector):
                await collector.count(1)
                assert collector.bodies == [b"patience"]

    in_time(story())


def test_a_full_queue_at_the_peers_end_keeps_messages_at_home_and_they_arrive_when_it_is_read(pair: Linked) -> None:
    number, size = 12, 100_000
    queue = f"bulk.{B}.{A}"

    def limit(pattern: str) -> None:
        body = {"pattern": pattern, "definition": {"max-length-bytes": 3 * size}, "apply-to": "queues"}
        pair.management(B).put("policies", "warren", "small", body=body)

    async def story() -> None:
        async with running(transport(pair, A), Collector()) as sender:
            await sender.connected()
            for index in range(number):
                await sender.publish(bulk(A, B), b"%d" % index + bytes(size))
            taken = 0
            while taken < 3:
                taken = await ready(queue, pair.brokers[B])
            collector = Collector()
            async with running(transport(pair, B), collector):
                await collector.until(lambda bodies: len(set(bodies)) == number)

    limit(f"^{re.escape(queue)}$")
    try:
        in_time(story())
    finally:
        limit("^none$")


async def refused(connection: AbstractConnection, attempt: Callable[[AbstractChannel], Awaitable[object]]) -> None:
    with pytest.raises(ChannelAccessRefused):
        await attempt(await connection.channel())


def test_the_peers_shovel_may_read_its_one_queue_and_nothing_else(pair: Linked) -> None:
    def hear(name: str) -> Callable[[AbstractChannel], Awaitable[object]]:
        async def attempt(channel: AbstractChannel) -> None:
            await (await channel.get_queue(name, ensure=False)).consume(print)

        return attempt

    def speak(exchange: str, key: str) -> Callable[[AbstractChannel], Awaitable[object]]:
        async def attempt(channel: AbstractChannel) -> None:
            target = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
            await target.publish(aio_pika.Message(b"x"), key)

        return attempt

    async def bind(channel: AbstractChannel) -> None:
        await (await channel.get_queue(f"out.{A}", ensure=False)).bind("warren", "#")

    async def declare(channel: AbstractChannel) -> None:
        await channel.declare_queue("more", durable=True)

    async def story() -> None:
        # A's shovel at B's broker.
        connection = await aio_pika.connect(pair.shovel_url(A))
        async with connection:
            for name in (f"control.{B}.{A}", f"bulk.{B}.{A}", f"dead.{B}"):
                await refused(connection, hear(name))
            for key in (control(A, B), control(B, A), "status.x.y"):
                await refused(connection, speak("warren", key))
            await refused(connection, speak("", f"control.{B}.{A}"))
            await refused(connection, bind)
            await refused(connection, declare)
            # Its own is open, to one consumer at a time.
            await hear(f"out.{A}")(await connection.channel())

    in_time(story())


def test_a_party_with_the_peers_certificate_or_its_own_does_not_get_into_the_others_broker(pair: Linked) -> None:
    async def story() -> None:
        # A's own certificate is of A's authority, which B's broker does not know.
        url = tls_url(A, port=pair.brokers[B].tls_port, files=pair.files[A], authority=pair.files[B] / "ca.pem")
        with pytest.raises(aio_pika.exceptions.AMQPConnectionError):
            await aio_pika.connect(url, timeout=TIME_LIMIT_S)
        # As the user that publishes what was collected nobody logs in.
        url = f"amqp://deliver.{A}:@127.0.0.1:{pair.brokers[B].amqp_port}/warren"
        with pytest.raises(ProbableAuthenticationError):
            await aio_pika.connect(url, timeout=TIME_LIMIT_S)

    in_time(story())


async def put_into_the_hand(pair: Linked, key: str, body: bytes, queue: str = f"out.{B}") -> None:
    """As the administrator of A's broker may: anything, under any key, in the queue that B collects."""
    connection = await aio_pika.connect(pair.brokers[A].admin_amqp_url)
    async with connection, connection.channel() as channel:
        lane = await channel.declare_exchange("lane", "topic", auto_delete=True)
        await (await channel.get_queue(queue, ensure=False)).bind(lane, "#")
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await lane.publish(message, key)
        await lane.delete()


FORGED = [control("third", B), control(B, A), f"status.{B}.job", f"from.{A}.to.third.control.j.k"]


@pytest.mark.parametrize("key", FORGED)
def test_a_peers_broker_can_speak_in_its_peers_name_only_and_stops_nothing_but_its_own_link(
    pair: Linked, key: str
) -> None:
    async def story() -> None:
        async with conversation(pair) as (sender, collector):
            administrator = await aio_pika.connect(pair.brokers[B].admin_amqp_url)
            async with administrator, administrator.channel() as channel:
                everything = await channel.declare_queue(exclusive=True)
                await everything.bind("warren", "#")
                await put_into_the_hand(pair, key, b"forged")
                refused = (
                    f"access to topic '{key}' in exchange 'warren' in vhost 'warren' refused for user 'deliver.{A}'"
                )
                await comes_true(lambda: refused in log_of(pair, B))
                await removed_by_the_peer(pair)
                await insist(lambda: sender.publish(control(A, B), b"honest"))
                await collector.until(lambda bodies: b"honest" in bodies)
                seen = [message.body async for message in rest_of(everything)]
                assert b"honest" in seen
                assert b"forged" not in seen

    in_time(story())


def log_of(pair: Linked, own: str) -> str:
    return "".join(path.read_text() for path in (pair.brokers[own].directory / "log").glob("*.log"))


async def removed_by_the_peer(pair: Linked, queue: str = f"out.{B}") -> None:
    """What B's shovel holds goes back to the queue at A, and A's administrator empties that."""
    pair.lines[B].stall()
    pair.lines[B].cut()
    connection = await aio_pika.connect(pair.brokers[A].admin_amqp_url)
    async with connection, connection.channel() as channel:
        emptied = await channel.get_queue(queue, ensure=False)
        while not (await emptied.purge()).message_count:
            await asyncio.sleep(0.01)
    pair.lines[B].cut()
    pair.lines[B].flow()


async def rest_of(queue: aio_pika.abc.AbstractQueue) -> AsyncIterator[aio_pika.abc.AbstractIncomingMessage]:
    while (message := await queue.get(fail=False, no_ack=True)) is not None:
        yield message


def test_the_document_of_a_linked_broker_gives_each_user_one_thing_to_do() -> None:
    peers = [peer_broker("bank=broker.bank.example"), peer_broker("bureau=10.0.0.7:5999")]
    document = linked("shop", peers, certificates=PurePosixPath("/tls"))
    rights = {right["user"]: right for right in document["permissions"]}
    topics = {right["user"]: right for right in document["topic_permissions"]}
    assert sorted(rights) == sorted(topics)
    assert sorted(rights) == ["deliver.bank", "deliver.bureau", "shop", "shovel.bank", "shovel.bureau"]
    queues = [queue["name"] for queue in document["queues"]]
    for user, own in [("shovel.bank", ["out.bank"]), ("deliver.bank", [])]:
        assert [name for name in queues if re.search(rights[user]["read"], name)] == own
    assert not [user for user in rights if rights[user]["configure"] != "^$"]
    assert {user["password_hash"] for user in document["users"]} == {""}
    uris = [shovel["value"]["src-uri"] for shovel in document["parameters"]]
    assert [uri.split("?")[0] for uri in uris] == [
        "amqps://broker.bank.example:5671/warren",
        "amqps://10.0.0.7:5999/warren",
    ]
    assert all("verify=verify_peer" in uri and "auth_mechanism=external" in uri for uri in uris)


@pytest.mark.parametrize("text", ["bank", "bank=", "=host", "Bank=h", "bank=h:0", "bank=h:x", "bank=h/x", "bank=u@h"])
def test_a_peers_broker_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"PARTY=HOST|party's name"):
        peer_broker(text)


def test_a_party_is_no_peer_of_itself() -> None:
    for peers in ([PeerBroker("shop", "h")], [PeerBroker("bank", "h"), PeerBroker("bank", "i")]):
        with pytest.raises(ValueError, match="named twice"):
            linked("shop", peers, certificates=PurePosixPath("/tls"))
