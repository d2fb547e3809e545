"""Changing a party's keys, and taking a partner's new ones: files only, with the daemon stopped."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import func, select

from messages.handover import follow, hand_over, party_of
from messages.identity import Identity, PublicIdentity
from services.audit.exporting import reading
from services.engine.jobs import Status
from services.party.configuration import ConfigError, Party, identity_path, read_identity, read_peers, write_private
from services.party.former import former_identity, former_peer
from services.store.data_directory import JOURNAL, DataDirectory
from services.store.journal_schema import jobs, outbox

HANDOVER: Final = ".handover.json"


@dataclass(frozen=True, slots=True)
class Changed:
    """What is new: the public identity, its file, and the hand-over for partners."""

    public: PublicIdentity
    public_file: Path
    handover: Path


def change_keys(party: Party, *, end_running: bool, chained: bool) -> Changed:
    """Give a party new keys; the former ones stay for audits of former jobs.

    `chained`: the former keys sign for the new ones. Without, whoever knows the former ones can do nothing with them.
    A change that was cut off is finished by the next one. Raises ConfigError, DirectoryLocked.
    """
    path = identity_path(party.file, party.directory)
    fresh_path, handover = path.with_name(f"{path.name}.new"), path.parent / f"{party.file.name}{HANDOVER}"
    public_file = path.parent / f"{party.file.name}.public.json"
    with DataDirectory(party.data_directory):
        if not end_running:
            _expect_rest(party)
        kept = former_identity(party, party.identity.public.digest())
        if not kept.exists():
            write_private(kept, party.identity.to_bytes())
        if not fresh_path.exists():
            write_private(fresh_path, Identity.generate(party.file.name).to_bytes())
        fresh = read_identity(fresh_path)
        if chained:
            earlier = handover.read_bytes() if handover.exists() else b""
            if not _leads_to(earlier, party.identity.public, fresh.public):
                _replace(handover, hand_over(party.identity, fresh, earlier))
        else:
            handover.unlink(missing_ok=True)
        fresh_path.replace(path)
        _replace(public_file, fresh.public.to_json().encode())
    return Changed(fresh.public, public_file, handover)


def _leads_to(data: bytes, known: PublicIdentity, fresh: PublicIdentity) -> bool:
    return bool(data) and any(_same(data, known, fresh))


def _same(data: bytes, known: PublicIdentity, fresh: PublicIdentity) -> list[bool]:
    try:
        return [follow(data, known) == fresh]
    except ValueError:
        return []


def _expect_rest(party: Party) -> None:
    """No job runs, and partners have receipts for all that was signed with the present keys. Raises ConfigError."""
    if not party.file.journal and not (party.data_directory / JOURNAL).exists():
        return
    with reading(party) as connection:
        running = select(jobs.c.job).where(jobs.c.status == Status.RUNNING.value).order_by(jobs.c.job)
        names = list(connection.scalars(running))
        unsent = connection.scalar(select(func.count()).select_from(outbox)) or 0
    if names or unsent:
        what = (
            f"jobs run with the present keys ({', '.join(names)})" if names else "partners have not confirmed all of it"
        )
        raise ConfigError(
            f"{party.file.name}: {what}: start the daemon and let them end, or give --end-running, which ends them at "
            "the daemon's next start"
        )


def update_peer(file: Path, peers: Path) -> PublicIdentity:
    """Take the new keys of a partner, if those that are known lead to them. Raises ConfigError, HandoverError."""
    data = file.read_bytes()
    name, known = party_of(data), read_peers(peers)
    if name not in known:
        raise ConfigError(f"{peers}: {name} is no peer; a hand-over is for those who know the former keys")
    fresh = follow(data, known[name])
    if fresh != known[name]:
        keep_former(peers, known[name])
        _replace(_file_of(peers, known[name]), fresh.to_json().encode())
    return fresh


def keep_former(peers: Path, known: PublicIdentity) -> None:
    """Keep a partner's keys for audits of former jobs."""
    kept = former_peer(peers, known.name, known.digest())
    kept.parent.mkdir(parents=True, exist_ok=True)
    _replace(kept, known.to_json().encode())


def _file_of(peers: Path, known: PublicIdentity) -> Path:
    for path in sorted(peers.glob("*.json")):
        if PublicIdentity.from_json(path.read_bytes()) == known:
            return path
    raise ConfigError(f"{peers}: the file of {known.name} is gone")


def _replace(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
