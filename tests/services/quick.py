"""Two parties and a job that takes a second or two: short keys, few rows, whole daemons."""

from collections.abc import Mapping
from pathlib import Path

from services.daemon.local import BUSINESS, NAMES, PROVIDER
from tests.parties import NOWHERE, example_tables, make_parties
from tests.services.bureau import JOB, MARKS, ROWS

__all__ = ["JOB", "parties"]


def parties(directory: Path, urls: Mapping[str, str] = NOWHERE, names: Mapping[str, str] = NAMES) -> tuple[Path, Path]:
    """party.toml of business and provider in a fresh directory."""
    directory.mkdir()
    paths = make_parties(directory, example_tables(directory, ROWS), marks=MARKS, names=names, urls=urls)
    return paths[BUSINESS], paths[PROVIDER]
