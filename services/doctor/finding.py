"""What a check found, and what to do about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from services.party.configuration import PartyFile


class Level(StrEnum):
    """How bad it is: `fault` keeps jobs from running, or secrets from being kept; `unknown` could not be looked at."""

    FINE = "fine"
    NOTE = "note"
    UNKNOWN = "unknown"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: what was looked at: `files`, `clock`, `broker`, `tls`, `rights`, `queues`, `links`, `disk`, `back end`,
            `journal`.
        code: what was found, the same word in docs/troubleshooting.md; empty where all is well.
        what: a sentence, free of secrets.
        advice: what to do; empty where there is nothing to do.

    """

    check: str
    level: Level
    what: str
    code: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """A party as its file says, whatever is wrong with the rest.

    Attributes:
        path: party.toml.
        file: what stands in it.
        peers: names of the peers whose public files can be read.

    """

    path: Path
    file: PartyFile
    peers: tuple[str, ...]

    @property
    def directory(self) -> Path:
        """What relative paths begin at."""
        return self.path.resolve().parent

    @property
    def data_directory(self) -> Path:
        """Where the daemon keeps everything."""
        return self.directory / self.file.data_directory


def fine(check: str, what: str) -> Finding:
    """All is well."""
    return Finding(check, Level.FINE, what)


def note(check: str, code: str, what: str, advice: str = "") -> Finding:
    """Worth knowing, and no fault."""
    return Finding(check, Level.NOTE, what, code, advice)


def unknown(check: str, what: str, advice: str) -> Finding:
    """Could not be looked at."""
    return Finding(check, Level.UNKNOWN, what, "", advice)


def fault(check: str, code: str, what: str, advice: str) -> Finding:
    """Has to be put right."""
    return Finding(check, Level.FAULT, what, code, advice)


def any_fault(findings: Sequence[Finding]) -> bool:
    """Whether one of them has to be put right."""
    return any(finding.level is Level.FAULT for finding in findings)
