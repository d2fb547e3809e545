"""A party that speaks by hand: says what no honest engine would, and hears what an engine says to it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from broker.embedded import EmbeddedBroker, EmbeddedTransport
from broker.transport import Delivery
from messages import codec, schemas
from messages.envelope import Envelope, Header, assemble, open_envelope, sign_header
from messages.identity import Identity
from messages.keys import routing_key
from messages.seal import DEFAULT_SUITE, seal, seal_info, unseal
from services.daemon.daemon import Daemon
from tests.services import house, toy


class Stranger:
    """`name` as its partner sees it; `identity` may be another one."""

    def __init__(
        self, broker: EmbeddedBroker, name: str, *, partner: str = "", identity: Identity | None = None
    ) -> None:
        self.name = name
        self.partner = partner or next(other for other in house.PARTIES if other != name)
        self.identity = identity or house.identity(name)
        self.transport = EmbeddedTransport(broker, name, [self.partner])
        self.heard: list[Envelope] = []

    async def run(self) -> None:
        await self.transport.run(self._hear)

    async def _hear(self, delivery: Delivery) -> None:
        peers = {self.partner: house.identity(self.partner).public}
        self.heard.append(open_envelope(delivery.body, me=self.name, peers=peers, bytes_max=2**21))
        await delivery.ack()

    def kinds(self) -> list[str]:
        return [envelope.header.kind for envelope in self.heard]

    def last(self, kind: str) -> schemas.Message:
        """The newest message of a kind, opened."""
        envelope = next(item for item in reversed(self.heard) if item.header.kind == kind)
        head = envelope.header
        info = seal_info(head.version, head.job, head.sender, head.recipient, head.kind, head.chunk, head.chunks)
        return codec.decode(unseal(envelope.body, self.identity, info))

    def sealed(self, job: str, message: schemas.Message) -> bytes:
        recipient = house.identity(self.partner).public
        info = seal_info(1, job, self.name, self.partner, codec.kind_of(message), 0, 1)
        return seal(codec.encode(message), recipient, info)

    def envelope(self, job: str, kind: str, body: bytes, sequence: int, **fields: Any) -> bytes:
        header = {
            "version": 1,
            "job": job,
            "sender": self.name,
            "recipient": self.partner,
            "kind": kind,
            "sequence": sequence,
            "chunk": 0,
            "chunks": 1,
            "received": 0,
            "previous": bytes(32),
            "suite": DEFAULT_SUITE,
            "body_sha256": hashlib.sha256(body).digest(),
            **fields,
        }
        signed = sign_header(Header(**header), self.identity)
        return assemble(signed.header_bytes, signed.signature, body)

    async def publish(self, job: str, kind: str, data: bytes) -> None:
        await self.transport.connected()
        await self.transport.publish(routing_key(self.name, self.partner, kind, job), data)

    async def say(self, job: str, message: schemas.Message, sequence: int, **fields: Any) -> bytes:
        """Send a control message; returns the envelope for repetition."""
        kind = codec.kind_of(message)
        data = self.envelope(job, kind, self.sealed(job, message), sequence, **fields)
        await self.publish(job, kind, data)
        return data

    async def send_bulk(self, job: str, kind: str, body: bytes, sequence: int, **fields: Any) -> bytes:
        data = self.envelope(job, kind, body, sequence, **fields)
        await self.publish(job, kind, data)
        return data

    async def __aenter__(self) -> "Stranger":
        self._task = asyncio.create_task(self.run())
        await self.transport.connected()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def propose(**fields: Any) -> schemas.JobPropose:
    """A proposal of the toy's contract."""
    return schemas.JobPropose(contract=toy.contract(**fields))


@asynccontextmanager
async def bank_and_stranger(town: house.Town, **fields: Any) -> AsyncIterator[tuple[Daemon, Stranger]]:
    """A provider's daemon, and somebody with the business's keys who speaks by hand."""
    async with house.running(town.daemon("bank", **fields)) as bank, Stranger(town.broker, "shop") as shop:
        yield bank, shop
