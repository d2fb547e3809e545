"""A party's data directory on a disk of 64 MiB that can be filled.

As root it is a file system of its own: ext4 on a loop device, or tmpfs where there is no loop device. Otherwise the
kernel is told to let the daemon's processes write no file (RLIMIT_FSIZE 0): blobs and journal fail alike, with another
error number.
"""

import contextlib
import os
import resource
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Protocol, Self

from tests.endurance.town import Town

DISK_BYTES: Final = 64 * 2**20
REFILL_S: Final = 0.005
_UNLIMITED: Final = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


class Disk(Protocol):
    """Where a party's data lies. `kind` says for people what it is."""

    kind: str

    def fill(self) -> None:
        """From now on nothing more can be written, whatever is freed."""

    def make_room(self) -> None:
        """The end of it."""

    def close(self) -> None:
        """Take the disk away, with what is on it."""


class MountedDisk:
    """A file system on `directory`, which must be empty. Raises OSError where it cannot be mounted."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._filler = directory / ".filler"
        self._image = directory.with_name(f"{directory.name}.img")
        self._full = threading.Event()
        self._thread: threading.Thread | None = None
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._mount_loop():
            self.kind = "ext4 of 64 MiB on a loop device"
        else:
            _run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "tmpfs", str(directory))
            self.kind = "tmpfs of 64 MiB"
        directory.chmod(0o700)

    def _mount_loop(self) -> bool:
        with self._image.open("wb") as image:
            image.truncate(DISK_BYTES)
        try:
            # No blocks for the superuser, who may well be the one who tests.
            _run("mkfs.ext4", "-q", "-m", "0", str(self._image))
            _run("mount", "-o", "loop", str(self._image), str(self._directory))
        except OSError:
            self._image.unlink()
            return False
        shutil.rmtree(self._directory / "lost+found")
        return True

    def fill(self) -> None:
        """See `Disk`: room that the daemon frees is taken at once."""
        self._full.set()
        self._take_all()
        self._thread = threading.Thread(target=self._keep_full, daemon=True)
        self._thread.start()

    def make_room(self) -> None:
        """See `Disk`."""
        self._full.clear()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._filler.unlink(missing_ok=True)

    def close(self) -> None:
        """See `Disk`. Every process that has files there must have ended."""
        self.make_room()
        _run("umount", str(self._directory))
        self._image.unlink(missing_ok=True)

    def _keep_full(self) -> None:
        while self._full.is_set():
            self._take_all()
            threading.Event().wait(REFILL_S)

    def _take_all(self) -> None:
        file = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            for size in (2**20, 2**12, 1):
                with contextlib.suppress(OSError):
                    while os.write(file, bytes(size)):
                        pass
        finally:
            os.close(file)


class LimitedDisk:
    """No disk: a limit on the processes that `processes` names."""

    kind = "a limit on the daemon's processes (RLIMIT_FSIZE 0)"

    def __init__(self, processes: Callable[[], Iterable[int]]) -> None:
        self._processes = processes

    def fill(self) -> None:
        """See `Disk`."""
        self._limit(0)

    def make_room(self) -> None:
        """See `Disk`."""
        self._limit(resource.RLIM_INFINITY)

    def close(self) -> None:
        """See `Disk`."""

    def _limit(self, size: int) -> None:
        for process in self._processes():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(process, resource.RLIMIT_FSIZE, (size, _UNLIMITED[1]))


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        raise OSError(f"{command[0]}: {error.stderr.decode(errors='replace').strip()}") from None


class Disks:
    """The disks of both parties, taken away together. `limited`: do not mount even where one can."""

    def __init__(self) -> None:
        self._disks: dict[str, Disk] = {}

    def place(self, town: Town, role: str, *, limited: bool = False) -> None:
        """Give a party's data directory a disk of its own, before its daemon starts."""

        def processes() -> list[int]:
            return [town.processes[role].pid, *(worker.pid for worker in town.workers(role))]

        try:
            self._disks[role] = LimitedDisk(processes) if limited else MountedDisk(town.parties[role].data_directory)
        except OSError:
            self._disks[role] = LimitedDisk(processes)

    def __getitem__(self, role: str) -> Disk:
        return self._disks[role]

    @property
    def kind(self) -> str:
        """What they are."""
        return " and ".join(sorted({disk.kind for disk in self._disks.values()}))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for disk in self._disks.values():
            disk.close()
