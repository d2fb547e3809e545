"""What the broker user of a party may do, for the two protocols a party may speak, and of shovels between brokers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a party's broker user may do, as RabbitMQ's regular expressions.

    `topic_write` and `topic_read` limit the routing keys on the exchange of all messages. A user without topic
    permission would be free there, so both are always set.
    """

    configure: str
    write: str
    read: str
    topic_write: str
    topic_read: str


def queue_rights(party: str, exchange: str, *, beside_sessions: bool = False) -> Permissions:
    """Of a party that speaks AMQP: send in its own name, read its own queues, declare nothing.

    `beside_sessions`: others speak MQTT. RabbitMQ's plug-in can neither hand over a message whose key is no text
    nor forget it, and after ten of them a session stands still; so only keys of the protocol's letters are taken.
    """
    return Permissions(
        configure="^$",
        write=f"^{exchange}$",
        read=rf"^((control|bulk)\.{party}\.[a-z0-9-]+|dead\.{party})$",
        topic_write=_own_plain_keys(party) if beside_sessions else _own_keys(party),
        topic_read="^$",
    )


def session_rights(party: str, exchange: str) -> Permissions:
    """Of a party that speaks MQTT: send in its own name, and make, bind and read its own sessions.

    RabbitMQ's plug-in acts with the user's permissions: it declares the session's queue (configure), binds it
    (write on the queue, read on the exchange, topic read for the pattern) and consumes (read). The topic
    permission is for the two patterns themselves, so that no wider subscription is possible.
    """
    # Also those of lines that only send, whose queues the plug-in wants to delete at each connection, and the doctor's.
    session = rf"mqtt-subscription-warren\.{party}\.((control|bulk)(\.out)?|status\.out|probe)qos[01]"
    return Permissions(
        configure=f"^{session}$",
        write=f"^({exchange}|{session})$",
        read=f"^({exchange}|{session})$",
        topic_write=_own_plain_keys(party),
        topic_read=rf"^from\.\*\.to\.{party}\.(control|bulk)\.#$",
    )


def shovel_rights(peer: str) -> Permissions:
    """Of the peer's shovel at our broker: read the one queue of what we send it."""
    return Permissions(configure="^$", write="^$", read=rf"^out\.{peer}$", topic_write="^$", topic_read="^$")


def delivery_rights(own: str, peer: str, exchange: str) -> Permissions:
    """Of our shovel with what came from the peer's broker: hand it to us, in the peer's name alone."""
    return Permissions(
        configure="^$",
        write=f"^{exchange}$",
        read="^$",
        topic_write=rf"^from\.{peer}\.to\.{own}\.",
        topic_read="^$",
    )


def watcher_rights(user: str, exchange: str) -> Permissions:
    """Of somebody who looks at the status of jobs, over AMQP or MQTT, and can neither send nor see anything else."""
    own = rf"(mqtt-subscription-)?warren-watch\.{user}\.[a-z0-9]+(qos[01])?"
    return Permissions(
        configure=f"^{own}$",
        write=f"^{own}$",
        read=f"^({exchange}|{own})$",
        topic_write="^$",
        topic_read=r"^status\.#$",
    )


def _own_keys(party: str) -> str:
    return rf"^(from\.{party}\.to\..*|status\.{party}\..*)$"


def _own_plain_keys(party: str) -> str:
    return rf"^(from\.{party}\.to|status\.{party})\.[a-z0-9.-]+$"
