"""The documents that RabbitMQ loads at boot (`load_definitions`), for both shapes.

A *shared* broker is reached by all parties. *Linked* brokers belong to one organisation each: the shovel at ours
collects from the peer's queue `out.<us>` and publishes at our exchange, where the queues of our daemon take it.
"""

import secrets
from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import urlencode

from broker.rights import Permissions, delivery_rights, shovel_rights, watcher_rights
from broker.topology import (
    DEAD_EXCHANGE,
    EXCHANGE,
    NEWEST_VERSION,
    VHOST,
    Limits,
    Queue,
    Version,
    all_queues,
    check_name,
    delivery_user,
    limits_of_sessions,
    linked_queues,
    out_queue_name,
    permissions,
    shovel_user,
)

SHOVEL: Final = "rabbitmq_shovel"
"""The plug-in that linked brokers need."""
SHOVEL_STATUS: Final = "rabbitmq_shovel_management"
"""The plug-in that shows at the management URL whether links run."""
COLLECTED_AT_ONCE: Final = 32
"""Messages that a shovel may hold unconfirmed: a little over as many MiB, and as many duplicates after a cut."""
HEARTBEAT_S: Final = 10
RECONNECT_S: Final = 1


@dataclass(frozen=True, slots=True)
class PeerBroker:
    """The broker of a peer, from which ours collects.

    Attributes:
        party: the peer's name.
        host: as in the certificate of its broker.
        port: of its TLS listener.

    """

    party: str
    host: str
    port: int = 5671


def shared(
    parties: Sequence[str],
    *,
    version: Version = NEWEST_VERSION,
    limits: Limits | None = None,
    passwords: Mapping[str, str] | None = None,
    administrators: Mapping[str, str] | None = None,
    mqtt: Collection[str] = (),
) -> dict[str, object]:
    """One broker for all: vhost, exchanges, queues, users and permissions.

    Args:
        parties: every party gets queues for every other one.
        version: of the server that will load it.
        limits: byte limits of the queues.
        passwords: party to password. A party without one can only log in with a client certificate whose
            common name is the party's name.
        administrators: user to password, for users with the tag `administrator` and all permissions.
        mqtt: those of `parties` that speak MQTT. They get permissions for their sessions and no queues.

    Raises:
        ValueError: a name is not `[a-z0-9-]{1,40}`.

    """
    rights = {party: permissions(party, mqtt=party in mqtt, beside_sessions=bool(mqtt)) for party in parties}
    queues = all_queues(parties, version, limits, mqtt)
    document = _document(queues, rights, passwords or {}, administrators or {})
    return document | ({"policies": limits_of_sessions(limits or Limits())} if mqtt else {})


def linked(
    own: str,
    peers: Sequence[PeerBroker],
    *,
    certificates: PurePosixPath,
    version: Version = NEWEST_VERSION,
    limits: Limits | None = None,
    passwords: Mapping[str, str] | None = None,
    administrators: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """The broker of one organisation: what its daemon needs, a queue and a user per peer, and shovels.

    The user `deliver.<peer>` can log in from nowhere: it has no password, and nobody signs a certificate with its
    name. The shovel acts as that user inside the broker, so that what the peer's broker hands over is bound by
    the topic permission, whatever its routing key.

    Args:
        own: the organisation's party.
        peers: their brokers.
        certificates: the directory at the broker's machine with `<peer>.ca.pem`, `<peer>.pem` and `<peer>.key`, which
            the peer made for us.
        version: see `shared`.
        limits: see `shared`.
        passwords: see `shared`; of the own party.
        administrators: see `shared`.

    Raises:
        ValueError: a name is not `[a-z0-9-]{1,40}`, or comes twice.

    """
    names = [peer.party for peer in peers]
    if len({own, *names}) <= len(names):
        raise ValueError("a party is named twice: give each peer once, and the own party not among them")
    rights = {own: permissions(own)}
    for name in names:
        check_name(name)
        rights[shovel_user(name)] = shovel_rights(name)
        rights[delivery_user(name)] = delivery_rights(own, name, EXCHANGE)
    document = _document(linked_queues(own, names, version, limits), rights, passwords or {}, administrators or {})
    return document | {"parameters": [_shovel(own, peer, certificates) for peer in peers]}


def watcher(name: str, password: str | None) -> dict[str, object]:
    """A user who reads the status of jobs and may nothing else, at a broker of either shape.

    Args:
        name: of the user; no party's.
        password: None for a login with a client certificate alone.

    Raises:
        ValueError: the name is not `[a-z0-9-]{1,40}`.

    """
    check_name(name)
    passwords = {} if password is None else {name: password}
    return _document([], {name: watcher_rights(name, EXCHANGE)}, passwords, {})


def peer_broker(text: str) -> PeerBroker:
    """`PARTY=HOST` or `PARTY=HOST:PORT`; raises ValueError naming what is wrong."""
    party, _, place = text.partition("=")
    host, _, port = place.rpartition(":") if ":" in place else (place, "", "5671")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536 or set(host) & set("/@?#[] "):
        raise ValueError(f"{text[:100]!r} is not PARTY=HOST or PARTY=HOST:PORT")
    check_name(party)
    return PeerBroker(party, host, int(port))


def _document(
    queues: Sequence[Queue],
    rights: Mapping[str, Permissions],
    passwords: Mapping[str, str],
    administrators: Mapping[str, str],
) -> dict[str, object]:
    everything = Permissions(".*", ".*", ".*", "", "")
    users = [_user(name, passwords.get(name), "") for name in rights]
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
    }


def _shovel(own: str, peer: PeerBroker, certificates: PurePosixPath) -> dict[str, object]:
    """Collects at the peer's broker and publishes here; what is not confirmed here stays there.

    Source: RabbitMQ documentation, "Configuring Dynamic Shovels" and "URI Query Parameters".
    """
    query = {
        "cacertfile": str(certificates / f"{peer.party}.ca.pem"),
        "certfile": str(certificates / f"{peer.party}.pem"),
        "keyfile": str(certificates / f"{peer.party}.key"),
        "verify": "verify_peer",
        "server_name_indication": peer.host,
        "auth_mechanism": "external",
        "heartbeat": str(HEARTBEAT_S),
    }
    value = {
        "src-protocol": "amqp091",
        "src-uri": f"amqps://{peer.host}:{peer.port}/{VHOST}?{urlencode(query, safe='/')}",
        "src-queue": out_queue_name(own),
        "src-prefetch-count": COLLECTED_AT_ONCE,
        "src-delete-after": "never",
        "dest-protocol": "amqp091",
        # Without a host: within the broker. Without a user it would act as one who may do everything.
        "dest-uri": f"amqp://{delivery_user(peer.party)}@/{VHOST}",
        "dest-exchange": EXCHANGE,
        # Anything else loses messages when a line or a broker goes down.
        "ack-mode": "on-confirm",
        "reconnect-delay": RECONNECT_S,
    }
    return {"component": "shovel", "vhost": VHOST, "name": f"from.{peer.party}", "value": value}


def password_hash(password: str, salt: bytes) -> str:
    """RabbitMQ's salted SHA-256: base64 of the 4 bytes of salt and SHA-256(salt, password).

    Source: RabbitMQ documentation, "Credentials and Passwords", "Computing Password Hash".
    """
    if len(salt) != 4:
        raise ValueError("the salt is 4 bytes")
    return b64encode(salt + sha256(salt + password.encode()).digest()).decode()


def _user(name: str, password: str | None, tags: str) -> dict[str, str]:
    # An empty hash is RabbitMQ's word for "no password will do".
    hashed = "" if password is None else password_hash(password, secrets.token_bytes(4))
    return {
        "name": name,
        "password_hash": hashed,
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": tags,
    }
