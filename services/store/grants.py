"""What the release ledgers of a party hold over all partners, for people: read only, nothing is made."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np


@dataclass(frozen=True, slots=True)
class Grant:
    """One file of a ledger.

    Attributes:
        partner: to whom it was granted.
        job: the job that asked.
        rows: rows that the job used, or that it scored; as often as it scored them.
        entries: gradient and Gram entries granted, or released once the job is over; 0 for scores.
        scores: whether the rows were granted for scoring, or for the evaluations of a job that stops early.
        written_at: when the file was written last, seconds since 1970.

    """

    partner: str
    job: str
    rows: int
    entries: int
    scores: bool
    written_at: float


class _Scores(msgspec.Struct, frozen=True):
    rows: int
    at: float


def grants(data_directory: Path) -> list[Grant]:
    """All grants, oldest first. A file that is being replaced at this moment, or is damaged, is left out."""
    found = [
        grant
        for path in sorted((data_directory / "ledger").glob("*/*"))
        if path.suffix in {".npz", ".scores", ".projections"} and (grant := _read(path)) is not None
    ]
    return sorted(found, key=lambda grant: (grant.written_at, grant.partner, grant.job))


def _read(path: Path) -> Grant | None:
    try:
        if path.suffix == ".scores":
            scores = msgspec.json.decode(path.read_bytes(), type=_Scores)
            return Grant(path.parent.name, path.stem, scores.rows, 0, True, scores.at)
        written_at = path.stat().st_mtime
        with np.load(path) as record:
            if path.suffix == ".projections":
                scored = len(record["rows"]) * int(record["count"])
                return Grant(path.parent.name, path.stem, scored, 0, True, written_at)
            return Grant(path.parent.name, path.stem, len(record["rows"]), int(record["entries"]), False, written_at)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, msgspec.MsgspecError):
        return None
