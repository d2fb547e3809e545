"""Deliveries through the real `Receiving`, `Stepper` and machines, into a real journal in a SQLite file.

The journal holds jobs in several phases before any input. An input is a series of deliveries, each with three
bytes of length before it, routing key and envelope as in the envelope target. Whatever happened to the journal is
rolled back after the input.
"""

import asyncio
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, func, select
from structlog.testing import capture_logs

from broker.transport import Delivery
from messages import codec, schemas, unsequenced
from messages.keys import check_name
from protocol.contract import FurtherProvider
from protocol.effects import BlobRef, Computed, Started
from protocol.machines import ROLES, answering_role
from services.daemon.serve import expiry_of, parties_of
from services.engine import inbox, jobs, parking
from services.engine.envelopes import Envelopes
from services.engine.notices import Notices
from services.engine.outbox import Outbox
from services.engine.receiving import Receiving
from services.engine.stepping import Stepper
from services.store import chain, journal_schema
from services.store.blobs import BlobStore
from services.store.job_secrets import JobSecrets
from services.store.journal import ThreadedJournal, sqlite_url
from services.store.limits import CREDIT_WINDOW, HOLD_AHEAD
from tests.fuzz import resigning
from tests.fuzz.identities import ME, OTHER, PARTNER, identity, peers
from tests.fuzz.oracle import bounded_memory, temporary_folder
from tests.fuzz.samples import contract, delivery, envelope, job_of, sample_messages

MODULES: Final = (
    "services/engine/receiving.py",
    "services/engine/unsequenced.py",
    "services/engine/envelopes.py",
    "services/engine/inbox.py",
    "services/engine/parking.py",
)
HELD: Final = False
INPUT_BYTES_MAX: Final = 16_384

OURS: Final = contract(business=ME, provider=PARTNER, nonce=b"business")
ADMITTING: Final = contract(nonce=b"admitted")
ALIGNING: Final = contract(nonce=b"aligning")
OVER: Final = contract(nonce=b"finished")
FROZEN: Final = contract(nonce=b"frozen..")
FRESH: Final = contract(nonce=b"proposed")
_FELLOW: Final = FurtherProvider(name=OTHER, key=identity(OTHER).public.digest(), dataset="features")
SEVERAL: Final = contract(nonce=b"several.", further=(_FELLOW,))
JOBS: Final = tuple(map(job_of, (OURS, ADMITTING, ALIGNING, OVER, FROZEN, FRESH, SEVERAL)))
FAULTS: Final = {"machine_fault", "effect_impossible", "unexpected_event"}
_DELIVERIES_MAX: Final = 24
_TIDY_AFTER: Final = 256
_PROGRESS: Final = ("duplicates", "dropped_ahead", "held_back", "late", "messages_received")


class _Undo(Exception):
    """Rolls an input's effects back."""


async def _nothing() -> None:
    """Acknowledged: there is no broker."""


class Bank:
    """One party's receiving end, with a journal that is made once."""

    def __init__(self) -> None:
        self._folder = temporary_folder("fuzz-receiving-")
        folder = Path(self._folder.name)
        self.loop = asyncio.new_event_loop()
        self.blobs = BlobStore(folder / "blobs")
        self.journal = ThreadedJournal(sqlite_url(folder / "journal.sqlite"), ME)
        self.journal.open()
        self.taken = 0
        envelopes = Envelopes(identity(ME), peers())
        outbox = Outbox(envelopes, self.blobs, os.urandom)
        self.stepper = Stepper(ME, ROLES, outbox, self.blobs, lambda: 1.0, os.urandom, parties_of=parties_of)
        self.secrets = JobSecrets(folder / "secrets")
        self.receiving = Receiving(
            envelopes,
            self.blobs,
            outbox,
            self.stepper,
            self.secrets,
            answering_role=answering_role,
            expiry_of=expiry_of,
            clock=lambda: 1.0,
        )
        self.loop.run_until_complete(self.journal.write(self._begin))

    def take(self, connection: Connection, data: bytes) -> Notices:
        key, body = resigning.split(data)
        return self.receiving.take(connection, Delivery(key.encode("utf-8", "replace").decode(), body, _nothing))

    def _begin(self, connection: Connection) -> None:
        """A job of our own; proposals of the partner that are being admitted, aligned, over and frozen."""
        record = self.stepper.create(connection, job_of(OURS), "business", PARTNER, expires_at=0.0)
        snapshot = self.blobs.put(connection, record.job, "started", b"snapshot", 80)
        event = Started(contract=OURS, blobs=(snapshot,), facts=msgspec.msgpack.encode({"salt": bytes(32)}))
        self.stepper.apply(connection, record, event, Notices(), kind=chain.DECIDED)
        jobs.save(connection, record)
        for agreed in (ADMITTING, ALIGNING, OVER, FROZEN, SEVERAL):
            self.take(connection, _said(schemas.JobPropose(contract=agreed), job_of(agreed)))
        self._apply(
            connection,
            ALIGNING,
            Computed(
                task="admit",
                function="admit",
                output=msgspec.msgpack.encode(
                    {
                        "reason_code": "",
                        "reason": "",
                        "rows": 80,
                        "columns": 4,
                        "data_digest": bytes(32),
                        "schema_digest": bytes(32),
                    }
                ),
                blobs=(self._blob(connection, ALIGNING),),
            ),
        )
        self.take(connection, _said(schemas.JobCancel(reason="over"), job_of(OVER), sequence=2))
        frozen = jobs.load(connection, job_of(FROZEN))
        assert frozen is not None
        self.stepper.freeze(frozen, "receipt_ahead", "an old copy", Notices())
        jobs.save(connection, frozen)
        for agreed, status in (
            (OURS, "running"),
            (ADMITTING, "running"),
            (ALIGNING, "running"),
            (OVER, "finished"),
            (SEVERAL, "running"),
        ):
            found = jobs.load(connection, job_of(agreed))
            assert found is not None
            assert (found.status, found.reason_code in FAULTS) == (status, False), (found.status, found.reason)

    def _blob(self, connection: Connection, agreed: bytes) -> BlobRef:
        return self.blobs.put(connection, job_of(agreed), "admit", b"a snapshot", 80)

    def _apply(self, connection: Connection, agreed: bytes, event: Computed) -> None:
        record = jobs.load(connection, job_of(agreed))
        assert record is not None
        self.stepper.apply(connection, record, event, Notices(), kind=chain.COMPUTED)
        jobs.save(connection, record)


@functools.cache
def bank() -> Bank:
    with capture_logs():
        return Bank()


def _said(message: schemas.Message, job: str, sender: str = PARTNER, **fields: Any) -> bytes:
    kind = codec.kind_of(message)
    return delivery(envelope(message, job=job, sender=sender, **fields), kind, job, sender)


def framed(*deliveries: bytes) -> bytes:
    return b"".join(len(data).to_bytes(3, "big") + data for data in deliveries)


def unframed(data: bytes) -> list[bytes]:
    found = []
    while data and len(found) < _DELIVERIES_MAX:
        size = int.from_bytes(data[:3], "big")
        found.append(data[3 : 3 + size])
        data = data[3 + size :]
    return found


def seeds() -> Iterator[bytes]:
    fresh = _said(schemas.JobPropose(contract=FRESH), job_of(FRESH))
    yield framed(fresh, fresh)
    for message in sample_messages():
        kind = codec.kind_of(message)
        bulk = kind in schemas.BULK
        for job in JOBS[:3]:
            sequence = 0 if kind in unsequenced.UNSEQUENCED else 1 if job == job_of(OURS) else 2
            yield framed(_said(message, job, sequence=sequence))
        if bulk:
            ahead = [
                _said(message, job_of(ALIGNING), sequence=place, chunk=place - 2, chunks=40) for place in (4, 3, 2)
            ]
            yield framed(*ahead, ahead[0])
    cancel = schemas.JobCancel(reason="a mistake")
    for job in JOBS:
        for sequence in (0, 1, 2, 3, HOLD_AHEAD + 2):
            yield framed(_said(cancel, job, sequence=sequence))
        yield framed(_said(unsequenced.Receipt(applied=0, credit=20), job))
        yield framed(_said(unsequenced.Receipt(applied=2**40, credit=2**48), job))
        yield framed(_said(unsequenced.Receipt(applied=0, credit=1), job, sequence=1))
        yield framed(_said(unsequenced.ReceiptRequest(sent=1), job))
    yield framed(_said(cancel, "job-1"), _said(unsequenced.ReceiptRequest(sent=1), "job-1"))
    yield framed(_said(unsequenced.Receipt(applied=0, credit=1), "job-1"))
    yield framed(_said(cancel, job_of(ALIGNING), sequence=2, received=2**40))
    yield framed(
        _said(cancel, job_of(ALIGNING), sequence=2), _said(schemas.JobCancel(reason="b"), job_of(ALIGNING), sequence=2)
    )
    yield framed(
        delivery(
            envelope(b"sealed by nobody", kind="job.cancel", job=job_of(ALIGNING), sequence=2),
            "job.cancel",
            job_of(ALIGNING),
        )
    )
    yield framed(
        delivery(
            envelope(bytes(80_000), kind="job.cancel", job=job_of(ALIGNING), sequence=2), "job.cancel", job_of(ALIGNING)
        )
    )
    yield framed(delivery(envelope(b"x", kind="receipt", job="job-1"), "receipt", "job-1"))
    yield framed(delivery(envelope(b"x", kind="job.propose", job="job-1"), "job.propose", "job-1"))
    theirs = envelope(cancel, job=job_of(ALIGNING), sender=OTHER, sequence=2)
    yield framed(delivery(theirs, "job.cancel", job_of(ALIGNING), OTHER))
    receipt = envelope(unsequenced.Receipt(applied=0, credit=1), job=job_of(ALIGNING), sender=OTHER)
    yield framed(delivery(receipt, "receipt", job_of(ALIGNING), OTHER))
    share = [
        delivery(
            envelope(
                b"%d" % place, kind="align.list", job=job_of(ALIGNING), sequence=2 + place, chunk=place, chunks=99
            ),
            "align.list",
            job_of(ALIGNING),
        )
        for place in range(CREDIT_WINDOW + 3)
    ]
    yield framed(*share)
    yield framed(*reversed(share))
    for sender in (PARTNER, OTHER):
        # A fellow provider's line begins with its own first message, whatever the business has said.
        for sequence in (1, 2, HOLD_AHEAD + 2):
            yield framed(_said(cancel, job_of(SEVERAL), sender, sequence=sequence))
        yield framed(_said(unsequenced.Receipt(applied=2**40, credit=1), job_of(SEVERAL), sender))
        yield framed(_said(unsequenced.ReceiptHeld(receipted=3), job_of(SEVERAL), sender))
        yield framed(_said(unsequenced.JobFrozen(reason_code="gone"), job_of(SEVERAL), sender))
    yield framed(b"\x05no envelope", b"", b"\xff")


def mutate(data: bytes, size_max: int, chance: Random, plain: Callable[[bytes, int], bytes]) -> bytes:
    items = unframed(data) or [b""]
    place = chance.randrange(len(items))
    pick = chance.randrange(16)
    if pick == 0:
        return plain(data, size_max)
    if pick == 1:
        items.insert(place, items[place])
    elif pick == 2:
        chance.shuffle(items)
    elif pick == 3 and len(items) > 1:
        del items[place]
    elif pick < 6:
        message = chance.choice(list(sample_messages()))
        sequence = 0 if codec.kind_of(message) in unsequenced.UNSEQUENCED else chance.randrange(6)
        sender = chance.choice((PARTNER, PARTNER, OTHER))
        said = _said(message, chance.choice(JOBS), sender, sequence=sequence, received=chance.randrange(3))
        items.insert(place, said)
    else:
        items[place] = resigning.changed(items[place], chance, plain)
    return framed(*items)


def fuzz_one(data: bytes) -> None:
    place = bank()
    with bounded_memory(), capture_logs() as lines:
        try:
            place.loop.run_until_complete(
                place.journal.write(lambda connection: _take_all(place, connection, data, lines))
            )
        except _Undo:
            pass
        finally:
            place.blobs.close()
            place.taken += 1
            if place.taken % _TIDY_AFTER == 0:
                # What was rolled back left segments that nothing names.
                place.loop.run_until_complete(place.journal.write(place.blobs.recover))


def _take_all(place: Bank, connection: Connection, data: bytes, lines: Sequence[Mapping[str, Any]]) -> None:
    before = _facts(connection)
    for item in unframed(data):
        notices = place.take(connection, item)
        after = _facts(connection)
        told = notices.questions or notices.receipts or notices.answered or notices.frozen or notices.ended
        assert (
            told
            or _is_statement(item)
            or after["parked"] > before["parked"]
            or any(after[name] > before[name] for name in _PROGRESS)
        ), "a delivery was dropped, and nothing says so"
        assert after["parked"] - before["parked"] in {0, 1}
        before = after
    codes = [line["code"] for line in lines if line["event"] == "parked"]
    assert sum(parking.parked_codes(connection).values()) == len(codes)
    assert not [line for line in lines if line["event"] == "machine failed"], lines
    _check_rest(connection)
    raise _Undo


def _is_statement(item: bytes) -> bool:
    """Whether it is a message that may be right, so that nothing follows: what a partner holds, that it
    has frozen, that it lets the job rest.
    """
    key, _ = resigning.split(item)
    return key.endswith((".receipt.held", ".job.frozen", ".job.resting"))


def _facts(connection: Connection) -> dict[str, int]:
    """What a delivery can change that somebody would see."""
    counters = journal_schema.counters
    rows = connection.execute(select(counters.c.name, func.sum(counters.c.value)).group_by(counters.c.name))
    counted = {name: int(value) for name, value in rows}
    parked = connection.scalar(select(func.coalesce(func.sum(journal_schema.parked_counts.c.count), 0)))
    return {"parked": int(parked or 0), **{name: counted.get(name, 0) for name in _PROGRESS}}


def _check_rest(connection: Connection) -> None:
    """No fault of this program, every refusal with a code, everything within its bounds, chains whole."""
    for code in parking.parked_codes(connection):
        assert check_name(code.replace("_", "-"))
        assert code != "engine_fault"
    for row in parking.parked_rows(connection):
        assert len(row.claimed) <= 40
        assert len(row.routing_key) <= 300
        assert row.sender in {"", *peers()}
    for view in jobs.views(connection):
        assert view.reason_code not in FAULTS, (view.reason_code, view.reason)
        assert check_name(view.partner) in peers()
        assert all(inbox.bulk_held(connection, view.job, name) <= CREDIT_WINDOW for name in view.partners)
        assert len(view.reason) <= 4096
        _check_chain(connection, view.job, view.head)


def _check_chain(connection: Connection, job: str, head: str) -> None:
    events = journal_schema.events
    rows = connection.execute(select(events).where(events.c.job == job).order_by(events.c.position))
    found = chain.genesis(job, ME)
    for row in rows:
        salted = chain.event_digest(row.salt, row.event)
        found = chain.next_head(found, chain.entry_digest(row.kind, row.header, row.signature, salted))
    assert found.hex() == head
