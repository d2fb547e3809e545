"""Whether a full disk holds a daemon up, for its operator."""

import errno
import time
from collections.abc import Callable
from typing import Final

LINGER_S: Final = 5.0
"""How long a failure is told: longer than the pause between two tries, so that a disk without room is told all the
while, although a small commit may find a place now and then."""

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers of a write for which there is no room: disk, quota, the largest file that the process may write."""


DISK_FULL: Final = "disk_full"
"""The code of a task that found no room for what it has to keep: it is no failure of the task."""


class DiskWatch:
    """Remembers the latest reason why something that must be kept could not be written."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._cause = ""
        self._at = 0.0

    def failed(self, cause: str) -> None:
        """Something could not be written and will be tried again."""
        self._cause, self._at = cause, self._clock()

    @property
    def trouble(self) -> str:
        """Why; empty when everything that was tried lately could be written."""
        return self._cause if self._cause and self._clock() - self._at < LINGER_S else ""
