"""From the journal to an export file, whether the daemon runs or not: a read-only connection, one transaction."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlalchemy import Connection, create_engine, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from messages.identity import PublicIdentity
from services import __version__
from services.audit.export_file import AUDITOR, PARTNER, Audience, Ending, Entry, ExportWriter, FurtherPartner, Opening
from services.engine.jobs import JobRecord, Status
from services.engine.records import AuditError, contract_of_job, record_of
from services.party.configuration import ConfigError, Party
from services.party.former import as_agreed
from services.store import chain
from services.store.data_directory import JOURNAL
from services.store.journal_schema import SCHEMA_VERSION, events, meta, purged
from services.store.migrations import other_schema

ARCHIVE: Final = "archive"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    job: str
    audience: Audience
    entries: int
    head: str


@contextmanager
def reading(party: Party) -> Iterator[Connection]:
    """The party's journal, for reading only. Raises AuditError."""
    url, path = party.file.journal, party.data_directory / JOURNAL
    if not url:
        if not path.exists():
            raise AuditError(f"{path}: there is no journal; has the daemon of {party.file.name} ever run?")
        url = f"sqlite:///file:{quote(str(path.resolve()))}?mode=ro&uri=true"
    engine = create_engine(url, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            found = {row.key: row.value for row in connection.execute(select(meta))}
            if found.get("party") != party.file.name:
                raise AuditError(f"the journal is {found.get('party')}'s; this is {party.file.name}")
            if found.get("schema") != str(SCHEMA_VERSION):
                raise AuditError(other_schema(str(found.get("schema"))))
            yield connection
    except SQLAlchemyError as error:
        raise AuditError(f"the journal of {party.file.name} cannot be read: {type(error).__name__}") from None
    finally:
        engine.dispose()


def archive_of(party: Party, job: str) -> Path:
    """Where the file of a job lies that has left the journal: see `services.audit.archive`."""
    return party.data_directory / ARCHIVE / f"{job}.{PARTNER}"


def export(connection: Connection, party: Party, job: str, audience: Audience, out: Path) -> Exported:
    """Write the export of a job. Raises AuditError, FileExistsError."""
    record = record_of(connection, job)
    if record.status == Status.ARCHIVED.value:
        raise AuditError(
            f"job {job} was archived: what can be proved of it is in {archive_of(party, job)}, which is its export for "
            "partners"
        )
    contract, purged_at = contract_of_job(connection, job)
    party = as_agreed(party, contract)
    if audience == AUDITOR and purged_at:
        raise AuditError(
            f"job {job} was purged: its events are gone, headers and digests remain; export it --for partner"
        )
    opening = _opening(party, record, contract, audience)
    further = [FurtherPartner(name=name, identity=_peer(party, name).to_json()) for name in record.partners[1:]]
    with ExportWriter(out, opening, party.identity, further) as writer:
        for entry in _entries(connection, job, audience):
            writer.entry(entry)
        writer.finish(_ending(record, audience))
    return Exported(job, audience, record.length, record.head.hex())


def _opening(party: Party, record: JobRecord, contract: bytes, audience: Audience) -> Opening:
    return Opening(
        audience=audience,
        job=record.job,
        party=party.file.name,
        partner=record.partner,
        role=record.role,
        logic_version=record.logic_version,
        party_identity=party.identity.public.to_json(),
        partner_identity=_peer(party, record.partner).to_json(),
        contract=contract,
        software=__version__,
        exported_at=int(time.time()),
    )


def _peer(party: Party, name: str) -> PublicIdentity:
    found = party.peers.get(name)
    if found is None:
        raise ConfigError(
            f"{name} is no peer of {party.file.name} any more: add its public identity again with "
            "`warren peer add FILE`"
        )
    return found


def _entries(connection: Connection, job: str, audience: Audience) -> Iterator[Entry]:
    gone = select(purged.c.digest).where(purged.c.job == job, purged.c.position == events.c.position)
    rows = connection.execution_options(yield_per=500).execute(
        select(events, gone.scalar_subquery().label("gone")).where(events.c.job == job).order_by(events.c.position)
    )
    for row in rows:
        private = audience == AUDITOR
        yield Entry(
            position=row.position,
            kind=row.kind,
            header=row.header,
            signature=row.signature,
            digest=row.gone or chain.event_digest(row.salt, row.event),
            head=row.head,
            salt=row.salt if private else b"",
            event=row.event if private else b"",
            # When our own tasks ended is nobody's business: what they compute on is secret.
            at=row.at if private else 0.0,
        )


def _ending(record: JobRecord, audience: Audience) -> Ending:
    private = audience == AUDITOR
    return Ending(
        length=record.length,
        head=record.head,
        status="running" if record.running else "frozen" if record.status == Status.FROZEN.value else "finished",
        outcome=record.outcome if private else "",
        reason_code=record.reason_code if private else "",
        reason=record.reason[:4096] if private else "",
        results=record.results if private else b"",
    )
