"""The data directory of a party: its places, and the lock that makes a daemon its only owner."""

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

JOURNAL: Final = "journal.sqlite"
BLOBS: Final = "blobs"
SECRETS: Final = "secrets"


class DirectoryLocked(Exception):
    """Another daemon works on this data directory."""


class DataDirectory:
    """Paths of one party, locked from construction until `close`.

    Other users of the machine are kept out of it, also of one that was made before: files in it that a library makes
    (the journal and its write-ahead log) have the modes that the process is given.

    Raises:
        DirectoryLocked: another process (or daemon of this one) has the lock.

    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        if stat.S_IMODE(root.stat().st_mode) & 0o077:
            with suppress(PermissionError):  # of another owner: his to keep
                root.chmod(0o700)
        self._lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise DirectoryLocked(f"another daemon works on {root}: stop it first") from None

    @property
    def journal(self) -> Path:
        """The journal's file, where no other URL is configured."""
        return self.root / JOURNAL

    @property
    def mark(self) -> Path:
        """What the journal has to fit: see `services.store.journal_mark`."""
        return self.root / "journal.mark"

    @property
    def blobs(self) -> Path:
        """Segment files."""
        return self.root / BLOBS

    @property
    def secrets(self) -> Path:
        """Job secrets."""
        return self.root / SECRETS

    def close(self) -> None:
        """Let the lock go."""
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def sync_directory(folder: Path) -> None:
    """Make the names in a directory durable: what was made, renamed or deleted there. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
