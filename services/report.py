"""What a finished job of both parties on one machine looks like, for people and for programs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.tables import Table


@dataclass(frozen=True, slots=True)
class Finished:
    """Everything a report speaks of. Bytes are those of both parties' result files."""

    business: Table
    provider: Table
    parameters_business: bytes
    parameters_provider: bytes
    history: bytes
    seconds: dict[str, float]
    core_seconds: float
    bytes_business_to_provider: int
    bytes_provider_to_business: int
    key_bits: int
    tolerance: float
    backend: str
    transport: str


def json_object(finished: Finished) -> dict[str, Any]:
    """The object of `warren local --json`."""
    raise LookupError(finished.transport)


def write_outputs(directory: Path, finished: Finished) -> None:
    """Result files and plots."""
    raise LookupError(str(directory) + finished.transport)
