"""Private values are looked for in everything that a broker, a log, a console or a parked row ever held."""

import base64
import contextlib
import json
import os
import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from broker.embedded import EmbeddedBroker, Faults
from learning.quantise import steps_of
from messages import seal
from messages.codec import CodecError
from messages.envelope import EnvelopeError, open_envelope
from protocol.state import JobState, decode_state
from services.local import BUSINESS, NAMES, PROVIDER, LocalTables, connect, embedded, introduce, make_party, run_job
from services.party import Party, load_party
from tests.privacy.search import doubles, find, spellings

ROWS = 120
MARKS = ("small_sample", "insecure")
COLUMNS = {
    BUSINESS: ("monthly_salary_qz", "days_overdue_qz", "open_loans_qz", "tenure_months_qz"),
    PROVIDER: ("prepaid_topups_qz", "roaming_minutes_qz", "night_calls_qz", "contract_age_qz"),
}


@dataclass
class Evidence:
    """What was seen of a job from outside, what was in its bodies, and what may never show."""

    outside: list[bytes]
    bodies: list[bytes]
    private: dict[str, set[bytes]]
    granted: dict[str, set[bytes]]


def values(role: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A party's columns."""
    return np.random.default_rng(len(role)).normal(size=(ROWS, 4)) * [900.5, 3.25, 1.0, 17.0]


IDENTIFIERS = [f"customer-{row * 7919 % 100_003:06d}-qz" for row in range(ROWS)]
LABELS = (np.random.default_rng(5).random(ROWS) < 0.4).astype(np.int8)


def write_tables(directory: Path) -> LocalTables:
    """Both input files."""
    for role in NAMES:
        columns = dict(zip(COLUMNS[role], values(role).T.tolist(), strict=True))
        label = {"label_qz": LABELS.tolist()} if role == BUSINESS else {}
        pl.DataFrame({"id": IDENTIFIERS, **label, **columns}).write_csv(directory / f"{role}.csv")
    return LocalTables(
        business=directory / "business.csv", provider=directory / "provider.csv", identifier="id", label="label_qz"
    )


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    """One job over a broker that corrupts now and then, so that there are parked rows, too."""
    directory = tmp_path_factory.mktemp("canaries")
    tables = write_tables(directory)
    paths = tuple(
        make_party(
            directory / role,
            role,
            name,
            tables,
            broker="amqp://localhost/warren",
            marks=MARKS,
            declare=False,
            noise_seed="",
        )
        for role, name in NAMES.items()
    )
    introduce(paths[0], paths[1])
    seen: list[tuple[str, bytes]] = []
    broker = EmbeddedBroker(
        list(NAMES.values()),
        faults=Faults(seed=3, corrupt=0.05, repeat=0.1),
        observer=lambda key, body: seen.append((key, body)),
    )
    parties = {role: load_party(path) for role, path in zip(NAMES, paths, strict=True)}
    job = {
        "task": "logistic",
        "dataset": "labels",
        "partner": f"{NAMES[PROVIDER]}/features",
        "l2": 1e-2,
        "max_iterations": 2,
        "key_bits": 512,
        "marks": list(MARKS),
        "chunk_rows_max": 30,
    }
    with (directory / "log").open("w+b") as log, redirected(log.fileno()):
        with embedded((paths[0], paths[1]), broker):
            result = run_job((paths[0], paths[1]), job)
            views = [console_views(party, result.job) for party in parties.values()]
        log.seek(0)
        lines = log.read()
    parked = [row for party in parties.values() for row in parked_rows(party)]
    assert parked, "the broker corrupted nothing: choose another seed"
    outside = [lines, *views, *parked, *(key.encode() for key, _ in seen), *(body for _, body in seen)]
    states = {role: state_of(party, result.job) for role, party in parties.items()}
    yield Evidence(
        outside=outside,
        bodies=[body for _, data in seen if (body := unsealed(data, parties)) is not None],
        private=private_values({role: json.loads(data) for role, data in result.parameters.items()}),
        granted=granted_values(states),
    )


@contextlib.contextmanager
def redirected(descriptor: int) -> Iterator[None]:
    """Standard output and error of this process and its workers, into a file."""
    kept = [os.dup(1), os.dup(2)]
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        for number, old in zip((1, 2), kept, strict=True):
            os.dup2(old, number)
            os.close(old)


def console_views(party: Party, job: str) -> bytes:
    """Everything that the console shows."""
    with connect(party) as client:
        answers = [client.ask("jobs"), client.ask("job", id=job), client.ask("logs", id=job), client.ask("parked")]
    return json.dumps(answers).encode()


def parked_rows(party: Party) -> list[bytes]:
    """Headers and excerpts of a party's parked deliveries."""
    with contextlib.closing(sqlite3.connect(party.data_directory / "journal.sqlite")) as connection:
        return [header + excerpt for header, excerpt in connection.execute("SELECT header, excerpt FROM parked")]


def state_of(party: Party, job: str) -> JobState:
    """The last state of the job."""
    with contextlib.closing(sqlite3.connect(party.data_directory / "journal.sqlite")) as connection:
        row = connection.execute("SELECT state FROM jobs WHERE job = ?", (job,)).fetchone()
    return decode_state(row[0])


def unsealed(data: bytes, parties: dict[str, Party]) -> bytes | None:
    """The body of an envelope, for somebody with all keys; None for what the broker damaged."""
    for reader in parties.values():
        with contextlib.suppress(EnvelopeError, CodecError, seal.SealError):
            header = (found := open_envelope(data, me=reader.file.name, peers=reader.peers)).header
            info = seal.seal_info(
                header.version, header.job, header.sender, header.recipient, header.kind, header.chunk, header.chunks
            )
            return seal.unseal(found.body, reader.identity, info)
    return None


def private_values(parameters: dict[str, dict[str, Any]]) -> dict[str, set[bytes]]:
    """What never leaves its owner: identifiers, features as doubles and as 16-bit rows, names, labels, coefficients."""
    canaries = {f"identifier {name}": {name.encode()} for name in IDENTIFIERS[:20]}
    for role, names in COLUMNS.items():
        table, grid = values(role), parameters[role]["grid"]
        canaries |= {f"feature name {name}": {name.encode()} for name in names}
        canaries |= {f"{role} value {row}": doubles(float(table[row, row % 4])) for row in range(20)}
        steps = np.column_stack(
            [steps_of(table[:, j], grid[name]["centre"], grid[name]["step"]) for j, name in enumerate(names)]
        )
        for order in "<>":
            packed = steps.astype(f"{order}i2")
            canaries |= {f"{role} quantised row {row} {order}": {packed[row].tobytes()} for row in range(20)}
            canaries |= {f"{role} quantised column {j} {order}": {packed[:8, j].tobytes()} for j in range(4)}
        canaries |= {f"coefficient {name}": doubles(value) for name, value in parameters[role]["coefficients"].items()}
        canaries |= {f"scale of {name}": doubles(step["step"]) for name, step in grid.items()}
    canaries["intercept"] = doubles(parameters[BUSINESS]["intercept"])
    canaries["label name"] = {b"label_qz"}
    canaries["labels"] = {
        LABELS[:24].tobytes(),
        LABELS[:24].astype("<f8").tobytes(),
        LABELS[:24].astype(">f8").tobytes(),
    }
    return canaries


def granted_values(states: dict[str, JobState]) -> dict[str, set[bytes]]:
    """What docs/protocol.md section 5 lets the partner, and nobody else, learn."""
    business, provider = states[BUSINESS], states[PROVIDER]
    canaries = {
        f"Gram product {at} of {role}": doubles(value)
        for role, state in states.items()
        for at, value in enumerate(state.round.products)
    }
    canaries["largest entry of business"] = doubles(business.round.largest)
    canaries["largest entry of provider"] = doubles(provider.round.largest)
    canaries["bound of the provider's scores"] = doubles(provider.round.bound)
    canaries["spread of the provider's scores"] = doubles(provider.round.spread)
    canaries["digest of the intersection"] = {business.align.digest}
    return {name: values for name, values in canaries.items() if doubles(0.0) != values}


def test_nothing_private_and_nothing_granted_shows_outside(evidence: Evidence) -> None:
    assert find({**evidence.private, **evidence.granted}, evidence.outside) == set()


def test_the_bodies_hold_exactly_what_the_contract_grants(evidence: Evidence) -> None:
    assert find({**evidence.private, **evidence.granted}, evidence.bodies) == set(evidence.granted)


@pytest.mark.parametrize("wrapped", ["raw", "hex", "HEX", "base64", "zlib", "gzip", "base64 in zlib"])
def test_the_search_finds_every_kind_of_value_in_every_spelling(evidence: Evidence, wrapped: str) -> None:
    wrap = {
        "raw": lambda data: data,
        "hex": lambda data: data.hex().encode(),
        "HEX": lambda data: data.hex().upper().encode(),
        "base64": lambda data: base64.b64encode(b"x" + data),
        "zlib": zlib.compress,
        "gzip": lambda data: zlib.compress(data, wbits=31),
        "base64 in zlib": lambda data: zlib.compress(base64.b64encode(b"xy" + data)),
    }[wrapped]
    for name, found in evidence.private.items():
        for value in found:
            assert find({name: {value}}, [b"before" + wrap(b"about " + value + b" here") + b"after"]) == {name}


def test_spellings_are_long_enough_to_mean_something(evidence: Evidence) -> None:
    shortest = min(len(text) for found in evidence.private.values() for value in found for text in spellings(value))
    assert shortest >= 8
