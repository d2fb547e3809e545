"""Two organisations with a broker each, linked by shovels over TLS; one pair per test session."""

import asyncio
import atexit
import functools
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import aio_pika

from broker.certificates import make_development
from broker.definitions import SHOVEL, SHOVEL_STATUS, PeerBroker, linked
from broker.management import Management
from broker.private import PrivateBroker
from services.daemon.local import NAMES
from tests.endurance.uplink import Uplink
from tests.parties import until
from tests.rabbitmq import tls_of, tls_url

OWN: Final = tuple(NAMES.values())
"""The two organisations; each has one party of the same name."""
OTHER: Final = dict(zip(OWN, reversed(OWN), strict=True))


@dataclass(frozen=True)
class Linked:
    """Brokers by organisation.

    `lines`: by organisation, the line on which its shovel reaches the other's broker. `files`: by organisation, its
    certificates and what the other handed to it.
    """

    brokers: dict[str, PrivateBroker]
    lines: dict[str, Uplink]
    files: dict[str, Path]

    def url(self, party: str) -> str:
        """Where a party's daemon connects: at its own broker, by certificate."""
        return tls_url(party, port=self.brokers[party].tls_port, files=self.files[party])

    def shovel_url(self, own: str) -> str:
        """Where the shovel of `own` connects, with what it was handed: at the other's broker."""
        files, other = self.files[own], OTHER[own]
        query = f"auth=EXTERNAL&cafile={files}/{other}.ca.pem&certfile={files}/{other}.pem&keyfile={files}/{other}.key"
        return f"amqps://localhost:{self.brokers[other].tls_port}/warren?{query}"

    def management(self, own: str) -> Management:
        return Management(self.brokers[own].admin_url)

    def shovel_state(self, own: str) -> str:
        """Of the shovel at the broker of `own`, in RabbitMQ's words; empty while there is none."""
        shovels = self.management(own).get("shovels")
        return "".join(shovel["state"] for shovel in shovels if shovel["name"] == f"from.{OTHER[own]}")

    def purge(self) -> None:
        """Empty every queue: what a test left behind."""
        asyncio.run(self._purge())

    async def _purge(self) -> None:
        for own in OWN:
            connection = await aio_pika.connect(self.brokers[own].admin_amqp_url)
            async with connection, connection.channel() as channel:
                for name in [queue["name"] for queue in self.management(own).get("queues", "warren")]:
                    await (await channel.get_queue(name, ensure=False)).purge()


@functools.cache
def linked_brokers() -> Linked:
    """The session's pair, started at the first call (some 12 s) and discarded when Python ends."""
    files = handed_over(OWN)
    brokers = {own: PrivateBroker(tls=tls_of(files[own]), plugins=(SHOVEL, SHOVEL_STATUS)) for own in OWN}
    lines = {own: Uplink(brokers[OTHER[own]].tls_port) for own in OWN}
    for own in OWN:
        atexit.register(lines[own].close)
        atexit.register(brokers[own].discard)
        brokers[own].start()
        peers = [PeerBroker(OTHER[own], "localhost", lines[own].port)]
        brokers[own].add(functools.partial(_document, own, peers, PurePosixPath(files[own])))
    pair = Linked(brokers, lines, files)
    for own in OWN:
        until(functools.partial(_running, pair, own), f"the shovel at the broker of {own} runs")
    return pair


def handed_over(parties: Sequence[str]) -> dict[str, Path]:
    """A directory per organisation: certificates of its own authority, and what each other one handed to it."""
    root = Path(tempfile.mkdtemp(prefix="warren-linked-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    files = {party: root / party for party in parties}
    for party in parties:
        others = [other for other in parties if other != party]
        make_development(files[party], ["localhost"], [party], peers=others)
    for party in parties:
        for other in parties:
            if other != party:
                shutil.copytree(files[other] / f"for-{party}", files[party], dirs_exist_ok=True)
    return files


def _document(own: str, peers: list[PeerBroker], certificates: PurePosixPath, version: tuple[int, int]) -> dict:
    return linked(own, peers, certificates=certificates, version=version)


def _running(pair: Linked, own: str) -> bool:
    return pair.shovel_state(own) == "running"
