"""A party in one file, and back: everything that it needs to go on, here or on another host, but its data sets.

The daemon has to rest meanwhile, so that journal, blobs, secrets and marks are of one moment. What a restored party
lacks of running jobs its partners say at the first question, and those jobs are frozen (`services.store.journal_mark`).

A backup ends with the SHA-256 of everything in it, so that one which was damaged or cut off is told before anything is
written. That is no signature: who can change a backup can change its digests, and it is as secret as the party's keys.
"""

import errno
import hashlib
import io
import os
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from services import __version__
from services.party.configuration import ConfigError, Party, PartyFile, identity_path
from services.store.data_directory import JOURNAL, DataDirectory

FORMAT: Final = "warren backup 2"
_MANIFEST: Final = "manifest.json"
_PARTY: Final = "party.toml"
_POLICY: Final = "policy.toml"
_DIGESTS: Final = "digests.json"
_FOLDERS: Final = ("identity", "peers", "data")
_LEFT_OUT: Final = frozenset({"lock", "control.sock", JOURNAL, f"{JOURNAL}-wal", f"{JOURNAL}-shm"})
_MANIFEST_BYTES_MAX: Final = 65_536


class BackupError(ConfigError):
    """A backup that cannot be made or used. The text says why."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup says of itself. `made_at`: seconds since 1970, UTC; `journal`: whether the journal is in it."""

    format: str
    party: str
    made_at: int
    software: str
    journal: bool


def back_up(party: Party, party_file: Path, out: Path, *, without_journal: bool = False) -> Manifest:
    """Write a backup (mode 0600: it holds every secret of the party). Raises BackupError, DirectoryLocked."""
    if party.file.journal and not without_journal:
        raise BackupError(
            f"{party_file}: the journal is at a database server: back it up there while the daemon rests, and give "
            "--without-journal for everything else"
        )
    manifest = Manifest(
        format=FORMAT,
        party=party.file.name,
        made_at=int(time.time()),
        software=__version__,
        journal=not party.file.journal,
    )
    with (
        DataDirectory(party.data_directory) as directory,
        tempfile.TemporaryDirectory(dir=out.resolve().parent) as scratch,
    ):
        fresh = Path(scratch) / "backup"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w|") as tar:
            digests = {_MANIFEST: _add_bytes(tar, _MANIFEST, msgspec.json.encode(manifest))}
            for name, path in _members(party, party_file):
                digests[name] = _add(tar, name, path)
            if directory.journal.exists():
                copy = Path(scratch) / JOURNAL
                _copy_journal(directory.journal, copy)
                digests[f"data/{JOURNAL}"] = _add(tar, f"data/{JOURNAL}", copy)
            _add_bytes(tar, _DIGESTS, msgspec.json.encode(digests))
        _sync(fresh)
        os.link(fresh, out)  # never over another backup
    return manifest


def _members(party: Party, party_file: Path) -> Iterator[tuple[str, Path]]:
    """(name in the backup, file) of all but the journal."""
    yield _PARTY, party_file
    if party.file.policy:
        yield _POLICY, party.directory / party.file.policy
    private = identity_path(party.file, party.directory)
    own = [
        private,
        *sorted(private.parent.glob(f"{party.file.name}.*.json")),
        *sorted(private.parent.glob("former/*.json")),
    ]
    for path in dict.fromkeys(own):
        yield f"identity/{path.relative_to(private.parent).as_posix()}", path
    peers = party.directory / party.file.peers
    for path in sorted(peers.rglob("*.json")):
        yield f"peers/{path.relative_to(peers).as_posix()}", path
    for path in sorted(party.data_directory.rglob("*")):
        name = path.relative_to(party.data_directory).as_posix()
        if path.is_file() and not path.is_symlink() and name not in _LEFT_OUT:
            yield f"data/{name}", path


def _copy_journal(path: Path, copy: Path) -> None:
    """The journal with what is in its log, as one file."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    copy.chmod(0o600)


def _add(tar: tarfile.TarFile, name: str, path: Path) -> str:
    """Add a file; its SHA-256. The daemon rests, so the file is the same when it is read again."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    tar.add(path, arcname=name, recursive=False)
    return digest


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> str:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
    tar.addfile(entry, io.BytesIO(data))
    return hashlib.sha256(data).hexdigest()


def restore(backup: Path, party_file: Path) -> Manifest:
    """Put a party where `party_file` and what stands in it say; nothing that is there is overwritten.

    Raises BackupError.
    """
    try:
        with tarfile.open(backup, mode="r:") as tar:
            manifest = _manifest(tar)
            members = _whole(tar)
            places = _places(_party_file(tar), party_file)
            targets = [_place_of(member, party_file, places) for member in members]
            _expect_room(places["data"], targets)
            for member, target in zip(members, targets, strict=True):
                _write(tar, member, target)
    except BackupError:
        raise
    except (tarfile.TarError, EOFError, OverflowError, ValueError, OSError) as error:
        # The last three are what tarfile makes of numbers in a damaged header: it seeks to a negative place.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise BackupError(f"{backup}: this is no whole backup: {error}") from None
    return manifest


def _whole(tar: tarfile.TarFile) -> Sequence[tarfile.TarInfo]:
    """The files of the party, when all is there once and as it was. Raises BackupError."""
    *members, last = tar.getmembers()
    names = [member.name for member in members]
    if last.name != _DIGESTS:
        raise BackupError(f"this is no whole backup: it does not end with {_DIGESTS}: take another copy of it")
    try:
        digests = msgspec.json.decode(_bytes(tar, last), type=dict[str, str])
    except msgspec.MsgspecError as error:
        raise BackupError(f"{_DIGESTS} in the backup cannot be read: {error}: take another copy of it") from None
    if sorted(names) != sorted(digests):
        raise BackupError(f"the backup holds other files than its {_DIGESTS} names: take another copy of it")
    for member in members:
        source = tar.extractfile(member) if member.isfile() else None
        if source is None or hashlib.file_digest(source, "sha256").hexdigest() != digests[member.name]:  # type: ignore[arg-type]
            raise BackupError(f"{member.name[:100]!r} in the backup is damaged: take another copy of it")
    return members[1:]  # the first is the manifest


def _manifest(tar: tarfile.TarFile) -> Manifest:
    first = tar.next()
    if first is None or first.name != _MANIFEST or first.size > _MANIFEST_BYTES_MAX:
        raise BackupError(f"this is no backup of a party: it does not begin with {_MANIFEST}")
    try:
        found = msgspec.json.decode(_bytes(tar, first), type=Manifest)
    except msgspec.MsgspecError as error:
        raise BackupError(f"{_MANIFEST} cannot be read: {error}") from None
    if found.format != FORMAT:
        raise BackupError(f"{found.format[:40]!r} is not {FORMAT!r}: restore it with Warren {found.software}")
    return found


def _party_file(tar: tarfile.TarFile) -> PartyFile:
    try:
        return msgspec.toml.decode(_bytes(tar, tar.getmember(_PARTY)), type=PartyFile)
    except (KeyError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise BackupError(f"its {_PARTY} cannot be read: {error}") from None


def _places(file: PartyFile, party_file: Path) -> dict[str, Path]:
    """Where the folders and files of a backup go."""
    directory = party_file.resolve().parent
    return {
        "identity": identity_path(file, directory).parent,
        "peers": directory / file.peers,
        "data": directory / file.data_directory,
        **({_POLICY: directory / file.policy} if file.policy else {}),
    }


def _expect_room(data: Path, targets: Sequence[Path]) -> None:
    """Before anything is written: a data directory of two parties would be neither's."""
    if data.exists() and any(data.iterdir()):
        raise BackupError(f"{data}: this data directory is not empty: move it away first")
    for target in targets:
        if target.exists():
            raise BackupError(f"{target}: exists already and is not overwritten: move it away first")


def _place_of(member: tarfile.TarInfo, party_file: Path, places: dict[str, Path]) -> Path:
    """Where a file goes. Raises BackupError for one that would leave its folder, or is none."""
    path = PurePosixPath(member.name)
    if not member.isfile() or path.is_absolute() or ".." in path.parts or "\0" in member.name:
        raise BackupError(f"{member.name[:100]!r} in the backup is no file of a party")
    if member.name == _PARTY:
        return party_file
    if member.name == _POLICY and _POLICY in places:
        return places[_POLICY]
    if len(path.parts) > 1 and path.parts[0] in _FOLDERS:
        return places[path.parts[0]].joinpath(*path.parts[1:])
    raise BackupError(f"{member.name[:100]!r} in the backup is no file of a party")


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    source = tar.extractfile(member)
    assert source is not None
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        while block := source.read(2**20):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    source = tar.extractfile(member) if member.isfile() else None
    return source.read() if source is not None else b""


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
