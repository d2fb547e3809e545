"""Parties at the session's broker that a test makes ill in one way, and what `warren doctor` says of them."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.amqp import AmqpTransport
from services.daemon.daemon import Daemon
from services.daemon.local import BUSINESS, PROVIDER
from services.daemon.party_process import run_beside
from services.daemon.serve import make_daemon
from services.doctor.checkup import examine
from services.doctor.finding import Finding, Level
from services.engine.surroundings import Surroundings
from services.party.configuration import load_party
from services.party.logs import LogBook
from tests.parties import example_tables, make_parties
from tests.rabbitmq import fresh_parties, running_broker


@dataclass
class House:
    """Two parties that know each other; `paths` and `names` by role."""

    directory: Path
    urls: Mapping[str, str] = field(default_factory=dict)
    mqtt: bool = False
    """Whether the business speaks MQTT."""

    def __post_init__(self) -> None:
        business, provider = fresh_parties("bank", "bureau", mqtt=["bank"] if self.mqtt else [])
        self.names = {BUSINESS: business, PROVIDER: provider}
        urls = {role: running_broker().amqp_url(name) for role, name in self.names.items()}
        if self.mqtt:
            urls[BUSINESS] = running_broker().mqtt_url(business)
        tables = example_tables(self.directory, 40)
        self.paths = make_parties(self.directory, tables, marks=(), names=self.names, urls={**urls, **self.urls})
        self.path = self.paths[BUSINESS]
        self.name = self.names[BUSINESS]

    def edit(self, old: str, new: str) -> None:
        """Change the business's party.toml."""
        text = self.path.read_text()
        assert old in text
        self.path.write_text(text.replace(old, new))

    def findings(self, **options: Any) -> list[Finding]:
        """What the doctor finds at the business."""
        return list(examine(self.path, **options))

    def faults(self, **options: Any) -> dict[str, Finding]:
        """By code."""
        return {item.code: item for item in self.findings(**options) if item.level is Level.FAULT}


@contextmanager
def daemon_of(path: Path, ahead_s: float = 0.0) -> Iterator[Daemon]:
    """A running daemon with its control socket, on a thread, over the broker of its file; its clock is ahead."""
    party = load_party(path)
    party.data_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    ready, ended, held = threading.Event(), threading.Event(), list[Any]()

    async def run() -> None:
        transport = AmqpTransport(party.file.broker, party.file.name, list(party.peers))
        around = Surroundings(clock=lambda: time.time() + ahead_s)
        daemon = make_daemon(party, transport, surroundings=around)
        held.extend((asyncio.get_running_loop(), daemon))
        running = asyncio.ensure_future(run_beside(party, daemon, LogBook()))
        await daemon.started()
        await transport.connected()
        while not (party.data_directory / "control.sock").exists():
            await asyncio.sleep(0.01)
        ready.set()
        await running

    def tell() -> None:
        try:
            asyncio.run(run())
        finally:
            ended.set()
            ready.set()

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    assert ready.wait(60)
    assert not ended.is_set()
    loop, daemon = held
    try:
        yield daemon
    finally:
        loop.call_soon_threadsafe(daemon.stop)
        thread.join(60)


@contextmanager
def tls_server(certificate: Path, key: Path) -> Iterator[int]:
    """Something that shakes hands with a certificate and says nothing more; gives its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                plain, _ = listener.accept()
                with plain, context.wrap_socket(plain, server_side=True) as line:
                    line.recv(1)
            except OSError:
                continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
