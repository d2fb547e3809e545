"""The daemon's log in a file that may be moved away: by logrotate, with or without telling the daemon."""

import os
from pathlib import Path


class LogFile:
    """Appends to a file, mode 0600, and makes it anew when it was moved or removed: the daemon and its workers each.

    What is written goes out at once, in one piece, so that lines of several processes do not mix. Raises OSError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._place: tuple[int, int] | None = None
        self.reopen()

    def write(self, text: str) -> int:
        """Append; first where the file is now, if it is another one."""
        if self._moved():
            self.reopen()
        os.write(self._file, text.encode())
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""

    def reopen(self) -> None:
        """Open the file that has the name now; there may be none yet."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        before, self._file = self._file, fresh
        if before >= 0:
            os.close(before)
        found = os.fstat(fresh)
        self._place = (found.st_dev, found.st_ino)

    def _moved(self) -> bool:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return True
        return (found.st_dev, found.st_ino) != self._place
