"""Private values are looked for in everything that a broker, a log, a console or a parked row ever held."""

import base64
import contextlib
import json
import logging
import math
import os
import sqlite3
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import structlog

from broker.embedded import EmbeddedBroker, Faults
from learning.columns.quantise import steps_of
from messages import codec, seal
from messages.envelope import EnvelopeError, open_envelope
from messages.keys import parse_routing_key
from protocol.effects import BlobRef
from protocol.state import JobState, decode_state
from services.daemon.local import BUSINESS, NAMES, PROVIDER, LocalTables, connect, embedded
from services.daemon.local_job import run_job
from services.party.configuration import Party, load_party
from services.party.logs import LogBook, configure
from services.store.segments import BlobDamaged, Location, read
from tests.parties import make_parties
from tests.privacy.search import doubles, find, sequences, spellings

ROWS = 120
MARKS = ("small_sample", "insecure")
COLUMNS = {
    BUSINESS: ("monthly_salary_qz", "days_overdue_qz", "open_loans_qz", "tenure_months_qz"),
    PROVIDER: ("prepaid_topups_qz", "roaming_minutes_qz", "night_calls_qz", "contract_age_qz"),
}

# docs/protocol.md section 5, message by message: a field that is not here has not been granted.
FIELDS = {
    "job.propose": {"contract"},
    "job.accept": {"contract_digest", "data_digest", "schema_digest", "rows", "columns"},
    "parts.seed": {"seed"},
    "align.propose": {"suite", "count", "chunk_items", "schema_digest", "commitment"},
    "align.accept": {"suite", "count", "chunk_items", "schema_digest", "commitment"},
    "align.list": {"points"},
    "align.echo": {"tokens"},
    "align.result": {"count", "digest", "iterations_allowed"},
    "features.codes": {"codes", "modulus", "proof", "slot_bits", "columns_per_ciphertext"},
    "features.encrypted": {"first_row", "rows", "ciphertexts"},
    "score.range": {"iteration", "bound", "spread"},
    "link.terms": {"iteration", "first_row", "rows", "terms", "bound", "stretch", "ciphertexts"},
    "residual.share": {"iteration", "first_row", "rows", "ciphertexts"},
    "cross.term": {"iteration", "ciphertexts"},
    "step.products": {"iteration", "products", "largest"},
    "job.done": {"iterations", "converged", "agreement", "constant", "constants"},
    "receipt": {"applied", "credit"},
    "receipt.request": {"sent"},
    "receipt.held": {"receipted"},
    "job.frozen": {"reason_code"},
}
ONLY_AFTER_SILENCE = {"receipt.request", "receipt.held", "job.frozen"}
OF_OTHER_JOBS = {"parts.seed"}

# The shared numbers, and the sender and kind of the only messages that may hold them.
GRANTED_TO = {
    "Gram products of business": {("business", "step.products")},
    "Gram products of provider": {("provider", "step.products")},
    "largest entry of business": {("business", "step.products")},
    "largest entry of provider": {("provider", "step.products")},
    "bound of the provider's scores": {("provider", "score.range"), ("business", "link.terms")},
    "spread of the provider's scores": {("provider", "score.range")},
    "part of the intercept of provider": {("provider", "job.done")},
    "digest of the intersection": {("business", "align.result"), ("provider", "align.result")},
}


@dataclass
class Evidence:
    """What was seen of a job from outside, what was in its bodies, and what may never show.

    `bodies`: role of the sender, kind, unsealed body. `granted`: the same names as `GRANTED_TO`.
    """

    outside: list[bytes]
    bodies: list[tuple[str, str, bytes]]
    private: dict[str, set[bytes]]
    granted: dict[str, list[set[bytes]]]
    lines: bytes
    views: list[bytes]
    statuses: list[bytes]


class Insider:
    """Reads, while the job runs, what only its parties have: their row order and their scores."""

    def __init__(self, parties: dict[str, Party]) -> None:
        self._parties = parties
        self.seen: list[tuple[str, bytes]] = []
        self.statuses: list[bytes] = []
        self.rows: dict[str, np.ndarray[Any, np.dtype[np.int64]]] = {}
        self.scores: dict[str, set[float]] = {role: set() for role in parties}

    def __call__(self, routing_key: str, body: bytes) -> None:
        """A message is published: its sender's journal has what the message was made from, unless sent again."""
        if routing_key.startswith("status."):
            self.statuses.append(body)
            return
        self.seen.append((routing_key, body))
        key = parse_routing_key(routing_key)
        role = next(role for role, name in NAMES.items() if name == key.sender)
        if key.kind == "features.encrypted" and role not in self.rows:
            data = blob(self._parties[role], key.job, lambda state: state.align.rows)
            self.rows[role] = np.frombuffer(data, dtype="<i8")
        if key.kind in ("link.terms", "residual.share"):
            data = blob(self._parties[role], key.job, lambda state: state.round.scores)
            self.scores[role] |= set(np.frombuffer(data, dtype="<f8")[:20].tolist()) - {0.0}


def blob(party: Party, job: str, choose: Callable[[JobState], BlobRef | None]) -> bytes:
    """A blob of a running job; nothing if the job is past it. Never raises: that would end a daemon."""
    with contextlib.closing(sqlite3.connect(party.data_directory / "journal.sqlite")) as connection:
        connection.execute("BEGIN")  # the state and the place of its blob, from one moment
        (data,) = connection.execute("SELECT state FROM jobs WHERE job = ?", (job,)).fetchone()
        ref = choose(decode_state(data))
        row = (
            ref
            and connection.execute(
                "SELECT segment, offset, bytes FROM blobs WHERE job = ? AND sha256 = ?", (job, ref.sha256)
            ).fetchone()
        )
    if not ref or not row:
        return b""
    for path in party.data_directory.rglob(Path(row[0]).name):
        with contextlib.suppress(BlobDamaged):
            return read(Location(str(path), row[1], row[2], ref.sha256))
    return b""


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


JOB = {
    "task": "logistic",
    "dataset": "labels",
    "partner": f"{NAMES[PROVIDER]}/features",
    "l2": 1e-2,
    "max_iterations": 2,
    "key_bits": 512,
    "marks": list(MARKS),
    "chunk_rows_max": 30,
}


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    """One job over a broker that corrupts now and then, so that there are parked rows, too."""
    directory = tmp_path_factory.mktemp("canaries")
    paths = tuple(make_parties(directory, write_tables(directory), marks=MARKS).values())
    for path in paths:
        path.write_text(path.read_text().replace("declare = false", "declare = false\nstatus = true", 1))
    parties = {role: load_party(path) for role, path in zip(NAMES, paths, strict=True)}
    views: list[bytes] = []
    insider, book = Insider(parties), LogBook()
    broker = EmbeddedBroker(list(NAMES.values()), faults=Faults(seed=3, corrupt=0.05, repeat=0.1), observer=insider)

    def watch(view: dict[str, Any]) -> None:
        views.extend(console_views(party, view["job"]) for party in parties.values())

    with (directory / "log").open("w+b") as log, logged(log.fileno(), book):
        try:
            with embedded((paths[0], paths[1]), broker):
                result = run_job((paths[0], paths[1]), JOB, watch)
                watch({"job": result.job})
        except Exception as error:
            error.add_note((directory / "log").read_text(errors="replace")[-4000:])
            raise
        log.seek(0)
        lines = log.read() + json.dumps(book.lines(result.job)).encode()
    parked = [row for party in parties.values() for row in parked_rows(party)]
    assert parked, "the broker corrupted nothing: choose another seed"
    states = {role: state_of(party, result.job) for role, party in parties.items()}
    parameters = {role: json.loads(data) for role, data in result.parameters.items()}
    yield Evidence(
        outside=[
            lines,
            *views,
            *parked,
            *insider.statuses,
            *(part for key, body in insider.seen for part in (key.encode(), body)),
        ],
        bodies=[unsealed(key, data, parties) for key, data in insider.seen],
        private=private_values(parameters, insider),
        granted=granted_values(states, parameters),
        lines=lines,
        views=views,
        statuses=insider.statuses,
    )


@contextlib.contextmanager
def logged(descriptor: int, book: LogBook) -> Iterator[None]:
    """Log lines of this process, and whatever its workers print, into a file."""
    kept, settings, stream = [os.dup(1), os.dup(2)], structlog.get_config(), sys.stderr
    with os.fdopen(os.dup(descriptor), "w") as text:
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stderr = text
        configure(book, level=logging.DEBUG)
        try:
            yield
        finally:
            sys.stderr = stream
            structlog.configure(**settings)
            for number, old in zip((1, 2), kept, strict=True):
                os.dup2(old, number)
                os.close(old)


def console_views(party: Party, job: str) -> bytes:
    """Everything that the console shows."""
    with connect(party) as client:
        answers = [client.ask(verb) for verb in ("jobs", "parked", "status")]
        if any(known["job"] == job for known in answers[0]):  # it may not have heard of the job yet
            answers += [client.ask(verb, id=job) for verb in ("job", "logs")]
    return json.dumps(answers).encode()


def parked_rows(party: Party) -> list[bytes]:
    """Everything that a party keeps of its parked deliveries."""
    with contextlib.closing(sqlite3.connect(party.data_directory / "journal.sqlite")) as connection:
        rows = connection.execute("SELECT sender, claimed, code, routing_key, header, digest, excerpt FROM parked")
        return [b"|".join(part if isinstance(part, bytes) else part.encode() for part in row) for row in rows]


def state_of(party: Party, job: str) -> JobState:
    """The last state of the job."""
    with contextlib.closing(sqlite3.connect(party.data_directory / "journal.sqlite")) as connection:
        row = connection.execute("SELECT state FROM jobs WHERE job = ?", (job,)).fetchone()
    return decode_state(row[0])


def unsealed(routing_key: str, data: bytes, parties: dict[str, Party]) -> tuple[str, str, bytes]:
    """Role of the sender, kind and body of an envelope, for somebody with all keys."""
    for role, reader in parties.items():
        with contextlib.suppress(EnvelopeError):
            header = (found := open_envelope(data, me=reader.file.name, peers=reader.peers)).header
            info = seal.seal_info(
                header.version, header.job, header.sender, header.recipient, header.kind, header.chunk, header.chunks
            )
            sender = PROVIDER if role == BUSINESS else BUSINESS
            return sender, header.kind, seal.unseal(found.body, reader.identity, info)
    raise AssertionError(f"nobody can open a message on {routing_key}")


def private_values(parameters: dict[str, dict[str, Any]], insider: Insider) -> dict[str, set[bytes]]:
    """What never leaves its owner: identifiers, features as doubles and as 16-bit rows, names, labels, model, scores.

    What is looked for as a run of rows is looked for in the order of the file and in the order of the job.
    """
    orders = {"file": np.arange(ROWS), "job": insider.rows[BUSINESS]}
    assert (insider.rows[BUSINESS] == insider.rows[PROVIDER]).all()  # both files have the same order
    canaries = {f"identifier {name}": {name.encode()} for name in IDENTIFIERS[:20]}
    for role, names in COLUMNS.items():
        table, grid = values(role), parameters[role]["grid"]
        canaries |= {f"feature name {name}": {name.encode()} for name in names}
        canaries |= {f"{role} value {row}": doubles(float(table[row, row % 4])) for row in range(20)}
        steps = np.column_stack(
            [steps_of(table[:, j], grid[name]["centre"], grid[name]["step"]) for j, name in enumerate(names)]
        )
        for byte_order in "<>":
            packed = steps.astype(f"{byte_order}i2")
            canaries |= {f"{role} quantised row {row} {byte_order}": {packed[row].tobytes()} for row in range(20)}
            for name, order in orders.items():
                canaries |= {
                    f"{role} quantised column {j} {byte_order} in {name} order": {packed[order[:8], j].tobytes()}
                    for j in range(4)
                }
        canaries |= {f"coefficient {name}": doubles(value) for name, value in parameters[role]["coefficients"].items()}
        canaries |= {f"scale of {name}": doubles(step["step"]) for name, step in grid.items()}
        assert len(insider.scores[role]) >= 20, role
        canaries |= {f"{role} score {at}": doubles(score) for at, score in enumerate(sorted(insider.scores[role]))}
    canaries["intercept"] = doubles(parameters[BUSINESS]["intercept"])
    canaries["label name"] = {b"label_qz"}
    canaries |= {f"labels in {name} order": sequences(LABELS[order].tolist()) for name, order in orders.items()}
    return canaries


def granted_values(states: dict[str, JobState], parameters: dict[str, dict[str, Any]]) -> dict[str, list[set[bytes]]]:
    """What docs/protocol.md section 5 lets the partner, and nobody else, learn; each of these numbers."""
    provider, canaries = states[PROVIDER].round, {}
    for role, state in states.items():
        assert all(state.round.products)
        canaries[f"Gram products of {role}"] = [doubles(value) for value in state.round.products]
        canaries[f"largest entry of {role}"] = [doubles(state.round.largest)]
    canaries["bound of the provider's scores"] = [doubles(provider.bound)]
    canaries["spread of the provider's scores"] = [doubles(provider.spread)]
    coefficients, grid = (parameters[PROVIDER][name] for name in ("coefficients", "grid"))
    constant = math.fsum(-coefficients[name] * grid[name]["centre"] for name in grid)
    canaries["part of the intercept of provider"] = [doubles(constant)]
    canaries["digest of the intersection"] = [{states[BUSINESS].align.digest}]
    return canaries


def test_nothing_private_and_nothing_granted_shows_outside(evidence: Evidence) -> None:
    granted = {name: set().union(*found) for name, found in evidence.granted.items()}
    assert find({**evidence.private, **granted}, evidence.outside) == set()


def test_logs_and_views_were_really_looked_at(evidence: Evidence) -> None:
    assert all(word in evidence.lines for word in (b'"parked"', b'"job ended"', b'"results written"'))
    stages = {view["progress"]["stage"] for data in evidence.views for view in json.loads(data)[0]}
    assert len(stages) >= 3
    told = [json.loads(status) for status in evidence.statuses]
    assert {status["party"] for status in told} == set(NAMES.values())
    assert len({status["stage"] for status in told}) >= 2


def test_no_body_holds_anything_private(evidence: Evidence) -> None:
    assert find(evidence.private, [body for _, _, body in evidence.bodies]) == set()


def test_every_granted_number_is_in_the_messages_that_grant_it_and_in_no_other(evidence: Evidence) -> None:
    places = sorted({(role, kind) for role, kind, _ in evidence.bodies})
    for name, numbers in evidence.granted.items():
        for number in numbers:
            held = {
                place
                for place in places
                if find({name: number}, [body for role, kind, body in evidence.bodies if (role, kind) == place])
            }
            assert held == GRANTED_TO[name], name
    assert set(evidence.granted) == set(GRANTED_TO)


def test_messages_have_the_fields_that_were_granted_and_no_others(evidence: Evidence) -> None:
    found: dict[str, set[str]] = {}
    for _, kind, body in evidence.bodies:
        message = codec.decode(body)
        assert codec.kind_of(message) == kind
        found[kind] = set(message.__struct_fields__)
    assert found.keys() | ONLY_AFTER_SILENCE | OF_OTHER_JOBS == FIELDS.keys()
    assert all(FIELDS[kind] == fields for kind, fields in found.items())


@pytest.mark.parametrize("wrapped", ["raw", "hex", "HEX", "base64", "zlib", "gzip", "base64 in zlib"])
def test_the_search_finds_every_kind_of_value_in_every_spelling(evidence: Evidence, wrapped: str) -> None:
    wraps: dict[str, Callable[[bytes], bytes]] = {
        "raw": lambda data: data,
        "hex": lambda data: data.hex().encode(),
        "HEX": lambda data: data.hex().upper().encode(),
        "base64": lambda data: base64.b64encode(b"x" + data),
        "zlib": zlib.compress,
        "gzip": lambda data: zlib.compress(data, wbits=31),
        "base64 in zlib": lambda data: zlib.compress(base64.b64encode(b"xy" + data)),
    }
    wrap = wraps[wrapped]
    for name, found in evidence.private.items():
        for value in found:
            assert find({name: {value}}, [b"before" + wrap(b"about " + value + b" here") + b"after"]) == {name}


def test_spellings_are_long_enough_to_mean_something(evidence: Evidence) -> None:
    shortest = min(len(text) for found in evidence.private.values() for value in found for text in spellings(value))
    assert shortest >= 8
