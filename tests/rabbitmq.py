"""One private RabbitMQ per test session, with the TLS settings of `deploy/`, and eyes to look into it.

Where RabbitMQ cannot be started the tests that need it fail: they are never left out.
"""

import asyncio
import atexit
import functools
import itertools
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aio_pika

from broker.private import PrivateBroker, free_ports
from broker.topology import EXCHANGE

DEPLOY: Final = Path(__file__).parent.parent / "deploy"
CERTIFICATE_PARTIES: Final = ("business-a", "provider-a")

_numbers = itertools.count(1)


@functools.cache
def running_broker() -> PrivateBroker:
    """The session's broker, started at the first call (some 6 s) and discarded when Python ends."""
    broker = PrivateBroker(config=_deployed_settings(), plugins=("rabbitmq_auth_mechanism_ssl",))
    atexit.register(broker.discard)
    broker.start()
    return broker


def fresh_parties(*names: str) -> list[str]:
    """Make parties that no other test knows, called after `names`, with queues and users at the broker."""
    number = next(_numbers)
    parties = [f"{name}-{number}" for name in names]
    running_broker().add_parties(parties)
    return parties


@functools.cache
def certificates() -> Path:
    """A directory with ca.pem, and <party>.pem and <party>.key for `CERTIFICATE_PARTIES`."""
    directory = Path(tempfile.mkdtemp(prefix="warren-certificates-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    command = [str(DEPLOY / "certificates.sh"), str(directory), "localhost", *CERTIFICATE_PARTIES]
    subprocess.run(command, check=True, capture_output=True)
    return directory


@functools.cache
def tls_port() -> int:
    """Where the session's broker takes TLS connections."""
    return free_ports(1)[0]


def tls_url(party: str) -> str:
    """Where `party` logs in with its certificate."""
    files = certificates()
    query = f"auth=EXTERNAL&cafile={files}/ca.pem&certfile={files}/{party}.pem&keyfile={files}/{party}.key"
    return f"amqps://localhost:{tls_port()}/warren?{query}"


def _deployed_settings() -> str:
    """The lines of deploy/rabbitmq.conf that are not about names, ports and paths of a container."""
    replaced = ("cluster_name", "load_definitions", "listeners")
    lines = (DEPLOY / "rabbitmq.conf").read_text().splitlines()
    kept = [line for line in lines if not line.startswith(replaced)]
    text = "\n".join(kept).replace("/run/secrets", str(certificates()))
    return f"{text}\nlisteners.ssl.1 = 127.0.0.1:{tls_port()}\n"


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
