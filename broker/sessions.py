"""The sessions that RabbitMQ's MQTT plug-in keeps for a party that cannot speak AMQP.

The plug-in names, makes and binds the queue of a session when its client subscribes. What this module says are
the names that follow from that, and the limits, which an MQTT client cannot set itself.
"""

from typing import Final

APPLY_HINT: Final = "run `warren broker apply --mqtt PARTY`"
PREFIX: Final = "mqtt-subscription-"


def session_name(party: str, traffic: str) -> str:
    """The client identifier under which `party` reads `traffic`. Dots, as no party's name has one."""
    return f"warren.{party}.{traffic}"


def session_queue_name(party: str, traffic: str) -> str:
    """The queue that the plug-in keeps for a session of `session_name` that subscribed with QoS 1."""
    return f"{PREFIX}{session_name(party, traffic)}qos1"


def session_filter(party: str, traffic: str) -> str:
    """The MQTT topics to which a party subscribes: what anybody sends it, and its own probe."""
    return f"from/+/to/{party}/{traffic}/#"


def routing_key_of(topic: bytes) -> str:
    """The routing key of a message that came with `topic`.

    The plug-in hands over whatever words an AMQP publisher wrote. What is no UTF-8 is read with its bytes written
    out, for the checks above to refuse: raising here would leave it unacknowledged at the head of the session.
    """
    return topic.decode("utf-8", "backslashreplace").replace("/", ".")


def session_policies(vhost: str, bytes_max: dict[str, int]) -> list[dict[str, object]]:
    """A policy per traffic class, as RabbitMQ's definitions have them.

    Nothing but what quorum queues and classic ones both know: RabbitMQ 3.10 makes sessions in this vhost as the former,
    4.3 as the latter, and applies no policy with a word that its queue does not know.

    Args:
        vhost: where the sessions are.
        bytes_max: per traffic class, what a session may hold before it refuses more, as other queues do.

    """
    return [
        {
            "name": f"sessions-{traffic}",
            "vhost": vhost,
            "pattern": rf"^{PREFIX}warren\.[a-z0-9-]+\.{traffic}qos1$",
            "apply-to": "queues",
            "priority": 0,
            "definition": {"max-length-bytes": most, "overflow": "reject-publish"},
        }
        for traffic, most in bytes_max.items()
    ]


def session_settings(vhost: str, exchange: str, listener: str) -> list[str]:
    """Lines of rabbitmq.conf that bring MQTT clients at `listener` to where everybody else is."""
    return [
        f"mqtt.listeners.tcp.1 = {listener}",
        f"mqtt.vhost = {vhost}",
        f"mqtt.exchange = {exchange}",
        "mqtt.allow_anonymous = false",
    ]
