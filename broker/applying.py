"""The topology, made at a running broker by somebody who may: again and again, without harm."""

import asyncio
import ssl
from collections.abc import Callable, Collection, Mapping, Sequence
from urllib.parse import urlsplit

import aio_pika

from broker.address import in_words
from broker.connection import OwnConnection
from broker.definitions import shared
from broker.management import Management, ManagementError, make_definitions
from broker.topology import (
    DEAD_EXCHANGE,
    EXCHANGE,
    VHOST,
    Limits,
    TopologyError,
    Version,
    all_queues,
    declare,
    parse_version,
    server_version,
)


async def apply(
    url: str,
    parties: Sequence[str],
    *,
    passwords: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    ssl_context: ssl.SSLContext | None = None,
    mqtt: Collection[str] = (),
) -> list[str]:
    """Make the topology of `parties` at a running broker; doing it again changes nothing.

    Args:
        url: of an administrator. `http[s]://...` (the management API) makes everything; `amqp[s]://...` makes
            exchanges and queues only, in the vhost of the URL, and leaves users and permissions alone.
        parties: every party gets queues for every other one.
        passwords: party to password. The user of a party without one is left as it is, or made for login with
            a client certificate only.
        limits: byte limits of the queues.
        ssl_context: how to check the server; the system's authorities when not given.
        mqtt: those of `parties` that speak MQTT.

    Returns:
        one line for the operator per thing made.

    Raises:
        TopologyError: the broker refused, is not there, or has a queue of that name with other arguments.
        ValueError: a name or the URL is malformed.

    """
    if urlsplit(url).scheme in ("amqp", "amqps"):
        return await _apply_by_amqp(url, parties, limits, ssl_context, mqtt)
    return await asyncio.to_thread(
        apply_blocking, url, parties, passwords=passwords, limits=limits, ssl_context=ssl_context, mqtt=mqtt
    )


def apply_blocking(
    url: str,
    parties: Sequence[str],
    *,
    passwords: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    ssl_context: ssl.SSLContext | None = None,
    mqtt: Collection[str] = (),
) -> list[str]:
    """`apply` for a management URL, without an event loop."""
    passwords = passwords or {}

    def wanted(version: Version) -> dict[str, object]:
        return shared(parties, version=version, limits=limits, passwords=passwords, mqtt=mqtt)

    return make(url, wanted, overwrite_users=passwords, ssl_context=ssl_context)


def make(
    url: str,
    wanted: Callable[[Version], Mapping[str, object]],
    *,
    overwrite_users: Collection[str] = (),
    ssl_context: ssl.SSLContext | None = None,
) -> list[str]:
    """Make what a document of `broker.definitions` says, at the broker of a management URL; see `apply`.

    `wanted`: the document for the version of the broker. Of `overwrite_users` the password is set although they exist.
    """
    management = Management(url, ssl_context=ssl_context)
    try:
        document = wanted(parse_version(management.version()))
        return make_definitions(management, VHOST, document, overwrite_users=overwrite_users)
    except ManagementError as error:
        raise TopologyError(str(error)) from error


async def _apply_by_amqp(
    url: str,
    parties: Sequence[str],
    limits: Limits | None,
    ssl_context: ssl.SSLContext | None,
    mqtt: Collection[str],
) -> list[str]:
    try:
        connection = await aio_pika.connect(url, timeout=30, ssl_context=ssl_context, connection_class=OwnConnection)
        async with connection:
            queues = all_queues(parties, server_version(connection), limits, mqtt)
            await declare(await connection.channel(), queues)
    except (aio_pika.exceptions.AMQPError, OSError) as error:
        # Only kind and server's words: the URL holds a password.
        raise TopologyError(f"the broker refused or is not there: {in_words(error)}") from None
    return [
        f"exchanges {EXCHANGE} and {DEAD_EXCHANGE}",
        *(f"queue {queue.name}" for queue in queues),
        "users and permissions: left alone (they need the management URL)",
    ]
