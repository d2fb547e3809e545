"""The blob store: bulk bodies in append-only segment files, named by content.

A blob is a range of a segment, found by (job, SHA-256) in the journal's table `blobs`, which also counts who
refers to it. Bytes are appended while a unit of work runs, made durable by `sync` before the commit that
names them, and forgotten when their last reference goes: a segment that nothing refers to is deleted after
the commit (`sweep`). What a crash or a rollback leaves at a segment's end is never named and goes with it.
Everything here but `locate` runs on the journal's writer thread; the data directory's lock makes it the only
owner. Reading is in `services.store.segments`, which worker processes import without the journal.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from protocol.effects import BlobRef
from services.store import retention
from services.store.crash import CrashHook, no_crash
from services.store.data_directory import sync_directory
from services.store.journal_schema import blobs
from services.store.limits import SEGMENT_BYTES_MAX
from services.store.segments import BlobMissing, Location

_STREAM: Final = re.compile(r"[^a-z0-9.-]")

# Built once: to put a statement together costs more than to run it.
_THIS: Final = (blobs.c.job == bindparam("this_job"), blobs.c.sha256 == bindparam("this_sha256"))
_ADD: Final = (
    update(blobs).where(*_THIS).values(refs=blobs.c.refs + bindparam("by")).returning(blobs.c.refs, blobs.c.segment)
)
_PUT: Final = insert(blobs).values(refs=1 + retention.KEPT_COUNT)
_DROP: Final = delete(blobs).where(*_THIS)
_LOCATE: Final = select(blobs.c.segment, blobs.c.offset, blobs.c.bytes).where(*_THIS)
_NAMED: Final = select(blobs.c.sha256).where(blobs.c.segment == bindparam("this_segment")).limit(1)


@dataclass(slots=True)
class _Segment:
    name: str
    file: int
    size: int


class BlobStore:
    """Segments of one data directory."""

    def __init__(
        self, directory: Path, *, segment_bytes_max: int = SEGMENT_BYTES_MAX, crash: CrashHook = no_crash
    ) -> None:
        self._directory = directory
        self._segment_bytes_max = segment_bytes_max
        self._crash = crash
        self._open: dict[tuple[str, str], _Segment] = {}
        self._unsynced: dict[str, _Segment] = {}
        self._new_entries: set[Path] = set()
        self._candidates: set[str] = set()
        self._settled: set[str] = set()
        self._made = 0
        self.bytes_written = 0
        """Appended since the start, for `warren bench journal`."""

    # -- references, inside a unit of work ------------------------------------------------------------------

    def put(self, connection: Connection, job: str, stream: str, data: bytes, rows: int = 0) -> BlobRef:
        """Store `data` for `job` with one reference; the same content again only gets one reference more.

        In a job of which everything is kept, the first reference has another beside it that no release takes.
        `stream` groups what is likely to be released together.
        """
        ref = BlobRef(sha256=hashlib.sha256(data).digest(), rows=rows, bytes=len(data))
        if self._add(connection, job, ref.sha256, 1) is not None:
            return ref
        segment, offset = self._append(job, stream, data)
        place = {"segment": segment, "offset": offset, "bytes": len(data)}
        connection.execute(_PUT, {"job": job, "this_job": job, "sha256": ref.sha256, **place})
        return ref

    def refer(self, connection: Connection, job: str, sha256: bytes) -> None:
        """One reference more. Raises BlobMissing."""
        if self._add(connection, job, sha256, 1) is None:
            raise BlobMissing(f"job {job} has no blob {sha256.hex()[:12]}")

    def release(self, connection: Connection, job: str, sha256: bytes) -> None:
        """One reference less; the last one takes the blob with it. Raises BlobMissing."""
        left = self._add(connection, job, sha256, -1)
        if left is None:
            raise BlobMissing(f"job {job} has no blob {sha256.hex()[:12]}")
        refs, segment = left
        if refs <= 0:
            connection.execute(_DROP, {"this_job": job, "this_sha256": sha256})
            self._candidates.add(segment)

    def retain(self, connection: Connection, job: str, keep: dict[bytes, int]) -> None:
        """Of a job that gets no more blobs: set its references to `keep` and release all others, unless all is kept."""
        own = retention.keeps_all(connection, job)
        self._settled.add(job)
        rows = connection.execute(select(blobs.c.sha256, blobs.c.segment).where(blobs.c.job == job)).all()
        for sha256, segment in rows:
            where = (blobs.c.job == job, blobs.c.sha256 == sha256)
            if sha256 in keep or own:
                connection.execute(update(blobs).where(*where).values(refs=keep.get(sha256, 0) + own))
            else:
                connection.execute(delete(blobs).where(*where))
                self._candidates.add(segment)

    def locate(self, connection: Connection, job: str, sha256: bytes) -> Location:
        """Where a blob lies. Raises BlobMissing."""
        row = connection.execute(_LOCATE, {"this_job": job, "this_sha256": sha256}).first()
        if row is None:
            raise BlobMissing(f"job {job} has no blob {sha256.hex()[:12]}")
        return Location(str(self._directory / row.segment), row.offset, row.bytes, sha256)

    @staticmethod
    def _add(connection: Connection, job: str, sha256: bytes, count: int) -> tuple[int, str] | None:
        """References and segment after the change; None: there is no such blob."""
        row = connection.execute(_ADD, {"this_job": job, "this_sha256": sha256, "by": count}).first()
        return None if row is None else (row.refs, row.segment)

    # -- files ----------------------------------------------------------------------------------------------

    def _append(self, job: str, stream: str, data: bytes) -> tuple[str, int]:
        key = (job, _STREAM.sub("-", stream.lower())[:60])
        segment = self._open.get(key)
        if segment is not None and segment.size >= self._segment_bytes_max:
            self._close(key)
            segment = None
        if segment is None:
            segment = self._create(*key)
            self._open[key] = segment
        offset = segment.size
        # Known to be dirty before the first byte: a write that fails half-way has moved the end of the file.
        self._unsynced[segment.name] = segment
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(segment.file, view) :]
        except OSError:
            self._close(key)
            raise
        segment.size += len(data)
        self.bytes_written += len(data)
        self._crash("blob.appended")
        return segment.name, offset

    def _create(self, job: str, stream: str) -> _Segment:
        folder = self._directory / job
        if not folder.exists():
            folder.mkdir(parents=True, mode=0o700)
            self._new_entries.add(self._directory)
        while True:
            self._made += 1
            name = f"{job}/{stream}-{self._made}"
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
                file = os.open(self._directory / name, flags, 0o600)
            except FileExistsError:
                continue
            self._new_entries.add(folder)
            return _Segment(name, file, 0)

    def _close(self, key: tuple[str, str]) -> None:
        segment = self._open.pop(key)
        try:
            if self._unsynced.pop(segment.name, None) is not None:
                os.fdatasync(segment.file)
        finally:
            os.close(segment.file)

    def _abandon(self, segment: _Segment) -> None:
        for key, found in list(self._open.items()):
            if found is segment:
                self._open.pop(key)
                os.close(segment.file)

    def sync(self) -> None:
        """Make everything appended durable: before the commit that names it. Raises OSError."""
        while self._unsynced:
            _, segment = self._unsynced.popitem()
            try:
                os.fdatasync(segment.file)
            except OSError:
                # After a failed sync the kernel may drop dirty pages: nothing more goes into this file.
                self._abandon(segment)
                raise
        for folder in list(self._new_entries):
            sync_directory(folder)
            self._new_entries.discard(folder)
        self._crash("blob.synced")

    def sweep(self, connection: Connection) -> None:
        """Delete the segments that lost their last reference: after the commit that took it.

        Files of jobs that get no more blobs are closed, so that a daemon has open what its running jobs need.
        """
        while self._settled:
            job = self._settled.pop()
            for key in [key for key in self._open if key[0] == job]:
                self._close(key)
        if not self._candidates:
            return
        with connection.begin():
            named = {name for name in self._candidates if connection.scalar(_NAMED, {"this_segment": name}) is not None}
        for name in sorted(self._candidates):
            self._candidates.discard(name)
            if name in named:
                continue
            for key, segment in list(self._open.items()):
                if segment.name == name:
                    self._close(key)
            self._unlink(name)

    def recover(self, connection: Connection) -> int:
        """Delete every segment that no blob names; returns how many there were. At start, before any `put`."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        known = set(connection.scalars(select(blobs.c.segment).distinct()))
        stray = [
            name
            for path in sorted(self._directory.glob("*/*"))
            if (name := f"{path.parent.name}/{path.name}") not in known
        ]
        for name in stray:
            self._unlink(name)
        return len(stray)

    def _unlink(self, name: str) -> None:
        path = self._directory / name
        path.unlink(missing_ok=True)
        try:
            path.parent.rmdir()
        except OSError:
            return
        self._new_entries.discard(path.parent)

    def close(self) -> None:
        """Close the files; nothing is made durable that a commit did not ask for."""
        for segment in self._open.values():
            os.close(segment.file)
        self._open.clear()
        self._unsynced.clear()
