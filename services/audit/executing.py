"""Runs every task of a recorded job again, on the party's own data, and compares all that came out bit by bit.

It needs what `retention = "full"` keeps: the job's blobs and its secret. Bodies that leave the house are left
open here: their plaintext is compared by the digest in the recorded output, because the seal is randomised and its
sender cannot open it.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from sqlalchemy import Connection, func, select

from messages.identity import PublicIdentity
from messages.seal import OVERHEAD_BYTES
from protocol.effects import BlobRef, Computed, ComputeFailed, ControlReceived, Started
from protocol.scoring_contract import read_any
from services.audit.export_file import ExportReader, Opening
from services.audit.replaying import Arrival, Replay, Task, replay
from services.engine.envelopes import Envelopes, Unreadable
from services.engine.records import AuditError, record_of
from services.engine.worker import Setup, TaskCall, TaskReply, Worker
from services.models.store import link_versions
from services.party.configuration import Party
from services.store import retention
from services.store.blobs import BlobStore
from services.store.data_directory import BLOBS, SECRETS
from services.store.journal_schema import events
from services.store.segments import BlobDamaged, BlobMissing, Location, read
from services.tables.snapshot import Snapshot, unpack_snapshot
from services.tables.table import Table, data_digest
from services.tasks.sealing import PLAIN

NOT_REPEATED: Final = frozenset({"worker_died", "task_failed"})
"""Failures of a machine, not of a rule: they are not expected to come again."""
DIFFERENCES_MAX: Final = 100


@dataclass(slots=True)
class Execution:
    """What was run and compared. The first of `differences` is the first differing task."""

    replay: Replay
    tasks: int = 0
    values_bytes: int = 0
    bodies: int = 0
    blobs: int = 0
    arrivals: int = 0
    notes: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        """Whether everything came out as recorded."""
        return self.replay.same and not self.differences


Progress = Callable[[int, int, str], None]
"""(tasks done, tasks in all, name of the next)"""


def left_open(plain: bytes, recipient: PublicIdentity, info: bytes) -> bytes:
    """In place of the seal: the body as it is."""
    del recipient, info
    return plain


def execute(path: Path, party: Party, connection: Connection, progress: Progress) -> Execution:
    """Run an auditor's file again on the journal, blobs and secret of its party.

    Raises:
        AuditError: the file is another party's, or what is needed was not kept.
        ExportError, OSError: the file cannot be read.

    """
    with ExportReader(path) as reader:
        opening = reader.opening
    if opening.party != party.file.name:
        raise AuditError(f"{path} is the export of {opening.party}; --party is {party.file.name}")
    record_of(connection, opening.job)
    if not retention.keeps_all(connection, opening.job):
        raise AuditError(
            f"of job {opening.job} only digests are kept: running it again needs a contract with retention full, "
            "and that it was not purged"
        )
    with _scratch(party, opening) as directory:
        run = _Run(party, connection, opening, directory, progress)
        run.result.replay = replay(path, on_task=run.task, on_arrival=run.arrival, on_start=run.start)
        return run.result


@contextmanager
def _scratch(party: Party, opening: Opening) -> Iterator[Path]:
    """A data directory for the tasks to write into: the ledger's copy, so that no real release is booked twice.

    Models are there as they were when the job ran: none is retired.
    """
    ledger = party.data_directory / "ledger"
    with tempfile.TemporaryDirectory(prefix="warren-audit-") as name:
        directory = Path(name)
        if ledger.exists():
            shutil.copytree(ledger, directory / "ledger")
        link_versions(party.data_directory, directory)
        yield directory


class _Run:
    """Takes the tasks of a replay as they are reached."""

    def __init__(
        self, party: Party, connection: Connection, opening: Opening, scratch: Path, progress: Progress
    ) -> None:
        self.result = Execution(Replay())
        self._connection = connection
        self._job = opening.job
        self._partner = opening.partner
        self._logic_version = opening.logic_version
        self._progress = progress
        self._blobs = BlobStore(party.data_directory / BLOBS)
        self._secret = party.data_directory / SECRETS / opening.job
        if not self._secret.exists():
            raise AuditError(f"{self._secret}: the secret of job {opening.job} is not there any more")
        self._envelopes = Envelopes(party.identity, party.peers)
        self._sources = {name: str(entry["source"]) for name, entry in party.datasets.items()}
        self._contract = read_any(opening.contract)
        setup = Setup(
            parent=os.getpid(),
            functions="services.tasks",
            identity=party.identity.to_bytes(),
            peers={name: peer.to_json() for name, peer in party.peers.items()},
            data_directory=scratch,
            settings=party.settings,
        )
        self._worker = Worker(setup, sealing=left_open)
        self._total = self._count_tasks()

    def _count_tasks(self) -> int:
        where = (events.c.job == self._job, events.c.kind == "computed")
        return self._connection.scalar(select(func.count()).select_from(events).where(*where)) or 0

    def _differ(self, text: str) -> None:
        if len(self.result.differences) < DIFFERENCES_MAX:
            self.result.differences.append(text)

    def _locate(self, sha256: bytes) -> Location:
        return self._blobs.locate(self._connection, self._job, sha256)

    def _stored(self, ref: BlobRef, what: str) -> bytes | None:
        """A kept blob, whole; None when it is gone or damaged, which is a difference."""
        try:
            return read(self._locate(ref.sha256))
        except BlobMissing:
            self._differ(f"{what} is not kept any more ({ref.sha256.hex()[:12]})")
        except BlobDamaged as error:
            self._differ(f"{what} is not what was stored: {error}")
        return None

    # -- what came in ---------------------------------------------------------------------------------------

    def start(self, event: Started) -> None:
        """The business's snapshot must be the one that the contract was signed over."""
        data = self._stored(event.blobs[0], "the snapshot of the own table")
        if data is None:
            return
        salt = msgspec.msgpack.decode(event.facts, type=dict[str, bytes])["salt"]
        if data_digest(_table(unpack_snapshot(data)), salt=salt) != self._contract.data_digest:
            self._differ("the snapshot of the own table is not the one whose digest is in the contract")

    def arrival(self, arrival: Arrival) -> None:
        """The sealed body that the partner signed for must be kept, and hold what the event says."""
        header, event = arrival.header, arrival.event
        what = f"{header.kind} sequence {header.sequence} of {header.sender}"
        body = self._stored(BlobRef(sha256=header.body_sha256, rows=0, bytes=0), f"the sealed body of {what}")
        if body is None:
            return
        self.result.arrivals += 1
        if isinstance(event, ControlReceived):
            try:
                _, plain = self._envelopes.read(header, body)
            except Unreadable as error:
                self._differ(f"the sealed body of {what} does not open: {error.code}")
                return
            if plain != event.message:
                self._differ(f"the recorded content of {what} is not what {header.sender} sealed and signed")

    # -- tasks ----------------------------------------------------------------------------------------------

    def task(self, task: Task) -> None:
        """Run a task again and compare everything that it gives."""
        asked, event = task.asked, task.event
        self._progress(self.result.tasks, self._total, asked.task)
        self.result.tasks += 1
        if isinstance(event, ComputeFailed) and event.reason_code in NOT_REPEATED:
            self.result.notes.append(
                f"task {asked.task} failed for want of a process ({event.reason_code}): not repeated"
            )
            return
        inputs = []
        for number, ref in enumerate(asked.inputs):
            if self._stored(ref, f"task {asked.task}: input {number + 1}") is None:
                return
            inputs.append(self._locate(ref.sha256))
        reply = self._worker.run(
            TaskCall(
                job=self._job,
                partner=asked.partner or self._partner,
                task=asked.task,
                function=asked.function,
                arguments=asked.arguments,
                inputs=tuple(inputs),
                secret=self._secret,
                logic_version=self._logic_version,
            )
        )
        self._compare(asked.task, event, reply)

    def _compare(self, name: str, event: Computed | ComputeFailed, reply: TaskReply) -> None:
        if reply.status != "done":
            if not isinstance(event, ComputeFailed):
                self._differ(f"task {name} does not end well again: {reply.code}: {reply.reason}")
            elif (event.reason_code, event.reason) != (reply.code, reply.reason):
                self._differ(f"task {name} is refused with {reply.code}, recorded is {event.reason_code}")
            return
        if isinstance(event, ComputeFailed):
            self._differ(f"task {name} ends well, recorded is that it was refused with {event.reason_code}")
            return
        if reply.output != event.output:
            self._differ(f"task {name} gives other values: {_changed(event.output, reply.output)}{self._source(event)}")
            return
        self.result.values_bytes += len(reply.output)
        if len(reply.blobs) != len(event.blobs):
            self._differ(f"task {name} gives {len(reply.blobs)} blobs, recorded are {len(event.blobs)}")
            return
        sealed = PLAIN in msgspec.msgpack.decode(event.output, type=dict[str, Any])
        for number, (ref, (data, rows)) in enumerate(zip(event.blobs, reply.blobs, strict=True)):
            self._compare_blob(f"task {name}: blob {number + 1}", ref, data, rows, sealed=sealed and number == 0)

    def _compare_blob(self, what: str, ref: BlobRef, data: bytes, rows: int, *, sealed: bool) -> None:
        """`sealed`: the recorded blob is a body for the partner, `data` its plaintext, compared with the output."""
        if self._stored(ref, what) is None:
            return
        size = len(data) + (OVERHEAD_BYTES if sealed else 0)
        if (ref.rows, ref.bytes) != (rows, size):
            self._differ(f"{what} has {size} bytes of {rows} rows, recorded are {ref.bytes} of {ref.rows}")
        elif not sealed and hashlib.sha256(data).digest() != ref.sha256:
            self._differ(f"{what} differs from the recorded one")
        elif sealed:
            self.result.bodies += 1
        else:
            self.result.blobs += 1

    def _source(self, event: Computed) -> str:
        """Why the provider's first task may well give other values."""
        if event.function not in ("admit", "score.admit") or not event.blobs:
            return ""
        name = self._contract.provider_dataset
        return (
            f"; is {self._sources.get(name, name)} still the file that the job read, and the policy the same? "
            "The tasks after it are run on the snapshot that was kept"
        )


def _changed(recorded: bytes, again: bytes) -> str:
    """Which values of an output differ: their names, never what they are."""
    before, after = (_fields(data) for data in (recorded, again))
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return ", ".join(names) or "their order"


def _fields(data: bytes) -> Mapping[str, Any]:
    return msgspec.msgpack.decode(data, type=dict[str, Any])


def _table(snapshot: Snapshot) -> Table:
    return Table(
        identifiers=snapshot.identifiers,
        columns=tuple(snapshot.columns),
        values=np.array(snapshot.matrix()),
        label=None if snapshot.label is None else np.array(snapshot.labels()),
        preparation=snapshot.preparation,
        categories=snapshot.source().categories if snapshot.categories else (),
        classes=tuple(snapshot.classes),
        weight=None if not snapshot.weight else np.frombuffer(snapshot.weight, dtype="<f8"),
        offset=None if not snapshot.offset else np.frombuffer(snapshot.offset, dtype="<f8"),
        beside=snapshot.beside,
    )
