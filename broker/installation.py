"""RabbitMQ on this machine: where Debian's package puts it, how it gets there, and ports for a private node."""

import os
import secrets
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Final

# Debian's programs in /usr/sbin change to the system's user and data; these do not.
PROGRAMS: Final = Path("/usr/lib/rabbitmq/bin")

_INSTALL_HINT: Final = "install it as root with `apt-get install rabbitmq-server`, or run this as root"

# Below the range from which Linux takes the ports of outgoing connections: while the broker is down nobody
# else can get its port by chance.
_PORTS: Final = range(20_000, 32_000)


class PrivateBrokerError(Exception):
    """The private RabbitMQ cannot be had; the text names what to do."""


def ensure_installed(programs: Path = PROGRAMS) -> None:
    """Find RabbitMQ, or install Debian's package when we are root; raises `PrivateBrokerError`."""
    if (programs / "rabbitmq-server").exists():
        return
    apt_get = shutil.which("apt-get")
    if apt_get is None:
        raise PrivateBrokerError(f"RabbitMQ is not at {programs}, and this is no Debian: {_INSTALL_HINT}")
    if os.geteuid() != 0:
        raise PrivateBrokerError(f"RabbitMQ is not at {programs}: {_INSTALL_HINT}")
    # The package starts a broker open to the network; Debian's own switch forbids that while it is installed.
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        for command in (["update"], ["install", "-y", "--no-install-recommends", "rabbitmq-server"]):
            environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
            ran = subprocess.run(  # noqa: S603
                [apt_get, *command], env=environment, capture_output=True, check=False
            )
            if ran.returncode != 0:
                output = ran.stderr.decode(errors="replace")[-1000:]
                raise PrivateBrokerError(f"`apt-get {' '.join(command)}` failed; {_INSTALL_HINT}:\n{output}")
    finally:
        if ours:
            policy.unlink()


def free_ports(count: int) -> list[int]:
    """Different loopback ports that nobody listens on just now; raises `PrivateBrokerError`."""
    found: list[int] = []
    for _ in range(1000):
        port = secrets.choice(_PORTS)
        if port not in found and is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise PrivateBrokerError(f"no {count} free ports between {_PORTS.start} and {_PORTS.stop}")


def is_free(port: int) -> bool:
    """Whether nobody listens on a loopback port just now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
