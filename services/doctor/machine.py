"""The machine: room on the disk, and what computes."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from services.doctor.finding import Finding, Patient, fault, fine, note
from services.party.back_ends import back_ends

DISK_FULL_SHARE: Final = 0.95
DISK_FILLING_SHARE: Final = 0.85
DISK_FREE_MIN: Final = 256 * 2**20
"""Bytes: less than one window of bulk for each of a few jobs."""


class Usage(Protocol):
    """What `shutil.disk_usage` gives, bytes."""

    @property
    def used(self) -> int:
        """In use."""

    @property
    def free(self) -> int:
        """Free for this user."""


def usage_of(path: Path) -> Usage:
    """How full a disk is."""
    return shutil.disk_usage(path)


def check_disk(patient: Patient, usage: Callable[[Path], Usage] = usage_of) -> list[Finding]:
    """How full the disk of the data directory is."""
    place = patient.data_directory
    while not place.exists():
        place = place.parent
    seen = usage(place)
    # As `df` counts: what is kept for the system is neither used nor free.
    share = round(seen.used / (seen.used + seen.free), 2)
    what = f"the disk of {patient.data_directory} is {share:.0%} full, {seen.free / 2**30:,.1f} GiB are free"
    advice = (
        "make room: `warren purge ID` for jobs that have been audited, old results and logs, or a larger disk. A full "
        "disk loses nothing, but every job stands still until there is room"
    )
    if share >= DISK_FULL_SHARE or seen.free < DISK_FREE_MIN:
        return [fault("disk", "disk_full", what, advice)]
    if share >= DISK_FILLING_SHARE:
        return [note("disk", "disk_filling", what, advice)]
    return [fine("disk", what)]


def check_back_ends() -> list[Finding]:
    """Whether the fastest code that this machine could run is what runs. Raises KernelError for a wrong choice."""
    found = []
    for part in back_ends():
        what = f"{part.work}: {part.name}, {part.why}"
        if part.fallen_back:
            found.append(fault("back end", "back_end_fallen_back", what, part.advice))
        else:
            found.append(fine("back end", what))
    return found
