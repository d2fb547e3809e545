"""One private RabbitMQ per test session, which takes TLS as well, and eyes to look into it.

Where RabbitMQ cannot be started the tests that need it fail: they are never left out.
"""

import asyncio
import atexit
import functools
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aio_pika

from broker.certificates import make_development
from broker.listeners import Tls
from broker.private import PrivateBroker
from broker.topology import EXCHANGE

DEPLOY: Final = Path(__file__).parent.parent / "deploy"
CERTIFICATE_PARTIES: Final = ("business-a", "provider-a")

_numbers = itertools.count(1)


@functools.cache
def running_broker() -> PrivateBroker:
    """The session's broker, started at the first call (some 6 s) and discarded when Python ends."""
    broker = PrivateBroker(tls=tls_of(certificates()), mqtt=())
    atexit.register(broker.discard)
    broker.start()
    return broker


def fresh_parties(*names: str, mqtt: Collection[str] = ()) -> list[str]:
    """Make parties that no other test knows, called after `names`, with queues and users at the broker.

    Those of `names` that are in `mqtt` speak MQTT.
    """
    number = next(_numbers)
    parties = [f"{name}-{number}" for name in names]
    running_broker().add_parties(parties, mqtt=[f"{name}-{number}" for name in mqtt])
    return parties


@functools.cache
def certificates() -> Path:
    """A directory with ca.pem, and <party>.pem and <party>.key for `CERTIFICATE_PARTIES`."""
    directory = Path(tempfile.mkdtemp(prefix="warren-certificates-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    make_development(directory, ["localhost"], CERTIFICATE_PARTIES)
    return directory


def tls_of(files: Path) -> Tls:
    """What a broker needs of a directory with development certificates."""
    return Tls(files / "ca.pem", files / "broker.pem", files / "broker.key")


def tls_url(party: str, *, port: int | None = None, files: Path | None = None, authority: Path | None = None) -> str:
    """Where `party` logs in with its certificate: at the session's broker, or another `port` on this machine.

    `files` has the certificate; the broker is known by `authority`, that of `files` when not given.
    """
    files = files or certificates()
    known = authority or files / "ca.pem"
    query = f"auth=EXTERNAL&cafile={known}&certfile={files}/{party}.pem&keyfile={files}/{party}.key"
    return f"amqps://localhost:{port or running_broker().tls_port}/warren?{query}"


async def ready(queue: str, broker: PrivateBroker | None = None) -> int:
    """How many messages wait in `queue`, not counting those handed over and unacknowledged."""
    connection = await aio_pika.connect((broker or running_broker()).admin_amqp_url)
    async with connection, connection.channel() as channel:
        declared = await channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0


@asynccontextmanager
async def observer(broker: PrivateBroker | None = None) -> AsyncIterator[list[tuple[str, bytes]]]:
    """Everything that is published while the context lasts, as pairs of routing key and body.

    While it lasts no message is unroutable. Transports' probes of themselves are seen too; their key ends in
    `.probe`.
    """
    seen: list[tuple[str, bytes]] = []

    async def see(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        seen.append((message.routing_key or "", message.body))

    connection = await aio_pika.connect((broker or running_broker()).admin_amqp_url)
    async with connection, connection.channel() as channel:
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(EXCHANGE, "#")
        tag = await queue.consume(see, no_ack=True)
        yield seen
        await queue.cancel(tag)
        await asyncio.sleep(0)
