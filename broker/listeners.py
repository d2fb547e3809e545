"""What a broker's rabbitmq.conf says of its listeners: TLS with client certificates, and MQTT.

Source: RabbitMQ documentation, "TLS Support", "Access Control" (certificate login) and "MQTT Plugin".
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.sessions import session_settings
from broker.topology import EXCHANGE, VHOST

CERTIFICATE_LOGIN: Final = "rabbitmq_auth_mechanism_ssl"
"""The plug-in that takes the common name of a client's certificate for its user."""
MQTT: Final = "rabbitmq_mqtt"


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of a broker that takes TLS connections.

    Attributes:
        authority: certificates of those whose client certificates it takes.
        certificate: its own, with what lies between it and the authority that its clients know.
        key: the private key of `certificate`.

    """

    authority: Path
    certificate: Path
    key: Path


def tls_settings(tls: Tls) -> list[str]:
    """Lines of rabbitmq.conf: every client shows a certificate, and may log in by its common name."""
    return [
        f"ssl_options.cacertfile = {tls.authority}",
        f"ssl_options.certfile = {tls.certificate}",
        f"ssl_options.keyfile = {tls.key}",
        "ssl_options.verify = verify_peer",
        "ssl_options.fail_if_no_peer_cert = true",
        "ssl_options.versions.1 = tlsv1.3",
        "ssl_options.versions.2 = tlsv1.2",
        "ssl_cert_login_from = common_name",
        "auth_mechanisms.1 = PLAIN",
        "auth_mechanisms.2 = EXTERNAL",
    ]


def private_listeners(tls: Tls | None, tls_port: int, mqtt_ports: tuple[int, int] | None) -> list[str]:
    """Lines of rabbitmq.conf for listeners on loopback. `mqtt_ports`: without and with TLS; None: no MQTT."""
    lines = []
    if tls is not None:
        lines += [f"listeners.ssl.1 = 127.0.0.1:{tls_port}", *tls_settings(tls)]
    if mqtt_ports is not None:
        lines += session_settings(VHOST, EXCHANGE, f"127.0.0.1:{mqtt_ports[0]}")
        if tls is not None:
            lines += [f"mqtt.listeners.ssl.1 = 127.0.0.1:{mqtt_ports[1]}", "mqtt.ssl_cert_login = true"]
    return lines
