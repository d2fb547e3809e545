"""Exchange, queues and permissions at RabbitMQ, derived in one place.

Everything lies in the vhost `warren`:

* the topic exchange `warren`; routing keys `from.<sender>.to.<recipient>.<control|bulk>.<job>.<kind>`;
* per pair of parties and traffic class one queue `control.<party>.<sender>` and `bulk.<party>.<sender>`, so
  that a sender of much bulk keeps nobody else from a short word;
* the exchange `warren.dead` with one queue `dead.<party>`, a safety net that stays empty;
* for a party that speaks MQTT, instead of its queues, the two sessions that RabbitMQ's plug-in keeps for it
  (`broker.sessions`): the plug-in makes them, policies limit them.

A production daemon declares nothing. `apply` does, for `warren broker apply`, or the broker itself at boot
from `definitions`.
"""

import asyncio
import re
import secrets
import ssl
from base64 import b64encode
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection

from broker.management import Management, ManagementError, make_definitions
from broker.rights import Permissions, queue_rights, session_rights
from broker.sessions import session_policies

VHOST: Final = "warren"
EXCHANGE: Final = "warren"
DEAD_EXCHANGE: Final = "warren.dead"
TRAFFIC: Final = ("control", "bulk")

Version = tuple[int, int]
NEWEST_VERSION: Final[Version] = (4, 3)

_NAME = re.compile(r"[a-z0-9-]{1,40}")


class TopologyError(Exception):
    """The topology could not be made; the text says what to do and holds no secret."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes that a queue may hold before it refuses more.

    Attributes:
        control_bytes: per queue `control.<party>.<sender>`.
        bulk_bytes: per queue `bulk.<party>.<sender>`: two windows of 16 MiB for each of 8 jobs.
        dead_bytes: per queue `dead.<party>`.

    """

    control_bytes: int = 32 * 2**20
    bulk_bytes: int = 2 * 16 * 2**20 * 8
    dead_bytes: int = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue with the bindings that feed it: pairs of exchange and pattern."""

    name: str
    arguments: Mapping[str, str | int | bool]
    bindings: tuple[tuple[str, str], ...]


def queue_name(traffic: str, party: str, sender: str) -> str:
    """The queue in which `party` finds what `sender` sent, for `traffic` "control" or "bulk"."""
    return f"{traffic}.{party}.{sender}"


def dead_queue_name(party: str) -> str:
    """The queue that holds what the broker gave up delivering to `party`."""
    return f"dead.{party}"


def probe_key(party: str, sender: str, traffic: str) -> str:
    """What `party` sends to itself through `<traffic>.<party>.<sender>`, to see that the queue delivers."""
    return f"from.{party}.to.{party}.{traffic}.{sender}.probe"


def is_probe(routing_key: str) -> bool:
    """Whether a message is a transport's question to itself and not a message of a job."""
    words = routing_key.split(".")
    return len(words) == 7 and words[1] == words[3] and words[6] == "probe"


def party_queues(party: str, peers: Iterable[str], version: Version, limits: Limits | None = None) -> list[Queue]:
    """All queues that `party` reads, for messages of `peers`, on a RabbitMQ of `version`.

    Raises:
        ValueError: a name is not `[a-z0-9-]{1,40}`.

    """
    limits = limits or Limits()
    _check_name(party)
    queues = []
    for sender in peers:
        _check_name(sender)
        for traffic, bytes_max in (("control", limits.control_bytes), ("bulk", limits.bulk_bytes)):
            bindings = (
                (EXCHANGE, f"from.{sender}.to.{party}.{traffic}.#"),
                (EXCHANGE, probe_key(party, sender, traffic)),
            )
            arguments = _party_queue_arguments(version, bytes_max)
            queues.append(Queue(queue_name(traffic, party, sender), arguments, bindings))
    dead: dict[str, str | int | bool] = {
        "x-queue-type": "quorum",
        "x-overflow": "reject-publish",
        "x-max-length-bytes": limits.dead_bytes,
    }
    queues.append(Queue(dead_queue_name(party), dead, ((DEAD_EXCHANGE, f"from.*.to.{party}.#"),)))
    return queues


def observer_queue(name: str, bytes_max: int = 256 * 2**20) -> Queue:
    """A queue that sees every message, sealed as it is. It forgets the oldest and never refuses a sender.

    Beware: with it no message is unroutable any more, so that a missing queue shows only as silence.
    """
    arguments: dict[str, str | int | bool] = {
        "x-queue-type": "quorum",
        "x-overflow": "drop-head",
        "x-max-length-bytes": bytes_max,
    }
    return Queue(f"observer.{name}", arguments, ((EXCHANGE, "#"),))


def permissions(party: str, *, mqtt: bool = False) -> Permissions:
    """What the broker user of `party` may do; see `broker.rights`. `mqtt`: it speaks that and not AMQP."""
    _check_name(party)
    return session_rights(party, EXCHANGE) if mqtt else queue_rights(party, EXCHANGE)


def all_queues(
    parties: Sequence[str], version: Version, limits: Limits | None = None, mqtt: Collection[str] = ()
) -> list[Queue]:
    """The queues of every ordered pair of `parties` whose reader is none of `mqtt`."""
    return [
        queue
        for party in parties
        if party not in mqtt
        for queue in party_queues(party, [peer for peer in parties if peer != party], version, limits)
    ]


def definitions(
    parties: Sequence[str],
    *,
    version: Version = NEWEST_VERSION,
    limits: Limits | None = None,
    passwords: Mapping[str, str] | None = None,
    administrators: Mapping[str, str] | None = None,
    mqtt: Collection[str] = (),
) -> dict[str, object]:
    """What RabbitMQ loads at boot (`load_definitions`): vhost, exchanges, queues, users and permissions.

    Args:
        parties: every party gets queues for every other one.
        version: of the server that will load it.
        limits: byte limits of the queues.
        passwords: party to password. A party without one can only log in with a client certificate whose
            common name is the party's name.
        administrators: user to password, for users with the tag `administrator` and all permissions.
        mqtt: those of `parties` that speak MQTT. They get permissions for their sessions and no queues.

    """
    passwords = passwords or {}
    administrators = administrators or {}
    queues = all_queues(parties, version, limits, mqtt)
    rights = {party: permissions(party, mqtt=party in mqtt) for party in parties}
    everything = Permissions(".*", ".*", ".*", "", "")
    users = [_user(party, passwords.get(party), "") for party in parties]
    users += [_user(name, password, "administrator") for name, password in administrators.items()]
    return {
        "vhosts": [{"name": VHOST, "metadata": {"default_queue_type": "quorum"}}],
        "users": users,
        "permissions": [
            {
                "user": user,
                "vhost": VHOST,
                "configure": right.configure,
                "write": right.write,
                "read": right.read,
            }
            for user, right in [*rights.items(), *((name, everything) for name in administrators)]
        ],
        "topic_permissions": [
            {
                "user": user,
                "vhost": VHOST,
                "exchange": EXCHANGE,
                "write": right.topic_write,
                "read": right.topic_read,
            }
            for user, right in rights.items()
        ],
        "exchanges": [
            {
                "name": name,
                "vhost": VHOST,
                "type": "topic",
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": {},
            }
            for name in (EXCHANGE, DEAD_EXCHANGE)
        ],
        "queues": [
            {
                "name": queue.name,
                "vhost": VHOST,
                "durable": True,
                "auto_delete": False,
                "arguments": dict(queue.arguments),
            }
            for queue in queues
        ],
        "bindings": [
            {
                "source": exchange,
                "vhost": VHOST,
                "destination": queue.name,
                "destination_type": "queue",
                "routing_key": pattern,
                "arguments": {},
            }
            for queue in queues
            for exchange, pattern in queue.bindings
        ],
        **({"policies": _session_policies(version, limits or Limits())} if mqtt else {}),
    }


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
    management = Management(url, ssl_context=ssl_context)
    try:
        version = parse_version(management.version())
        wanted = definitions(parties, version=version, limits=limits, passwords=passwords, mqtt=mqtt)
        return make_definitions(management, VHOST, wanted, overwrite_users=passwords)
    except ManagementError as error:
        raise TopologyError(str(error)) from error


async def declare(channel: AbstractChannel, queues: Iterable[Queue]) -> None:
    """Declare the exchanges, `queues` and their bindings; raises what aio-pika raises."""
    for name in (EXCHANGE, DEAD_EXCHANGE):
        await channel.declare_exchange(name, aio_pika.ExchangeType.TOPIC, durable=True)
    for queue in queues:
        declared = await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))
        for exchange, pattern in queue.bindings:
            await declared.bind(exchange, pattern)


def server_version(connection: AbstractConnection) -> Version:
    """The version that a server stated when the connection was opened; raises `TopologyError`."""
    properties: Mapping[str, object] = {}
    if connection.transport is not None:
        properties = connection.transport.connection.server_properties or {}
    stated = properties.get("version", "")
    return parse_version(stated.decode("ascii", "replace") if isinstance(stated, bytes) else str(stated))


def password_hash(password: str, salt: bytes) -> str:
    """RabbitMQ's salted SHA-256: base64 of the 4 bytes of salt and SHA-256(salt, password).

    Source: RabbitMQ documentation, "Credentials and Passwords", "Computing Password Hash".
    """
    if len(salt) != 4:
        raise ValueError("the salt is 4 bytes")
    return b64encode(salt + sha256(salt + password.encode()).digest()).decode()


def parse_version(text: str) -> Version:
    """Major and minor number of a server's version text such as "3.10.8".

    Raises:
        TopologyError: the text is no version.

    """
    found = re.match(r"(\d+)\.(\d+)", text)
    if not found:
        raise TopologyError(f"the broker states no version that is understood: {text[:40]!r}")
    return int(found[1]), int(found[2])


async def _apply_by_amqp(
    url: str,
    parties: Sequence[str],
    limits: Limits | None,
    ssl_context: ssl.SSLContext | None,
    mqtt: Collection[str],
) -> list[str]:
    try:
        connection = await aio_pika.connect(url, timeout=30, ssl_context=ssl_context)
        async with connection:
            queues = all_queues(parties, server_version(connection), limits, mqtt)
            await declare(await connection.channel(), queues)
    except (aio_pika.exceptions.AMQPError, OSError) as error:
        # Only kind and server's words: the URL holds a password.
        raise TopologyError(f"the broker refused or is not there: {type(error).__name__}: {error}") from None
    return [
        f"exchanges {EXCHANGE} and {DEAD_EXCHANGE}",
        *(f"queue {queue.name}" for queue in queues),
        "users and permissions: left alone (they need the management URL)",
    ]


def _party_queue_arguments(version: Version, bytes_max: int) -> dict[str, str | int | bool]:
    arguments: dict[str, str | int | bool] = {
        "x-queue-type": "quorum",
        "x-single-active-consumer": True,
        "x-overflow": "reject-publish",
        "x-max-length-bytes": bytes_max,
        "x-dead-letter-exchange": DEAD_EXCHANGE,
        "x-dead-letter-strategy": "at-least-once",
    }
    # RabbitMQ 4 gives up on a message after 20 returns unless told -1: a flapping line would lose healthy
    # ones. RabbitMQ 3 has no such limit, and 3.10 takes -1 but then loses the message at its first return.
    if version >= (4, 0):
        arguments["x-delivery-limit"] = -1
    return arguments


def _session_policies(version: Version, limits: Limits) -> list[dict[str, object]]:
    bytes_max = {"control": limits.control_bytes, "bulk": limits.bulk_bytes}
    return session_policies(VHOST, bytes_max, unlimited_returns=version >= (4, 0))


def _user(name: str, password: str | None, tags: str) -> dict[str, str]:
    # An empty hash is RabbitMQ's word for "no password will do".
    hashed = "" if password is None else password_hash(password, secrets.token_bytes(4))
    return {
        "name": name,
        "password_hash": hashed,
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": tags,
    }


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"a party's name is [a-z0-9-]{{1,40}}, not {name[:60]!r}")
