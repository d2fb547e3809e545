"""Where a party lets its own people's browsers and monitors in: `host:port`, on loopback unless said otherwise."""

import ipaddress
from typing import NamedTuple


class Address(NamedTuple):
    """Where something listens. `host` is an IP address without brackets."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def shown(self) -> str:
        """As it stands in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address_of(text: str) -> Address:
    """Read `127.0.0.1:8700`, `[::1]:8700` or `localhost:8700`. Raises ValueError saying what is needed."""
    host, _, port = text.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
        number = int(port) if port.isascii() and port.isdecimal() else 0
    except ValueError:
        number = 0
    if not 1 <= number <= 65_535:
        raise ValueError("an IP address and a port are needed, as in 127.0.0.1:8700")
    return Address(host, number)
