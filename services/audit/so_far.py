"""What has left the house in a job that may still run, and what came in, held against its contract.

The same figures as those of an auditor's report (`services.audit.reporting`), read from the journal as it grows:
each entry once, without folding the machine again. What only a replay knows, the rows of a partner's bulk, is left out.
"""

from collections import OrderedDict
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, select

from learning.release import entries_allowed
from messages import schemas
from messages.envelope import Header, read_header
from messages.seal import OVERHEAD_BYTES
from protocol.contract import ContractError, JobContract
from protocol.effects import AnyEvent, BulkReceived, Computed, ControlReceived
from protocol.scoring_contract import AnyContract, read_any
from services.audit.export_file import AUDITOR, UNREADABLE, Opening
from services.audit.parties import Parties
from services.audit.reporting import Line, columns_of, facts_of, outside_of, released_to
from services.audit.seen import Seen
from services.engine import jobs
from services.engine.jobs import JobRecord, SentBody
from services.engine.records import contract_of_job
from services.store import chain
from services.store.journal_schema import events
from services.tasks.sealing import PLAIN

JOBS_MAX: Final = 32
"""Jobs whose figures are remembered; those of another are read from its first entry again."""
ENTRIES_PER_READ: Final = 2_000
"""Entries taken in one unit of work: the journal's reader has others to serve."""


@dataclass(slots=True)
class _Job:
    opening: Opening
    parties: Parties
    contract: AnyContract
    seen: Seen
    position: int = 0
    bodies: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    """Digest of a sealed body that was made and has not left -> its bytes and rows."""
    lines: dict[tuple[str, str, str], Line] = field(default_factory=dict)


class SoFar:
    """Reads each entry of a job once, however often somebody asks. For one thread."""

    def __init__(self, party: str) -> None:
        self._party = party
        self._jobs: OrderedDict[str, _Job] = OrderedDict()

    def read(self, connection: Connection, name: str) -> dict[str, Any]:
        """Lines by kind, facts and released numbers of a job, and whether all entries have been read.

        Empty for a job that is not there or whose contract cannot be read.
        """
        record = jobs.load(connection, name)
        job = None if record is None else self._job(connection, record)
        if record is None or job is None:
            return {}
        later = select(events.c.position, events.c.kind, events.c.header, events.c.event).where(
            events.c.job == name, events.c.position > job.position
        )
        for row in connection.execute(later.order_by(events.c.position).limit(ENTRIES_PER_READ)):
            job.position = row.position
            _take(job, row.kind, row.header, row.event)
        return _told(job, whole=job.position >= record.length)

    def _job(self, connection: Connection, record: JobRecord) -> _Job | None:
        found = self._jobs.get(record.job)
        if found is None:
            data, _ = contract_of_job(connection, record.job)
            try:
                contract = read_any(data)
            except ContractError:
                return None
            found = self._jobs[record.job] = _begin(self._party, record, contract)
            if len(self._jobs) > JOBS_MAX:
                self._jobs.popitem(last=False)
        self._jobs.move_to_end(record.job)
        return found


def _begin(party: str, record: JobRecord, contract: AnyContract) -> _Job:
    opening = Opening(
        audience=AUDITOR,
        job=record.job,
        party=party,
        partner=record.partner,
        role=record.role,
        logic_version=record.logic_version,
        # Nobody checks a signature here: the journal has checked them all.
        party_identity="",
        partner_identity="",
        contract=b"",
        software="",
        exported_at=0,
    )
    parties = Parties(party=party, role=record.role, partners=record.partners, identities={}, unusable=())
    return _Job(opening, parties, contract, Seen(party, record.partner))


def _take(job: _Job, kind: str, header_bytes: bytes, data: bytes) -> None:
    """One entry. What cannot be read is counted and no more: an audit names it."""
    event = _event(data) if kind not in (chain.SENT, chain.FAULT) else None
    if kind == chain.COMPUTED and isinstance(event, Computed):
        _computed(job, event)
    if kind not in (chain.SENT, chain.RECEIVED):
        return
    try:
        header = read_header(header_bytes)
    except ValueError:
        return
    partner = header.recipient if kind == chain.SENT else header.sender
    line = job.lines.setdefault((kind, header.kind, partner), Line(kind, header.kind, partner, bytes=0))
    line.messages += 1
    if header.suite not in line.suites:
        line.suites.append(header.suite)
    size = _sent(job, line, header, data) if kind == chain.SENT else _received(job, header, event)
    line.bytes = (line.bytes or 0) + size
    line.largest = max(line.largest, size)


def _event(data: bytes) -> AnyEvent | None:
    try:
        return jobs.decode_event(data) if data else None
    except UNREADABLE:
        return None


def _computed(job: _Job, event: Computed) -> None:
    try:
        output = msgspec.msgpack.decode(event.output, type=dict[str, Any])
        if PLAIN in output:
            job.bodies[event.blobs[0].sha256] = (event.blobs[0].bytes, event.blobs[0].rows)
        job.seen.result(event.function, output)
    except (*UNREADABLE, KeyError, TypeError, ValueError, IndexError):
        return


def _sent(job: _Job, line: Line, header: Header, data: bytes) -> int:
    """Bytes of a message that left; counts its rows."""
    if header.kind == "cross.term":
        job.seen.gradients[chain.SENT, header.recipient] += 1
    if header.kind in schemas.BULK:
        size, rows = job.bodies.pop(header.body_sha256, (0, 0))
        line.rows = (line.rows or 0) + rows
        return size
    try:
        return msgspec.msgpack.decode(data, type=SentBody).bytes if data else 0
    except UNREADABLE:
        return 0


def _received(job: _Job, header: Header, event: AnyEvent | None) -> int:
    match event:
        case BulkReceived():
            return event.body.bytes
        case ControlReceived():
            job.seen.message(header.sender, event.message)
            return len(event.message) + OVERHEAD_BYTES
        case _:
            return 0


def _told(job: _Job, *, whole: bool) -> dict[str, Any]:
    # In the order in which the job came to them, what left first.
    lines = sorted(job.lines.values(), key=lambda line: line.direction != chain.SENT)
    for line in lines:
        line.outside = outside_of(line, job.opening, job.parties, job.contract, job.seen)
    facts = facts_of(job.opening, job.parties, job.contract, job.seen)
    return {
        "whole": whole,
        "lines": [asdict(line) for line in lines],
        "facts": [asdict(fact) for fact in facts],
        "released": _released(job),
        "within": not any(line.outside for line in lines) and not any(fact.outside for fact in facts),
    }


def _released(job: _Job) -> list[dict[str, Any]]:
    """Numbers released to each partner; `allowed` is None where the contract has no cap, or none yet."""
    contract, seen = job.contract, job.seen
    if not isinstance(contract, JobContract):
        return []
    capped = seen.aligned and not contract.small_sample
    columns = columns_of(contract, seen)
    return [
        {
            "partner": partner,
            "total": released_to(partner, columns, seen).total,
            "allowed": entries_allowed(seen.aligned) if capped else None,
        }
        for partner in job.parties.partners
    ]
