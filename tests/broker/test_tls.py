"""TLS at a real broker: who gets in, and the sentence that each refusal gives the operator."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ChannelAccessRefused

from broker import applying
from broker.amqp import AmqpOptions, AmqpTransport
from broker.certificates import Authority, make_development
from broker.definitions import shared
from broker.management import Management
from tests.broker.collector import Collector
from tests.broker.stories import comes_true, control, in_time, running
from tests.rabbitmq import CERTIFICATE_PARTIES, certificates, fresh_parties, running_broker, tls_url

OWN, PEER = CERTIFICATE_PARTIES
QUICK = AmqpOptions(backoff_min_s=0.05, backoff_max_s=0.2)
NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def parties() -> None:
    asyncio.run(applying.apply(running_broker().admin_url, CERTIFICATE_PARTIES))


def of_the_same_authority(directory: Path, *names: str, days: int = 100, now: datetime = NOW) -> Path:
    """Certificates that the broker's authority signed."""
    directory.mkdir()
    for name in ("ca.pem", "ca.key"):
        shutil.copy(certificates() / name, directory)
    make_development(directory, ["localhost"], names, days=days, now=now)
    return directory


@asynccontextmanager
async def somebody(files: Path) -> AsyncIterator[int]:
    """A TLS server on this machine with the broker's certificate of `files`; gives its port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files / "broker.pem", files / "broker.key")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def says(url: str, *words: str) -> str:
    """What a daemon's transport says that cannot connect: a sentence with all of `words`."""
    transport = AmqpTransport(url, OWN, [PEER], options=QUICK)
    async with running(transport, Collector()):
        await comes_true(lambda: all(word in transport.state.detail for word in words))
        assert not transport.state.up
        return transport.state.detail


def test_a_broker_of_another_authority_is_not_believed_and_the_file_is_named(tmp_path: Path) -> None:
    make_development(tmp_path, ["localhost"], [OWN])
    known = tmp_path / "ca.pem"
    in_time(says(tls_url(OWN, authority=known), "is not signed by an authority in", str(known)))


def test_a_party_of_another_authority_does_not_get_in_and_reads_why(tmp_path: Path) -> None:
    make_development(tmp_path, ["localhost"], [OWN])
    url = tls_url(OWN, files=tmp_path, authority=certificates() / "ca.pem")
    in_time(says(url, "must hold the authority that signed", f"{tmp_path}/{OWN}.pem"))


def test_an_expired_certificate_of_the_party_is_named_with_its_day(tmp_path: Path) -> None:
    files = of_the_same_authority(tmp_path / "old", OWN, days=1, now=NOW - timedelta(days=10))
    day = f"{NOW - timedelta(days=9):%Y-%m-%d}"
    in_time(says(tls_url(OWN, files=files), f"{files}/{OWN}.pem has expired on {day}: have it renewed"))


def test_a_certificate_of_the_future_asks_for_the_clock(tmp_path: Path) -> None:
    files = of_the_same_authority(tmp_path / "new", OWN, now=NOW + timedelta(days=10))
    in_time(says(tls_url(OWN, files=files), "UTC only: is the clock of this machine right?"))


def test_an_expired_certificate_of_the_broker_is_the_brokers_affair(tmp_path: Path) -> None:
    files = of_the_same_authority(tmp_path / "old", OWN, days=1, now=NOW - timedelta(days=10))

    async def story() -> None:
        async with somebody(files) as port:
            await says(tls_url(OWN, port=port), "the certificate of the broker at localhost", "has expired")

    in_time(story())


def test_a_broker_that_is_reached_under_a_name_not_in_its_certificate_is_not_believed(tmp_path: Path) -> None:
    certificate, key = Authority.load(certificates()).issue("elsewhere", NOW, 100, ["elsewhere.example"])
    (tmp_path / "broker.pem").write_bytes(certificate)
    (tmp_path / "broker.key").write_bytes(key)

    async def story() -> None:
        async with somebody(tmp_path) as port:
            await says(tls_url(OWN, port=port), "is for another host", "localhost")

    in_time(story())


def test_a_certificate_whose_name_is_no_user_is_told_apart_from_a_wrong_password(tmp_path: Path) -> None:
    files = of_the_same_authority(tmp_path / "stranger", "stranger")
    in_time(says(tls_url("stranger", files=files), "refuses the login", "of stranger: no user has that name there"))


def test_a_wrong_vhost_is_named() -> None:
    url = tls_url(OWN).replace("/warren?", "/elsewhere?")
    in_time(says(url, f"refuses {OWN} the vhost elsewhere: run `warren broker apply`"))


def test_a_broker_that_wants_a_certificate_says_so_to_a_party_with_a_password() -> None:
    url = f"amqps://{OWN}:S3cret@localhost:{running_broker().tls_port}/warren?cafile={certificates()}/ca.pem"

    async def story() -> None:
        assert "S3cret" not in await says(url, "wants a")

    in_time(story())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ((".pem&keyfile", ".pem.gone&keyfile"), "(certfile in the broker's URL) is not there"),
        (("ca.pem", "none.pem"), "(cafile in the broker's URL) is not there"),
        ((f"{OWN}.key", f"{PEER}.key"), f"{PEER}.key is not the one of the certificate"),
        ((f"{OWN}.key", "ca.pem"), "holds no private key"),
    ],
)
def test_files_that_do_not_fit_are_named(changed: tuple[str, str], said: str) -> None:
    in_time(says(tls_url(OWN).replace(*changed), said))


def test_a_port_without_tls_is_told_from_a_broker_that_is_away() -> None:
    in_time(says(tls_url(OWN, port=running_broker().amqp_port), "nobody speaks TLS"))
    plain = f"amqp://{OWN}:x@127.0.0.1:{running_broker().tls_port}/warren"
    in_time(says(plain, "if it takes TLS only, the URL begins amqps://"))


def test_a_party_that_may_not_write_in_its_own_name_is_told_before_any_job_waits_for_ever() -> None:
    a, b = fresh_parties("a", "b")
    management = Management(running_broker().admin_url)
    (right,) = [right for right in shared([a, b])["topic_permissions"] if right["user"] == a]
    path = ("topic-permissions", "warren", a)

    async def story() -> None:
        management.put(*path, body={"exchange": "warren", "write": "^$", "read": "^$"})
        transport = AmqpTransport(running_broker().amqp_url(a), a, [b], options=QUICK)
        async with running(transport, Collector()):
            await comes_true(lambda: f"may not write in the name of {a} (topic permission)" in transport.state.detail)
            assert not transport.state.up
            management.put(*path, body={key: right[key] for key in ("exchange", "write", "read")})
            await transport.connected()

    in_time(story())


def test_a_party_with_its_certificate_can_neither_hear_the_other_nor_speak_in_its_name_nor_configure() -> None:
    async def hear(channel: AbstractChannel, queue: str) -> None:
        await (await channel.get_queue(queue, ensure=False)).consume(print)

    async def speak(channel: AbstractChannel, exchange: str, key: str) -> None:
        target = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
        await target.publish(aio_pika.Message(b"x"), key)

    async def bind(channel: AbstractChannel) -> None:
        await (await channel.get_queue(f"control.{OWN}.{PEER}", ensure=False)).bind("warren", "#")

    async def delete(channel: AbstractChannel) -> None:
        await channel.queue_delete(f"control.{OWN}.{PEER}")

    async def declare(channel: AbstractChannel) -> None:
        await channel.declare_queue("ears", durable=True)

    attempts: list[Callable[[AbstractChannel], Awaitable[None]]] = [bind, delete, declare]
    for queue in (f"control.{PEER}.{OWN}", f"bulk.{PEER}.{OWN}", f"dead.{PEER}"):
        attempts.append(partial(hear, queue=queue))
    for exchange, key in (
        ("warren", control(PEER, OWN)),
        ("warren", f"status.{PEER}.job"),
        ("warren.dead", control(PEER, OWN)),
        ("", f"control.{PEER}.{OWN}"),
    ):
        attempts.append(partial(speak, exchange=exchange, key=key))

    async def story() -> None:
        connection = await aio_pika.connect(tls_url(OWN))
        async with connection:
            for attempt in attempts:
                with pytest.raises(ChannelAccessRefused):
                    await attempt(await connection.channel())
            # What it is there for goes on.
            await speak(await connection.channel(), "warren", control(OWN, PEER))

    in_time(story())


def test_a_renewed_certificate_is_taken_at_the_next_connection_without_a_restart(tmp_path: Path) -> None:
    files = of_the_same_authority(tmp_path / "party", OWN, days=1, now=NOW - timedelta(days=10))

    async def story() -> None:
        transport = AmqpTransport(tls_url(OWN, files=files), OWN, [PEER], options=QUICK)
        async with running(transport, Collector()):
            await comes_true(lambda: "has expired" in transport.state.detail)
            make_development(files, ["localhost"], [OWN], renew=True)
            await transport.connected()

    in_time(story())
