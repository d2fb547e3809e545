"""The transport over a real RabbitMQ, where lines, brokers and permissions fail."""

import asyncio
import gc
import warnings

import aio_pika
import pytest

from broker import applying, topology
from broker.amqp import AmqpOptions, AmqpTransport
from broker.transport import PublishFailed
from tests.broker.collector import Collector
from tests.broker.stories import bulk, comes_true, control, in_time, insist, running
from tests.proxy import proxy
from tests.rabbitmq import fresh_parties, observer, ready, running_broker, tls_url

QUICK = AmqpOptions(backoff_min_s=0.05, backoff_max_s=0.2)


def transport(party: str, *peers: str, url: str | None = None, options: AmqpOptions = QUICK) -> AmqpTransport:
    return AmqpTransport(url or running_broker().amqp_url(party), party, peers, options=options)


def test_a_forged_sender_is_refused_and_the_next_honest_message_goes() -> None:
    async def story() -> None:
        a, b = fresh_parties("a", "b")
        collector = Collector()
        async with running(transport(a, b), Collector()) as sender, running(transport(b, a), collector):
            await sender.connected()
            for key in (control(b, a), bulk(b, a)):
                with pytest.raises(PublishFailed) as failed:
                    await sender.publish(key, b"forged")
                assert failed.value.code == "refused"
            await insist(lambda: sender.publish(control(a, b), b"honest"))
            await collector.count(1)
            assert sender.state.changes == 1

    in_time(story())


def test_reading_anothers_queue_is_refused_and_said() -> None:
    async def story() -> None:
        a, b = fresh_parties("a", "b")
        thief = AmqpTransport(running_broker().amqp_url(a), b, [a], options=QUICK)
        async with running(thief, Collector()):
            await comes_true(lambda: f"may not read queue control.{b}.{a}" in thief.state.detail)
            assert not thief.state.up

    in_time(story())


def test_a_daemon_that_finds_no_queues_says_so_and_goes_on_when_they_are_made() -> None:
    async def story() -> None:
        broker = running_broker()
        (a,) = fresh_parties("a")
        b = f"{a}-peer"
        async with running(transport(a, b), Collector()) as lonely:
            missing = f"queue control.{a}.{b} is missing: run `warren broker apply`"
            await comes_true(lambda: lonely.state.detail == missing)
            assert not lonely.state.up
            await applying.apply(broker.admin_url, [a, b])
            await lonely.connected()

    in_time(story())


def test_only_declare_makes_queues_and_a_party_of_production_may_not() -> None:
    async def story() -> None:
        broker = running_broker()
        (a,) = fresh_parties("a")
        b = f"{a}-declared"
        refused = AmqpTransport(broker.amqp_url(a), a, [b], declare=True, options=QUICK)
        async with running(refused, Collector()):
            await comes_true(lambda: "ACCESS_REFUSED" in refused.state.detail)
        made = AmqpTransport(broker.admin_amqp_url, a, [b], declare=True, options=QUICK)
        async with running(made, Collector()):
            await made.connected()
        assert await ready(f"bulk.{a}.{b}") == 0

    in_time(story())


def test_a_queue_that_is_deleted_under_its_reader_is_noticed() -> None:
    async def story() -> None:
        broker = running_broker()
        a, b = fresh_parties("a", "b")
        async with running(transport(a, b), Collector()) as reader:
            await reader.connected()
            connection = await aio_pika.connect(broker.admin_amqp_url)
            async with connection, connection.channel() as channel:
                await channel.queue_delete(f"bulk.{a}.{b}")
            await comes_true(lambda: f"queue bulk.{a}.{b} is missing" in reader.state.detail)
            await applying.apply(broker.admin_url, [a, b])
            await reader.connected()

    in_time(story())


def test_what_was_confirmed_survives_a_broker_that_is_killed_and_started_again() -> None:
    async def story() -> None:
        broker = running_broker()
        a, b = fresh_parties("a", "b")
        collector, holder = Collector(), Collector(acknowledge=False)
        async with running(transport(a, b), Collector()) as sender:
            await sender.connected()
            async with running(transport(b, a), holder) as holding:
                await holding.connected()
                await sender.publish(bulk(a, b), b"held")
                await holder.count(1)
                for number in range(20):
                    await sender.publish(control(a, b), b"%d" % number)
                await asyncio.to_thread(broker.kill)
                await comes_true(lambda: not sender.state.up)
                with pytest.raises(PublishFailed) as failed:
                    await sender.publish(control(a, b), b"while it is away")
                assert failed.value.code == "disconnected"
            await asyncio.to_thread(broker.start)
            await sender.connected()
            assert sender.state.changes == 2
            async with running(transport(b, a), collector):
                wanted = {b"held"} | {b"%d" % number for number in range(20)}
                await collector.until(lambda bodies: wanted <= set(bodies))

    in_time(story())


def test_no_confirmed_message_is_lost_while_the_line_is_cut_under_a_burst() -> None:
    async def story() -> None:
        broker = running_broker()
        a, b = fresh_parties("a", "b")
        collector, confirmed = Collector(), set()
        async with proxy(broker.amqp_port) as line:
            sender = transport(a, b, url=broker.amqp_url(a, port=line.port))
            async with running(sender, Collector()), running(transport(b, a), collector):
                await sender.connected()

                async def publish(number: int) -> None:
                    body = b"%d" % number
                    try:
                        await sender.publish((bulk if number % 2 else control)(a, b), body + bytes(5000))
                    except PublishFailed as failed:
                        assert failed.code == "disconnected"
                    else:
                        confirmed.add(body)

                for start in range(0, 400, 100):
                    async with asyncio.TaskGroup() as group:
                        for number in range(start, start + 100):
                            group.create_task(publish(number))
                        await comes_true(lambda start=start: len(confirmed) > start // 4)
                        line.cut()
                    await comes_true(lambda: not sender.state.up)
                    await sender.connected()
                assert sender.state.changes == 5
                await collector.until(lambda bodies: confirmed <= {body.rstrip(b"\0") for body in bodies})

    in_time(story())


def test_a_black_hole_ends_a_publish_in_bounded_time_and_the_transport_comes_back() -> None:
    async def story() -> None:
        broker = running_broker()
        a, b = fresh_parties("a", "b")
        patient = AmqpOptions(backoff_min_s=0.05, backoff_max_s=0.2, heartbeat_s=1, connect_timeout_s=1)
        hasty = AmqpOptions(publish_timeout_s=0.3)
        collector = Collector()
        async with proxy(broker.amqp_port) as line:
            url = broker.amqp_url(a, port=line.port)
            sender = transport(a, b, url=url, options=patient)
            impatient = transport(a, b, url=url, options=hasty)
            async with (
                running(sender, Collector()),
                running(impatient, Collector()),
                running(transport(b, a), collector),
            ):
                await sender.connected()
                await impatient.connected()
                line.stall()
                with pytest.raises(PublishFailed) as timeout:
                    await impatient.publish(control(a, b), b"into the hole, with little patience")
                assert timeout.value.code == "timeout"
                # aiormq ends this wait with a CancelledError that nobody asked for.
                with pytest.raises(PublishFailed) as lost:
                    await sender.publish(control(a, b), b"into the hole, with patience")
                assert lost.value.code == "disconnected"
                await comes_true(lambda: not sender.state.up)
                line.flow()
                await sender.connected()
                await insist(lambda: sender.publish(control(a, b), b"after it"))
                await collector.until(lambda bodies: b"after it" in bodies)

    in_time(story())


def test_a_cancelled_publish_stays_cancelled() -> None:
    async def story() -> None:
        broker = running_broker()
        a, b = fresh_parties("a", "b")
        async with proxy(broker.amqp_port) as line:
            sender = transport(a, b, url=broker.amqp_url(a, port=line.port))
            async with running(sender, Collector()):
                await sender.connected()
                line.stall()
                publish = asyncio.create_task(sender.publish(control(a, b), b"x"))
                await asyncio.sleep(0)
                publish.cancel()
                await asyncio.wait([publish])
                assert publish.cancelled()

    in_time(story())


def test_a_queue_that_delivers_nothing_although_it_holds_messages_is_noticed_and_opened_again() -> None:
    async def story() -> None:
        broker = running_broker()
        a, b = fresh_parties("a", "b")
        watchful = AmqpOptions(backoff_min_s=0.05, backoff_max_s=0.1, probe_s=0.4)
        collector = Collector()
        # A consumer that came first holds the queue: ours is connected and is brought nothing.
        connection = await aio_pika.connect(broker.amqp_url(b))
        async with connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=1)
            holding = await channel.get_queue(f"control.{b}.{a}", ensure=False)
            held = asyncio.Event()

            async def hold(_: aio_pika.abc.AbstractIncomingMessage) -> None:
                held.set()

            await holding.consume(hold)
            async with (
                running(transport(a, b), Collector()) as sender,
                running(transport(b, a, options=watchful), collector) as recipient,
            ):
                await sender.connected()
                for number in range(3):
                    await sender.publish(control(a, b), b"%d" % number)
                await held.wait()
                await comes_true(lambda: f"queue control.{b}.{a} does not deliver" in recipient.state.detail)
                await connection.close()
                await collector.count(3)
                await recipient.connected()
                settled = recipient.state.changes
                async with observer() as seen:
                    # Each probe that follows another one shows that the first was answered.
                    probe = topology.probe_key(b, a, "control")
                    await comes_true(lambda: [key for key, _ in seen].count(probe) == 3)
                assert recipient.state.changes == settled, "a healthy silent line must not be opened again"
                assert collector.bodies == [b"0", b"1", b"2"]

    in_time(story())


def test_a_reader_that_holds_all_it_may_is_not_taken_for_a_broken_line() -> None:
    async def story() -> None:
        a, b = fresh_parties("a", "b")
        watchful = AmqpOptions(bulk_prefetch=2, probe_s=0.3)
        holder = Collector(acknowledge=False)
        async with (
            running(transport(a, b), Collector()) as sender,
            running(transport(b, a, options=watchful), holder) as recipient,
        ):
            await sender.connected()
            for number in range(4):
                await sender.publish(bulk(a, b), b"%d" % number)
            await holder.count(2)
            async with observer() as seen:
                await comes_true(lambda: len(seen) == 3)
            # The idle control queue was asked, the full bulk queue was not.
            assert {key for key, _ in seen} == {topology.probe_key(b, a, "control")}
            assert holder.bodies == [b"0", b"1"]
            assert recipient.state.changes == 1
            await holder.deliveries[0].ack()
            await holder.count(3)

    in_time(story())


def test_parties_meet_over_tls_with_certificates_in_place_of_passwords() -> None:
    async def story() -> None:
        a, b = "business-a", "provider-a"
        await applying.apply(running_broker().admin_url, [a, b])
        collector = Collector()
        async with (
            running(transport(a, b, url=tls_url(a)), Collector()) as sender,
            running(transport(b, a, url=tls_url(b)), collector),
        ):
            await sender.connected()
            await sender.publish(control(a, b), b"sealed twice")
            await collector.until(lambda bodies: b"sealed twice" in bodies)

    in_time(story())


def test_an_unencrypted_line_to_another_machine_is_refused_unless_it_is_allowed() -> None:
    with pytest.raises(ValueError, match="must begin with amqps"):
        AmqpTransport("amqp://a:S3cret@broker.example/warren", "a", ["b"])
    AmqpTransport("amqp://a:S3cret@broker.example/warren", "a", ["b"], allow_plain=True)
    AmqpTransport("amqps://a:S3cret@broker.example/warren", "a", ["b"])


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("127.0.0.1", "nobody listens there: is the broker running, and is the port right?"),
        ("localhost", "nobody listens there: is the broker running, and is the port right?"),
        ("nowhere.invalid", "no address is known for this host name"),
    ],
)
def test_why_a_broker_cannot_be_reached_is_said_in_words(host: str, said: str) -> None:
    async def story() -> None:
        away = AmqpTransport(f"amqp://a:S3cret@{host}:1/warren", "a", ["b"], options=QUICK, allow_plain=True)
        async with running(away, Collector()):
            await comes_true(lambda: said in away.state.detail)
            assert away.state.detail == f"waiting for the broker at {host}:1 ({said})"

    in_time(story())


def test_a_connection_that_did_not_come_about_leaves_no_warning_whichever_thread_collects_it() -> None:
    async def story() -> None:
        url = f"amqp://nobody:S3cret@127.0.0.1:{running_broker().amqp_port}/warren"
        away = AmqpTransport(url, "a", ["b"], options=QUICK)
        gc.disable()
        try:
            async with running(away, Collector()):
                await comes_true(lambda: "refuses the login" in away.state.detail)
                await asyncio.to_thread(gc.collect)
        finally:
            gc.enable()

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        in_time(story())
    assert [str(one.message) for one in found if issubclass(one.category, RuntimeWarning)] == []


@pytest.mark.parametrize(
    ("user", "vhost", "said"),
    [
        ("nobody", "warren", "refuses the login of nobody"),
        ("administrator", "elsewhere", "the vhost elsewhere"),
    ],
)
def test_a_refused_login_is_said_without_the_password(user: str, vhost: str, said: str) -> None:
    async def story() -> None:
        broker = running_broker()
        password = broker.admin_amqp_url.split(":")[2].split("@")[0] if user == "administrator" else "S3cret"
        url = f"amqp://{user}:{password}@127.0.0.1:{broker.amqp_port}/{vhost}"
        stranger = AmqpTransport(url, "a", ["b"], options=QUICK)
        async with running(stranger, Collector()):
            await comes_true(lambda: said in stranger.state.detail)
            with pytest.raises(PublishFailed) as failed:
                await stranger.publish(control("a", "b"), b"x")
        for text in (repr(stranger), str(stranger.state), str(failed.value), repr(failed.value)):
            assert password not in text

    in_time(story())
