"""Which transport a broker's URL asks for."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from broker.amqp import AmqpTransport
from broker.mqtt import MqttTransport
from broker.transport import Transport


def transport_at(url: str, party: str, peers: Sequence[str], *, declare: bool = False) -> Transport:
    """The transport of `party` at the broker of `url`: AMQP for `amqp[s]://`, MQTT for `mqtt[s]://`.

    Args:
        url: with user and password, or the files of a client certificate.
        party: whose messages are read.
        peers: whose messages are read.
        declare: make the exchanges and queues that are read; over MQTT the broker always makes its sessions itself.

    Raises:
        ValueError: the URL is malformed, or goes without TLS to another machine.

    """
    if urlsplit(url).scheme in ("mqtt", "mqtts"):
        return MqttTransport(url, party)
    return AmqpTransport(url, party, peers, declare=declare)
