"""The transport over RabbitMQ's MQTT plug-in, where partners, permissions and lines are not what one wishes."""

import asyncio

import aio_pika
import aiomqtt
import pytest
from aiormq.exceptions import ChannelAccessRefused

from broker.amqp import AmqpTransport
from broker.management import Management
from broker.mqtt import MqttOptions, MqttTransport
from broker.sessions import session_queue_name
from broker.topology import Limits
from broker.transport import PublishFailed
from tests.broker.collector import Collector
from tests.broker.stories import TIME_LIMIT_S, bulk, comes_true, control, in_time, insist, running
from tests.broker.test_hostile_frames import Raw, publish
from tests.proxy import proxy
from tests.rabbitmq import CERTIFICATE_PARTIES, certificates, fresh_parties, ready, running_broker

QUICK = MqttOptions(backoff_min_s=0.05, backoff_max_s=0.2)


def edge(party: str, *, url: str | None = None, options: MqttOptions = QUICK) -> MqttTransport:
    return MqttTransport(url or running_broker().mqtt_url(party), party, options=options)


def centre(party: str, *peers: str) -> AmqpTransport:
    return AmqpTransport(running_broker().amqp_url(party), party, peers)


def test_a_party_that_speaks_mqtt_and_one_that_speaks_amqp_hear_each_other_under_the_same_keys() -> None:
    async def story() -> None:
        a, b = fresh_parties("a", "b", mqtt=["a"])
        at_a, at_b = Collector(), Collector()
        async with running(edge(a), at_a) as left, running(centre(b, a), at_b) as right:
            await left.connected()
            await right.connected()
            for key in (control, bulk):
                await left.publish(key(a, b), b"from the edge")
                await right.publish(key(b, a), b"to the edge")
            await at_a.count(2)
            await at_b.count(2)
            assert {each.routing_key for each in at_a.deliveries} == {control(b, a), bulk(b, a)}
            assert {each.routing_key for each in at_b.deliveries} == {control(a, b), bulk(a, b)}

    in_time(story())


def test_what_is_sent_to_a_party_while_it_is_away_waits_in_its_session() -> None:
    async def story() -> None:
        a, b = fresh_parties("a", "b", mqtt=["b"])
        async with running(centre(a, b), Collector()) as sender:
            await sender.connected()
            with pytest.raises(PublishFailed) as failed:
                await sender.publish(control(a, b), b"before it was ever here")
            assert failed.value.code == "unroutable"
            async with running(edge(b), Collector()) as first:
                await first.connected()
            await sender.publish(control(a, b), b"waits")
            await sender.publish(bulk(a, b), b"waits as well")
            collector = Collector()
            async with running(edge(b), collector):
                await collector.count(2)
        assert sorted(collector.bodies) == [b"waits", b"waits as well"]

    in_time(story())


def test_a_forged_sender_is_refused_and_the_next_honest_message_goes() -> None:
    async def story() -> None:
        a, b = fresh_parties("a", "b", mqtt=["a", "b"])
        collector = Collector()
        async with running(edge(a), Collector()) as sender, running(edge(b), collector) as recipient:
            await sender.connected()
            await recipient.connected()
            for key in (control(b, a), bulk(b, a)):
                with pytest.raises(PublishFailed) as failed:
                    await sender.publish(key, b"forged")
                assert failed.value.code == "refused"
                assert "warren broker apply" in failed.value.detail
            await insist(lambda: sender.publish(control(a, b), b"honest"))
            await collector.count(1)
            assert collector.bodies == [b"honest"]
            # No line that reads was touched: what it holds did not come twice.
            assert sender.state.changes == recipient.state.changes == 1

    in_time(story())


def test_a_full_queue_refuses_and_stops_nothing_else() -> None:
    async def story() -> None:
        a, b = fresh_parties("a", "b", mqtt=["a"])
        connection = await aio_pika.connect(running_broker().admin_amqp_url)
        async with connection, connection.channel() as channel:
            full = await channel.declare_queue(
                exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
            )
            await full.bind("warren", bulk(a, b))
            # RabbitMQ 3 closes the line, RabbitMQ 4 says nothing at all.
            version = running_broker().version
            assert version is not None
            silent = version >= (4, 0)
            impatient = MqttOptions(backoff_min_s=0.05, backoff_max_s=0.2, publish_timeout_s=5 if silent else 60)
            async with running(edge(a, options=impatient), Collector()) as sender:
                await sender.connected()
                await sender.publish(bulk(a, b), b"fills it")
                with pytest.raises(PublishFailed) as failed:
                    await sender.publish(bulk(a, b), b"too much")
                assert failed.value.code == ("timeout" if silent else "refused")
                await insist(lambda: sender.publish(control(a, b), b"a word"))
                await full.purge()
                await insist(lambda: sender.publish(bulk(a, b), b"there is room"))
                assert sender.state.changes == 1

    in_time(story())


@pytest.mark.parametrize("topics", ["#", "from/#", "from/+/to/+/control/#", "from/{a}/to/{b}/control/#", "status/#"])
def test_no_subscription_but_the_two_of_a_party_is_granted(topics: str) -> None:
    async def story() -> None:
        a, b = fresh_parties("a", "b", mqtt=["a", "b"])
        thief = edge(a)._line(f"warren.{a}.control", persistent=True)
        await thief.open()
        with pytest.raises(Exception, match="does not grant the subscription"):
            await thief.read(topics.format(a=a, b=b))
        await thief.close()

    in_time(story())


def test_a_party_that_speaks_mqtt_can_neither_widen_its_session_nor_read_a_queue_by_amqp() -> None:
    async def story() -> None:
        a, b, c = fresh_parties("a", "b", "c", mqtt=["a", "b"])
        async with running(edge(a), Collector()) as one, running(edge(b), Collector()) as other:
            await one.connected()
            await other.connected()
        connection = await aio_pika.connect(running_broker().amqp_url(a))
        async with connection:
            own = session_queue_name(a, "control")
            for key in ("#", f"from.{b}.to.{c}.control.#", f"from.*.to.{b}.control.#"):
                with pytest.raises(ChannelAccessRefused):
                    queue = await (await connection.channel()).get_queue(own, ensure=False)
                    await queue.bind("warren", key)
            for name in (session_queue_name(b, "control"), f"control.{c}.{b}", f"dead.{c}"):
                with pytest.raises(ChannelAccessRefused):
                    queue = await (await connection.channel()).get_queue(name, ensure=False)
                    await queue.get(fail=False)

    in_time(story())


def test_reading_anothers_session_is_refused_and_said() -> None:
    async def story() -> None:
        a, b = fresh_parties("a", "b", mqtt=["a", "b"])
        thief = edge(b, url=running_broker().mqtt_url(a))
        async with running(thief, Collector()):
            await comes_true(lambda: "warren broker apply --mqtt" in thief.state.detail)
            assert not thief.state.up

    in_time(story())


def test_a_session_holds_no_more_bytes_than_its_policy_says() -> None:
    async def story() -> None:
        (a,) = fresh_parties("a", mqtt=["a"])
        async with running(edge(a), Collector()) as transport:
            await transport.connected()
        management = Management(running_broker().admin_url)
        for traffic, most in (("control", Limits().control_bytes), ("bulk", Limits().bulk_bytes)):
            name = session_queue_name(a, traffic)
            # What the management tells of a queue it learns from time to time.
            while "policy" not in (found := management.get("queues", "warren", name)):
                await asyncio.sleep(0.05)
            assert found["policy"] == f"sessions-{traffic}"
            assert found["effective_policy_definition"] == {"max-length-bytes": most, "overflow": "reject-publish"}

    in_time(story())


@pytest.mark.parametrize("suffix", ["XX", ".#", ".+.a", "/../b", "." + "x" * 200])
def test_a_key_that_somebody_spoilt_keeps_nobody_from_the_next(suffix: str) -> None:
    a, b = fresh_parties("a", "b", mqtt=["b"])

    async def story() -> None:
        collector = Collector()
        async with running(edge(b), collector) as transport, running(centre(a, b), Collector()) as sender:
            await transport.connected()
            await sender.connected()
            # A partner's user may not; the administrator's may anything.
            await publish("administrator", Raw(control(a, b) + suffix))
            await sender.publish(control(a, b), b"honest")
            await collector.until(lambda bodies: b"honest" in bodies)
            assert transport.state.changes == 1
        assert collector.deliveries[-1].routing_key == control(a, b)

    in_time(story())


@pytest.mark.parametrize("suffix", ["XX", ".#", ".+", "/x", ".Kind"])
def test_a_partner_of_a_party_that_speaks_mqtt_sends_plain_keys_only(suffix: str) -> None:
    a, b = fresh_parties("a", "b", mqtt=["b"])

    async def story() -> None:
        async with await aio_pika.connect(running_broker().amqp_url(a)) as connection:
            exchange = await (await connection.channel()).get_exchange("warren", ensure=False)
            with pytest.raises(ChannelAccessRefused):
                await exchange.publish(aio_pika.Message(b"spoilt"), Raw(control(a, b) + suffix), timeout=TIME_LIMIT_S)

    in_time(story())


def test_a_black_hole_is_noticed_and_the_line_renewed() -> None:
    async def story() -> None:
        a, b = fresh_parties("a", "b", mqtt=["b"])
        broker, collector = running_broker(), Collector()
        patient = MqttOptions(
            backoff_min_s=0.05, backoff_max_s=0.2, keepalive_s=1, connect_timeout_s=2, publish_timeout_s=0.3
        )
        async with (
            proxy(broker.mqtt_port) as line,
            running(centre(a, b), Collector()) as sender,
            running(edge(b, url=broker.mqtt_url(b, port=line.port), options=patient), collector) as reader,
        ):
            await reader.connected()
            await sender.connected()
            line.stall()
            await sender.publish(control(a, b), b"into the hole")
            with pytest.raises(PublishFailed) as failed:
                await reader.publish(control(b, a), b"out of the hole")
            assert failed.value.code == "timeout"
            # A message that was given up must not stay under way: there is room for few (MQTT's window).
            await comes_true(lambda: not reader._senders["control"].ready.is_set())
            await comes_true(lambda: not reader.state.up)
            line.flow()
            await insist(lambda: reader.publish(control(b, a), b"out of the hole"))
            await collector.until(lambda bodies: b"into the hole" in bodies)

    in_time(story())


def test_a_session_that_the_broker_forgot_is_made_anew() -> None:
    async def story() -> None:
        a, b = fresh_parties("a", "b", mqtt=["b"])
        collector = Collector()
        watchful = MqttOptions(backoff_min_s=0.05, backoff_max_s=0.2, probe_s=0.2)
        async with (
            running(edge(b, options=watchful), collector) as reader,
            running(centre(a, b), Collector()) as sender,
        ):
            await reader.connected()
            await sender.connected()
            connection = await aio_pika.connect(running_broker().admin_amqp_url)
            async with connection, connection.channel() as channel:
                await channel.queue_delete(session_queue_name(b, "control"))
            await insist(lambda: sender.publish(control(a, b), b"at last"))
            await collector.count(1)
            await comes_true(lambda: reader.state.changes >= 2)

    in_time(story())


def test_a_silent_session_that_answers_its_probe_is_left_alone() -> None:
    async def story() -> None:
        (a,) = fresh_parties("a", mqtt=["a"])
        collector = Collector()
        watchful = MqttOptions(probe_s=0.05)
        async with running(edge(a, options=watchful), collector) as transport:
            await transport.connected()
            await comes_true(lambda: transport.probes_answered >= 6)
            assert transport.state.changes == 1
        assert collector.bodies == []
        assert await ready(session_queue_name(a, "control")) == 0

    in_time(story())


def test_a_wrong_password_and_a_missing_vhost_are_said_without_the_password() -> None:
    async def story() -> None:
        (a,) = fresh_parties("a", mqtt=["a"])
        broker = running_broker()
        for url in (f"mqtt://{a}:secret-word@127.0.0.1:{broker.mqtt_port}", broker.mqtt_url(a) + "-of-another"):
            transport = edge(a, url=url)
            async with running(transport, Collector()):
                await comes_true(lambda transport=transport: "refuses the login" in transport.state.detail)
                assert f"refuses the login of {a}" in transport.state.detail
                assert "secret-word" not in transport.state.detail + repr(transport)

    in_time(story())


def test_a_party_logs_in_with_its_certificate_under_tls() -> None:
    async def story() -> None:
        broker, files = running_broker(), certificates()
        party = CERTIFICATE_PARTIES[1]
        broker.add_parties([party], mqtt=[party])
        query = f"cafile={files}/ca.pem&certfile={files}/{party}.pem&keyfile={files}/{party}.key"
        collector = Collector()
        transport = edge(party, url=f"mqtts://localhost:{broker.mqtts_port}/warren?{query}")
        async with running(transport, collector):
            await transport.connected()
            await transport.publish(f"from.{party}.to.{party}.control.j-1.link.terms", b"to myself")
            await collector.count(1)
        stranger = edge(party, url=f"mqtts://localhost:{broker.mqtts_port}/warren")
        async with running(stranger, Collector()):
            await comes_true(lambda: "is not signed by an authority in the system's" in stranger.state.detail)

    in_time(story())


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("mqtt://a:b@broker.example/warren", "must begin with mqtts://"),
        ("mqtts:///warren", "mqtts://user:password@host"),
        ("amqp://localhost", "mqtts://user:password@host"),
        ("mqtts://a:b@host/warren?heartbeat=3", "not heartbeat"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_without_the_password(url: str, named: str) -> None:
    with pytest.raises(ValueError, match=named) as refused:
        MqttTransport(url, "a")
    assert "a:b" not in str(refused.value)


def test_a_session_over_mqtt_by_another_program_sees_what_this_one_would() -> None:
    """The documented names are all that another client needs, such as an observer of its own messages."""

    async def story() -> None:
        a, b = fresh_parties("a", "b", mqtt=["b"])
        broker = running_broker()
        url = broker.mqtt_url(b)
        password = url.split(":")[2].split("@")[0]
        async with aiomqtt.Client(
            "127.0.0.1",
            broker.mqtt_port,
            username=f"warren:{b}",
            password=password,
            identifier=f"warren.{b}.control",
            clean_session=False,
        ) as client:
            await client.subscribe(f"from/+/to/{b}/control/#", qos=1)
            async with running(centre(a, b), Collector()) as sender:
                await sender.connected()
                await sender.publish(control(a, b), b"hello")
                message = await anext(aiter(client.messages))
        assert str(message.topic) == control(a, b).replace(".", "/")

    in_time(story())
