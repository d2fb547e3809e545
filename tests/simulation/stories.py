"""Schedules in files: what went wrong once, and what should never go wrong."""

from pathlib import Path
from typing import Final

import msgspec

from tests.simulation.schedule import Schedule

STORIES: Final = Path(__file__).parent / "kept"


def stories_of(job: str) -> Path:
    """Where the stories of a job are kept."""
    return STORIES if job == "training" else STORIES / job


def load(path: Path) -> Schedule:
    """A kept schedule."""
    return msgspec.json.decode(path.read_bytes(), type=Schedule)


def save(directory: Path, schedule: Schedule, name: str = "") -> Path:
    """Keep a schedule; it is played in every test run from now on."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name or f'seed-{schedule.seed}'}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(schedule), indent=2) + b"\n")
    return path
