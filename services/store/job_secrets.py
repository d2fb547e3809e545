"""Job secrets: 32 bytes per running job, each in a file of its own, mode 0600, erased when the job ends.

All protocol randomness of a job is expanded from it, so that a task that is run again gives the same bytes.
It is durable before the commit that starts the job, and in no journal, log, export or backup.
"""

import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Final

from services.store.data_directory import sync_directory

SECRET_BYTES: Final = 32


class JobSecrets:
    """The directory of job secrets of one party. `entropy` gives so many random bytes."""

    def __init__(self, directory: Path, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._directory = directory
        self._entropy = entropy
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, job: str) -> Path:
        """Where the secret of a job lies."""
        return self._directory / job

    def create(self, job: str) -> None:
        """Make a secret, durable on return. A leftover of a start that was not committed is replaced."""
        fresh = self._directory / f".{job}"
        fresh.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        file = os.open(fresh, flags, 0o600)
        try:
            os.write(file, self._entropy(SECRET_BYTES))
            os.fsync(file)
        finally:
            os.close(file)
        fresh.rename(self.path(job))
        sync_directory(self._directory)

    def lost(self, running: Iterable[str]) -> list[str]:
        """Which of these jobs have no secret, in their order."""
        return [job for job in running if not self.path(job).exists()]

    def erase(self, job: str) -> None:
        """Erase the secret of a job; there may be none."""
        self.path(job).unlink(missing_ok=True)
        sync_directory(self._directory)

    def sweep(self, running: Collection[str]) -> int:
        """Erase every secret whose job does not run; returns how many there were. At start."""
        stray = [path for path in sorted(self._directory.iterdir()) if path.name not in running]
        for path in stray:
            path.unlink()
        sync_directory(self._directory)
        return len(stray)


def read_secret(path: Path) -> bytes:
    """The secret in a file. Raises FileNotFoundError when the job has ended, ValueError when it is damaged."""
    secret = path.read_bytes()
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"the job secret {path.name} has {len(secret)} bytes, not {SECRET_BYTES}")
    return secret
