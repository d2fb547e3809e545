"""Exchange, queues and permissions at RabbitMQ, derived in one place.

Everything lies in the vhost `warren`:

* the topic exchange `warren`; routing keys `from.<sender>.to.<recipient>.<control|bulk>.<job>.<kind>`;
* per pair of parties and traffic class one queue `control.<party>.<sender>` and `bulk.<party>.<sender>`, so
  that a sender of much bulk keeps nobody else from a short word;
* the exchange `warren.dead` with one queue `dead.<party>`, a safety net that stays empty;
* for a party that speaks MQTT, instead of its queues, the two sessions that RabbitMQ's plug-in keeps for it
  (`broker.sessions`): the plug-in makes them, policies limit them.

Parties share one broker, or each organisation has its own. A broker of one organisation also holds

* per peer a queue `out.<peer>`, which the peer's shovel collects as the user `shovel.<peer>`;
* per peer the user `deliver.<peer>`, as which our own shovel publishes what it collected from the peer's broker.

`broker.definitions` has what RabbitMQ loads at boot, `broker.applying` makes it at a running one. A production
daemon declares nothing.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection

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
    check_name(party)
    queues = []
    for sender in peers:
        check_name(sender)
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


def permissions(party: str, *, mqtt: bool = False, beside_sessions: bool = False) -> Permissions:
    """What the broker user of `party` may do; see `broker.rights`. `mqtt`: it speaks that and not AMQP."""
    check_name(party)
    return session_rights(party, EXCHANGE) if mqtt else queue_rights(party, EXCHANGE, beside_sessions=beside_sessions)


def out_queue_name(peer: str) -> str:
    """At a broker of one organisation, the queue of all that it sends to `peer`."""
    return f"out.{peer}"


def shovel_user(peer: str) -> str:
    """The user of the peer's shovel at our broker. No party's name has a dot."""
    return f"shovel.{peer}"


def delivery_user(peer: str) -> str:
    """The user as which our own shovel publishes what came from the peer's broker."""
    return f"deliver.{peer}"


def linked_queues(own: str, peers: Sequence[str], version: Version, limits: Limits | None = None) -> list[Queue]:
    """All queues at the broker of `own` alone: those that it reads, and one per peer to be collected."""
    limits = limits or Limits()
    arguments = _party_queue_arguments(version, limits.control_bytes + limits.bulk_bytes)
    *read, dead = party_queues(own, peers, version, limits)
    out = [Queue(out_queue_name(peer), arguments, ((EXCHANGE, f"from.{own}.to.{peer}.#"),)) for peer in peers]
    ours = (DEAD_EXCHANGE, f"from.{own}.to.#")
    return [*read, Queue(dead.name, dead.arguments, (*dead.bindings, ours)), *out]


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


def parse_version(text: str) -> Version:
    """Major and minor number of a server's version text such as "3.10.8".

    Raises:
        TopologyError: the text is no version.

    """
    found = re.match(r"(\d+)\.(\d+)", text)
    if not found:
        raise TopologyError(f"the broker states no version that is understood: {text[:40]!r}")
    return int(found[1]), int(found[2])


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


def limits_of_sessions(limits: Limits) -> list[dict[str, object]]:
    """The policies that limit MQTT sessions as queues are limited."""
    return session_policies(VHOST, {"control": limits.control_bytes, "bulk": limits.bulk_bytes})


def check_name(name: str) -> None:
    """Raises ValueError for what cannot be a party's name."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"a party's name is [a-z0-9-]{{1,40}}, not {name[:60]!r}")
