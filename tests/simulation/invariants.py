"""What must hold at every step of a simulation, whatever happens; checked from outside the parties."""

import asyncio
import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import Connection, text

from broker.transport import Delivery
from messages import codec, schemas
from messages.envelope import Envelope, EnvelopeError, open_envelope, read_header
from messages.identity import Identity
from messages.schemas import BULK
from messages.seal import seal_info, unseal
from messages.unsequenced import UNSEQUENCED
from paillier.backend import Owner
from paillier.vector import CipherVector
from protocol.effects import STATE_BYTES_MAX
from services.engine.jobs import Status
from services.store import chain
from services.store.limits import CREDIT_WINDOW, HOLD_AHEAD

BROKEN_MAX: Final = 10
ARCHIVED: Final = Status.ARCHIVED.value

_EVENTS: Final = (
    "SELECT position, kind, header, signature, salt, event, head FROM events WHERE job = ? AND position > ? "
    "ORDER BY position"
)
_JOB: Final = "SELECT length, head, length(state), status FROM jobs WHERE job = ?"
_LINES: Final = "SELECT partner, applied, sent, receipted, bulk_received, bulk_consumed FROM lines WHERE job = ?"
_ROWS: Final = "SELECT " + " + ".join(
    f"(SELECT count(*) FROM {table} WHERE job = :job)"
    for table in ("events", "purged", "inbox", "held", "outbox", "tasks", "blobs", "contracts", "counters", "progress")
)
_HELD: Final = "SELECT count(*) FROM held WHERE job = ? AND sender = ?"


Spoken = dict[str, list[tuple[int, int, bytes]]]
"""By partner and kind, in the order of their sequences: chunk, of how many, and the plaintext of a control message.

Sequences count all kinds together, and there timing shows: control waits for no credit, and of two streams that run
at the same time either may be ahead. Within a kind nothing may differ.
"""


@dataclass
class _SeenLine:
    """What a party's committed journal said last of one partner, and what it gave to the broker for it."""

    applied: int = 0
    answers: int = 0
    sent: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    bodies: dict[int, Envelope] = field(default_factory=dict)
    published_at: dict[int, int] = field(default_factory=dict)


@dataclass
class _Seen:
    """What a party's committed journal said last."""

    lines: dict[str, _SeenLine]
    position: int = 0
    head: bytes = b""
    over: bool = False
    archived: bool = False
    sent_kinds: Spoken = field(default_factory=dict)
    received_kinds: Spoken = field(default_factory=dict)


class Watcher:
    """Collects what is broken; never raises into the parties that it watches.

    `grants`: the kinds that each party may see.
    """

    def __init__(self, identities: Mapping[str, Identity], job: str, grants: Mapping[str, Collection[str]]) -> None:
        self._identities = identities
        self._peers = {name: identity.public for name, identity in identities.items()}
        self._job = job
        self._grants = grants
        self._seen = {
            name: _Seen({other: _SeenLine() for other in identities if other != name}, head=chain.genesis(job, name))
            for name in identities
        }
        self._news = asyncio.Event()
        self._trace = hashlib.sha256()
        self._known: dict[bytes, Envelope | None] = {}
        self._said: dict[tuple[str, bytes], None] = {}
        self._repeating = False
        self.kinds: set[str] = set()
        self.broken: list[str] = []

    def broke(self, what: str) -> None:
        """Note a broken invariant."""
        if len(self.broken) < BROKEN_MAX:
            self.broken.append(what)
            self._news.set()

    def check(self, holds: bool, what: str) -> None:
        """Note `what` unless it holds."""
        if not holds:
            self.broke(what)

    # -- the journals -----------------------------------------------------------------------------------------

    def committed(self, party: str, connection: Connection) -> None:
        """Look at a party's journal after a commit."""
        seen = self._seen[party]
        job = connection.exec_driver_sql(_JOB, (self._job,)).first()
        if job is None:
            self.check(seen.position == 0, f"{party} has forgotten its job")
            return
        self.check(job.length >= seen.position, f"{party}'s chain became shorter")
        for row in connection.exec_driver_sql(_EVENTS, (self._job, seen.position)):
            self._entry(party, seen, row)
        self.check((job.length, job.head) == (seen.position, seen.head), f"{party}'s row and chain differ")
        for row in connection.exec_driver_sql(_LINES, (self._job,)):
            self._line(party, seen.lines[row.partner], row, connection)
        if job.status != "running" and not seen.over:
            seen.over = True
            self._news.set()
        self.check(job[2] <= STATE_BYTES_MAX, f"{party}'s state has {job[2]} bytes")
        if seen.archived or job.status == ARCHIVED:
            self._name_alone(party, seen, job.status, connection)

    def _name_alone(self, party: str, seen: _Seen, status: str, connection: Connection) -> None:
        """Of an archived job nothing but its name is left, now and for ever, whatever is said of it."""
        seen.archived = True
        self.check(status == ARCHIVED, f"{party}'s archived job is {status} again")
        rows = connection.execute(text(_ROWS), {"job": self._job}).scalar()
        self.check(rows == 0, f"{party} has {rows} rows of a job that it has archived")

    def archived(self, party: str) -> bool:
        """Whether a party's journal has nothing but the name of its job."""
        return self._seen[party].archived

    def said_again(self) -> list[tuple[str, bytes]]:
        """Everything that was ever published with a sequence, which from now on nobody but the broker repeats."""
        self._repeating = True
        return list(self._said)

    def _line(self, party: str, line: _SeenLine, row: Any, connection: Connection) -> None:
        partner = row.partner
        if self._seen[party].archived and row.applied > line.applied:
            # Of an archived job late messages are counted, and have no entry.
            said = len(self._seen[partner].lines[party].sent)
            self.check(row.applied <= said, f"{party} counts {row.applied} applied of {partner}, which sent {said}")
            line.applied = row.applied
        self.check(
            row.applied == line.applied, f"{party} counts {row.applied} applied of {partner}, its chain {line.applied}"
        )
        self.check(
            row.sent == len(line.sent), f"{party} counts {row.sent} sent to {partner}, its chain {len(line.sent)}"
        )
        applied = self._seen[partner].lines[party].applied
        self.check(row.receipted <= applied, f"{party} has a receipt for {row.receipted}, {partner} applied {applied}")
        window = row.bulk_received - row.bulk_consumed
        self.check(0 <= window <= CREDIT_WINDOW, f"{party} holds {window} chunks of {partner} unconsumed")
        waiting = connection.exec_driver_sql(_HELD, (self._job, partner)).scalar()
        self.check((waiting or 0) <= HOLD_AHEAD, f"{party} holds {waiting} messages of {partner} back")

    def _entry(self, party: str, seen: _Seen, row: Any) -> None:
        self.check(row.position == seen.position + 1, f"{party}'s chain jumps to {row.position}")
        salted = chain.event_digest(row.salt, row.event)
        head = chain.next_head(seen.head, chain.entry_digest(row.kind, row.header, row.signature, salted))
        self.check(head == row.head, f"{party}'s chain is not valid at {row.position}")
        seen.position, seen.head = row.position, head
        now = asyncio.get_running_loop().time()
        self._trace.update(f"{party} {row.position} {row.kind} {now!r}\n".encode())
        if not row.header:
            return
        header = read_header(row.header)
        if row.kind == chain.RECEIVED:
            line = seen.lines[header.sender]
            self.check(
                header.sequence == line.applied + 1,
                f"{party} applied {header.kind} {header.sequence} of {header.sender} after {line.applied}",
            )
            self.check(header.kind in self._grants[party], f"{party} has seen {header.kind}")
            line.applied += 1
            said = b"" if header.kind in BULK else row.event
            where = seen.received_kinds.setdefault(f"{header.kind} of {header.sender}", [])
            where.append((header.chunk, header.chunks, said))
        else:
            line = seen.lines[header.recipient]
            self.check(
                header.sequence == len(line.sent) + 1,
                f"{party} numbers {header.kind} {header.sequence} for {header.recipient}",
            )
            line.sent[header.sequence] = (row.header, row.signature)
            where = seen.sent_kinds.setdefault(f"{header.kind} for {header.recipient}", [])
            where.append((header.chunk, header.chunks, b""))

    def spoken(self, party: str) -> tuple[Spoken, Spoken]:
        """What a party sent and received."""
        seen = self._seen[party]
        return dict(seen.sent_kinds), dict(seen.received_kinds)

    async def over(self, party: str) -> None:
        """Wait until a party's job is over or something is broken."""
        while not self._seen[party].over and not self.broken:
            self._news.clear()
            await self._news.wait()

    # -- the wire ---------------------------------------------------------------------------------------------

    def published(self, key: str, body: bytes) -> None:
        """Look at a message that a party gives to the broker."""
        words = key.split(".")
        sender, recipient = words[1], words[3]
        envelope = self._opened(recipient, body)
        if envelope is None:
            self.broke(f"{sender} published what {recipient} cannot take")
            return
        header, seen = envelope.header, self._seen[sender].lines[recipient]
        self.kinds.add(header.kind)
        if header.kind in UNSEQUENCED or (self._repeating and (key, body) in self._said):
            return
        self.check(not self._seen[sender].archived, f"{sender} says {header.kind} of a job that it has archived")
        self._said[key, body] = None
        known = seen.sent.get(header.sequence)
        self.check(known is not None, f"{sender} published {header.kind} {header.sequence} before its commit")
        self.check(
            known is None or known == (envelope.header_bytes, envelope.signature),
            f"{sender} published {header.kind} {header.sequence} in other bytes than its journal's",
        )
        first = seen.bodies.setdefault(header.sequence, envelope)
        self.check(first.body == envelope.body, f"{sender} sealed {header.kind} {header.sequence} anew")
        if header.kind in BULK:
            last = seen.published_at.get(header.sequence)
            self.check(
                last is None or seen.answers > last,
                f"{sender} published bulk {header.sequence} again although nobody had answered",
            )
            seen.published_at[header.sequence] = seen.answers

    def _opened(self, recipient: str, body: bytes) -> Envelope | None:
        if body not in self._known:
            try:
                self._known[body] = open_envelope(body, me=recipient, peers=self._peers)
            except EnvelopeError:
                self._known[body] = None
        return self._known[body]

    def delivery(self, party: str, delivery: Delivery) -> Delivery:
        """A delivery whose acknowledgement is looked at."""
        envelope = self._opened(party, delivery.body)
        if envelope is not None and envelope.header.kind == "receipt":
            self._seen[party].lines[envelope.header.sender].answers += 1

        async def ack() -> None:
            if envelope is not None and envelope.header.sequence:
                self._acknowledged(party, envelope)
            await delivery.ack()

        return replace(delivery, ack=ack)

    def _acknowledged(self, party: str, envelope: Envelope) -> None:
        header = envelope.header
        applied = self._seen[party].lines[header.sender].applied
        # What is further ahead than its turn may have been dropped: it is sent again.
        self.check(
            header.sequence <= applied or header.sequence > applied + 1,
            f"{party} acknowledged {header.kind} {header.sequence} before it was committed",
        )

    # -- the end ----------------------------------------------------------------------------------------------

    def plaintexts(self, party: str) -> dict[str, list[bytes]]:
        """What a party said, opened: by kind and recipient, in the order of their sequences."""
        found: dict[str, list[bytes]] = {}
        for recipient, line in self._seen[party].lines.items():
            for _, envelope in sorted(line.bodies.items()):
                header = envelope.header
                info = seal_info(header.version, header.job, party, recipient, header.kind, header.chunk, header.chunks)
                plain = unseal(envelope.body, self._identities[recipient], info)
                found.setdefault(f"{header.kind} for {recipient}", []).append(plain)
        return found

    def trace(self) -> str:
        """A digest of every commit in its order and at its time: equal for two runs of a seed."""
        return self._trace.hexdigest()

    def check_masks(self, shares: Iterable[bytes], owner: Owner, packed_bits: int) -> None:
        """No two messages of masked residuals share a mask: then their difference would be one of residuals.

        `owner` decrypts; under one mask two plaintexts differ by less than `packed_bits` bits, else by any number.
        """
        modulus = owner.public.modulus
        seen: list[int] = []
        for data in shares:
            message = codec.decode(data)
            assert isinstance(message, schemas.ResidualShare)
            for number in owner.decrypt(CipherVector.from_bytes(owner.public, message.ciphertexts)):
                near = [min((number - other) % modulus, (other - number) % modulus) for other in seen]
                self.check(
                    all(distance.bit_length() > packed_bits for distance in near),
                    f"a mask of iteration {message.iteration} was used before",
                )
                seen.append(number)
