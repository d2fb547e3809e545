"""Private values of jobs that do more than train: standard errors, evaluation, early stopping, folds, scoring, several.

They are looked for in everything outside of their owner: what a broker sees, message bodies, log lines, views of the
control socket, metrics, pages of the console, and the export for the partner.
"""

import json
import logging
import math
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from broker.embedded import EmbeddedBroker
from messages.keys import parse_routing_key
from services.console.guard import KEY_HEADER, cookie_name
from services.daemon.local import BUSINESS, NAMES, PROVIDER, connect, embedded, wait_for
from services.party.configuration import Party, load_party
from services.party.listening import address_of
from services.party.logs import LogBook
from tests.audit.recorded import OVER_FOLDS, PARTNER, Recorded, job_of, record_three, write_tables
from tests.console.office import Office
from tests.parties import until
from tests.privacy.search import doubles, find, sequences
from tests.privacy.test_canaries import logged, unsealed

ROWS = 90
KEPT = 6  # rows whose values are looked for
PRECISE = 11  # letters of a number below which it may be found by chance
BULK = ("features.encrypted", "link.terms", "residual.share", "align.list", "align.echo")
HEAD_BYTES = (
    2_000  # of an envelope of bulk: its header; its body is the same in every job, and `test_canaries` looks there
)
EARLY = {"validation": 0.3, "stop_metric": "log_loss", "patience": 2, "stop_every": 1, "stop_evaluations_max": 2}
JOBS: dict[str, dict[str, Any]] = {
    "inference": {"inference": True, "key_bits": 768, "max_iterations": 2},
    "early stopping and evaluation": {**EARLY, "evaluate": ["validation"], "max_iterations": 2},
    "cross-validation": {**OVER_FOLDS, "evaluate": ["validation"]},
}
VERBS = ("jobs", "parked", "status", "metrics", "pending", "orders")
PAGES = ("peers", "models", "system", "month")

Canaries = dict[str, set[bytes]]


@dataclass
class Seen:
    """What was seen of some jobs. `outside`: all of it but a party's own console, which is in `pages` of its role.

    `private`: what is in no such place. `figures`: of models, which only their owner's console shows.
    """

    outside: list[bytes] = field(default_factory=list)
    pages: dict[str, list[bytes]] = field(default_factory=dict)
    private: Canaries = field(default_factory=dict)
    figures: dict[str, Canaries] = field(default_factory=dict)


def number(value: float) -> set[bytes]:
    """A number in every spelling; nothing of one that is found by chance."""
    return doubles(value) if math.isfinite(value) and len(repr(value)) >= PRECISE else set()


def of_tables(directory: Path, files: dict[str, str]) -> Canaries:
    """Identifiers, names, values of some rows, and labels, of the parties' own files."""
    found: Canaries = {}
    for role, name in files.items():
        table = pl.read_csv(directory / name)
        columns = [column for column in table.columns if column.endswith("_qz")]
        found |= {f"name {column}": {column.encode()} for column in columns}
        found |= {f"identifier {one}": {one.encode()} for one in table["id"].head(KEPT)}
        for column in columns:
            if column == "label_qz":
                found["labels"] = sequences(table[column].to_list())
            else:
                found |= {f"{role} {column} {row}": number(one) for row, one in enumerate(table[column].head(KEPT))}
    return found


def numbers_of(document: Any, path: str) -> Iterator[tuple[str, set[bytes]]]:
    """Every number of a document that says something, by where it is."""
    if isinstance(document, dict):
        for name, part in document.items():
            yield from numbers_of(part, f"{path}.{name}")
    elif isinstance(document, list):
        for place, part in enumerate(document):
            yield from numbers_of(part, f"{path}.{place}")
    elif isinstance(document, float) and number(document):
        yield path, number(document)


def results_of(party: Party, job: str) -> tuple[Canaries, Canaries]:
    """(model, errors and scores of rows; figures of the model) that a party has of a job."""
    private, figures = dict[str, set[bytes]](), dict[str, set[bytes]]()
    for path in sorted((party.data_directory / "results" / job).iterdir()):
        where = f"{party.file.name} {path.name}"
        if path.name in ("parameters.json", "inference.json"):
            private |= dict(numbers_of(json.loads(path.read_text()), where))
        elif path.name == "metrics.json":
            figures |= dict(numbers_of(json.loads(path.read_text()), where))
        elif path.name == "history.json":
            stopping = json.loads(path.read_text()).get("stopping", {})
            figures |= dict(numbers_of(stopping, where))
        elif path.name == "scores.csv":
            table = pl.read_csv(path)
            for column in ("score", "prediction"):
                private |= {f"{where} {column} {row}": number(one) for row, one in enumerate(table[column].head(KEPT))}
    # What both derive, or the contract says, is no secret.
    shared = (".l2", ".rows", ".iterations", ".tolerance", ".tweedie_power")
    return {name: found for name, found in private.items() if found and not name.endswith(shared)}, figures


def is_bulk(routing_key: str) -> bool:
    """Whether a message is one of many chunks of ciphertexts or points."""
    return parse_routing_key(routing_key).kind in BULK


def travelled(published: list[tuple[str, bytes]]) -> list[bytes]:
    """What a broker sees of messages: their addresses and bytes."""
    return [b"".join((key.encode(), b" ", body[:HEAD_BYTES] if is_bulk(key) else body)) for key, body in published]


def console_of(office: Office, role: str, job: str) -> list[bytes]:
    """Everything that a party's console answers: its pages of JSON, and the first events of its stream."""
    access = office.access(role)
    session = access.enter(access.ticket())
    cookie = cookie_name(NAMES[role], address_of(office.parties[role].file.console))
    headers = {"cookie": f"{cookie}={session}", KEY_HEADER: access.key_of(session)}
    found = []
    for page in (*PAGES, f"contract/{job}"):
        with urllib.request.urlopen(urllib.request.Request(f"{office.url(role)}/api/{page}", headers=headers)) as told:
            found.append(told.read())
    stream = urllib.request.Request(f"{office.url(role)}/api/stream?job={job}", headers=headers)
    with urllib.request.urlopen(stream) as told:
        found += [line for line in (told.readline() for _ in range(6)) if line.startswith(b"data: ")]
    assert job.encode() in found[-1]
    return found


def views_of(party: Party, job: str) -> bytes:
    """Everything that the control socket tells of a job, and of all."""
    with connect(party) as client:
        answers = [client.ask(verb) for verb in VERBS] + [client.ask(verb, id=job) for verb in ("job", "logs")]
    return json.dumps(answers).encode()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """Jobs of every stage between two parties, then the last one's model scores a file, and single rows."""
    directory, seen = tmp_path_factory.mktemp("stages"), Seen()
    office = Office(directory, tables=write_tables(directory, ROWS, "logistic"))
    published: list[tuple[str, bytes]] = []
    office._broker._observer = lambda key, body: published.append((key, body))
    with (directory / "log").open("w+b") as log, logged(log.fileno(), LogBook()), office:
        jobs = [office.submit(**job_of("logistic", **changes)) for changes in JOBS.values()]
        for job in jobs:
            office.ended(job)
            assert office.view(BUSINESS, job)["outcome"] == "done", office.view(BUSINESS, job)
        until(lambda: all(results(office, role, job) for role in NAMES for job in jobs), "the results are written")
        jobs += [looked_up(office, jobs[1], seen), scored(office, jobs[1])]
        for role, job in ((role, job) for role in NAMES for job in jobs):
            seen.outside.append(views_of(office.parties[role], job))
            seen.pages.setdefault(role, []).extend(console_of(office, role, job))
        log.seek(0)
        seen.outside.append(log.read())
    for role, job in ((role, job) for role in NAMES for job in jobs):
        file = Recorded(job, {one: office.path(one) for one in NAMES}).export(
            role, PARTNER, directory / f"{role}.{job}"
        )
        seen.outside.append(file.read_bytes())
        if job not in jobs[3:4]:  # a job of single rows has no results
            private, figures = results_of(office.parties[role], job) if results(office, role, job) else ({}, {})
            seen.private |= private
            seen.figures.setdefault(role, {}).update(figures)
    seen.outside += travelled(published)
    seen.outside += [unsealed(key, body, office.parties)[2] for key, body in published if not is_bulk(key)]
    seen.private |= of_tables(directory, {BUSINESS: "business.csv", PROVIDER: "provider.csv"})
    return seen


def results(office: Office, role: str, job: str) -> bool:
    """Whether a party has written a job's results."""
    return (office.parties[role].data_directory / "results" / job).exists()


def looked_up(office: Office, model: str, seen: Seen) -> str:
    """A job of single rows: some are asked for, and what they are told is private."""
    job: str = office.ask(BUSINESS, "predict", model=model, mode="lookup")["job"]
    with office.client(BUSINESS) as client:
        assert wait_for(client, job, until_stage="serve")["status"] == "running"
        for row in range(5):
            found = client.ask("lookup", model=model, id=f"customer-{row * 7919 % 100_003:06d}-qz")
            for name in ("score", "prediction"):
                seen.private[f"{name} that was looked up, {row}"] = number(found[name])
        client.ask("cancel", id=job)
    office.ended(job)
    return job


def scored(office: Office, model: str) -> str:
    """A job that scores a file."""
    job: str = office.ask(BUSINESS, "predict", model=model)["job"]
    office.ended(job)
    until(lambda: results(office, BUSINESS, job), "the scores are written")
    return job


def test_nothing_private_of_any_stage_shows_outside_of_its_owner(two: Seen) -> None:
    assert sum(map(bool, two.private.values())) > 120
    wanted = ("inference.json", "scores.csv", "parameters.json", "looked up", "identifier", "labels")
    assert all(any(word in name for name in two.private) for word in wanted)
    assert find(two.private, two.outside) == set()


def test_no_console_shows_a_row_a_coefficient_an_error_or_a_name_of_a_column(two: Seen) -> None:
    for pages in two.pages.values():
        assert len(pages) > 20
        assert find(two.private, pages) == set()


def test_figures_of_a_model_are_on_the_console_of_who_has_them_and_nowhere_else(two: Seen) -> None:
    mine = two.figures[BUSINESS]
    assert any("history.json" in name for name in mine)
    assert any("metrics.json" in name for name in mine)
    assert two.figures[PROVIDER] == {}
    assert find(mine, two.outside) == set()
    assert find(mine, two.pages[PROVIDER]) == set()
    assert find(mine, two.pages[BUSINESS]) != set(), "the control: the owner's console does show some"


FURTHER: dict[str, dict[str, Any]] = {
    "folds": OVER_FOLDS,
    "early stopping": {**EARLY, "evaluate": ["validation"], "max_iterations": 2},
}


@pytest.mark.parametrize("what", FURTHER)
def test_nothing_private_shows_outside_of_its_owner_with_several_providers(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[tuple[str, bytes]] = []
    with (tmp_path / "log").open("w+b") as log, logged(log.fileno(), LogBook()):
        place = observed(record_three, tmp_path, published, monkeypatch, **FURTHER[what])
        log.seek(0)
        outside = [log.read()]
    parties = {role: load_party(path) for role, path in place.paths.items()}
    with ExitStack() as stack:
        stack.enter_context(embedded(list(place.paths.values())))
        outside += [views_of(party, place.job) for party in parties.values()]
    outside += [place.export(role, PARTNER, tmp_path / f"{role}.file").read_bytes() for role in parties]
    outside += travelled(published)
    names = {role: "third.csv" if role not in NAMES else f"{role}.csv" for role in parties}
    private = of_tables(tmp_path, names)
    for role, party in parties.items():
        of_rows, figures = results_of(party, place.job)
        private |= of_rows | figures
        assert any(name.startswith(party.file.name) for name in of_rows), role
    assert find(private, outside) == set()


def observed(
    record: Callable[..., Recorded],
    directory: Path,
    published: list[tuple[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    **fields: Any,
) -> Recorded:
    """Record a job over a broker that is watched."""
    made = EmbeddedBroker.__init__

    def watched(self: EmbeddedBroker, *arguments: Any, **more: Any) -> None:
        made(self, *arguments, **{**more, "observer": lambda key, body: published.append((key, body))})

    with monkeypatch.context() as patched:
        patched.setattr(EmbeddedBroker, "__init__", watched)
        place = record(directory, ROWS, **fields)
    assert any(key for key, _ in published)
    return place


def test_a_value_that_is_logged_is_found(two: Seen) -> None:
    """The control: the same search over one more line."""
    name, values = next((name, values) for name, values in two.private.items() if "inference.json" in name)
    assert find({name: values}, [*two.outside[:1], b'{"event": "note", "value": ' + sorted(values)[-1] + b"}"]) == {
        name
    }
    assert logging.getLogger().level <= logging.CRITICAL
