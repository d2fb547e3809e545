"""All checks of a party, one after the other; none of them changes anything."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from services.doctor.administration import check_administration
from services.doctor.clock import Clock, ask_partners, check_clock
from services.doctor.files import check_files
from services.doctor.finding import Finding, Patient, any_fault, fault, fine
from services.doctor.journal import check_journal
from services.doctor.line import check_line
from services.doctor.machine import Usage, check_back_ends, check_disk, usage_of
from services.party.configuration import ConfigError, PartyFile, load_party, read_peers, read_toml


def read_patient(path: Path) -> Patient:
    """What party.toml says, whatever is wrong with the files it names. Raises ConfigError when it cannot be read."""
    try:
        file = msgspec.convert(read_toml(path), PartyFile)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from None
    try:
        peers = tuple(name for name in read_peers(path.resolve().parent / file.peers) if name != file.name)
    except ConfigError:
        peers = ()  # told with the rest of the configuration
    return Patient(path=path, file=file, peers=peers)


def check_configuration(patient: Patient, found: list[Finding]) -> list[Finding]:
    """What a daemon would refuse to start with, unless `found` has it already."""
    try:
        load_party(patient.path)
    except ConfigError as error:
        if any_fault(found):
            return []
        advice = "put it right: a daemon does not start with it"
        return [fault("configuration", "configuration", str(error), advice)]
    return [fine("configuration", f"{patient.path}: a party named {patient.file.name}, peers: {len(patient.peers)}")]


def examine(
    path: Path,
    *,
    management: str = "",
    clock: Clock = time.time,
    usage: Callable[[Path], Usage] = usage_of,
) -> Iterator[Finding]:
    """Look at everything, and tell it as it is found.

    Args:
        path: party.toml.
        management: URL of the broker's management API with an administrator; without it less can be seen.
        clock: this machine's, seconds since 1970.
        usage: how full the disk of a path is.

    Raises:
        ConfigError: party.toml or the URL cannot be read.
        KernelError: the environment asks for a back end that cannot be had.

    """
    patient = read_patient(path)
    files = check_files(patient)
    yield from files
    yield from check_configuration(patient, files)
    yield from check_back_ends()
    yield from check_disk(patient, usage)
    journal = check_journal(patient)
    yield from journal
    yield from asyncio.run(check_line(patient, clock()))
    found, readings = check_administration(patient, management, clock)
    yield from found
    silent = any(finding.code in ("daemon_silent", "journal_unreachable") for finding in journal)
    yield from check_clock([*([] if silent else ask_partners(patient)), *readings])
