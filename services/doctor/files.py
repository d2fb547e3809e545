"""Files that hold secrets: nobody but their owner may read them."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from services.doctor.finding import Finding, Patient, fault, fine
from services.store.data_directory import SECRETS


def check_files(patient: Patient) -> list[Finding]:
    """The modes of all files of a party that hold a key or a password."""
    found = [finding for path, what in secret_files(patient) for finding in _look(path, what)]
    if found:
        return found
    return [fine("files", "files with keys and passwords are readable by their owner only")]


def secret_files(patient: Patient) -> Iterator[tuple[Path, str]]:
    """Files that exist or should, and what each is."""
    file, directory = patient.file, patient.directory
    yield directory / (file.identity or f"identity/{file.name}.private.json"), "the private identity"
    broker = urlsplit(file.broker)
    if broker.password:
        yield patient.path, "party.toml, with the broker's password,"
    for key in parse_qs(broker.query).get("keyfile", []):
        yield directory / key, "the key of the broker's client certificate"
    if ":" in file.journal.partition("://")[2].partition("@")[0]:
        yield patient.path, "party.toml, with the journal's password,"
    for dataset in file.dataset:
        credentials = getattr(dataset, "credentials", "")
        if credentials and not credentials.startswith("env:"):
            yield directory / credentials, f"the credentials of data set {dataset.name}"
    secrets = patient.data_directory / SECRETS
    for path in sorted(secrets.iterdir()) if secrets.is_dir() else ():
        yield path, "a job's secret"


def _look(path: Path, what: str) -> list[Finding]:
    try:
        seen = path.stat()
    except OSError as error:
        advice = f"put it there, or correct its path in party.toml ({(error.strerror or '').lower()})"
        return [fault("files", "key_file_missing", f"{what} {path} cannot be read", advice)]
    mode = stat.S_IMODE(seen.st_mode)
    if mode & 0o077:
        others = f"other users of this machine can read {what} {path} (mode {mode:04o})"
        advice = f"run `chmod 600 {path}`; if others have been on this machine, treat what is in it as known to them"
        return [fault("files", "key_file_open", others, advice)]
    if not os.access(path, os.R_OK):
        return [fault("files", "key_file_missing", f"{what} {path} belongs to another user", f"run `chown` on {path}")]
    return []
