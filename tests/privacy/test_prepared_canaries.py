"""Categories, names of prepared columns and what a preparation learned are in no message, log line or console view."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from broker.embedded import EmbeddedBroker
from services.daemon.local import BUSINESS, NAMES, PROVIDER, LocalTables, embedded
from services.daemon.local_job import LocalError, run_job
from services.party.configuration import load_party
from services.party.logs import LogBook
from tests.parties import make_parties
from tests.privacy.search import doubles, find
from tests.privacy.test_canaries import JOB, MARKS, console_views, logged, unsealed

ROWS = 120
WORDS = ("quartz", "obsidian", "granite")
STEPS = """
amount_qz = [
    { step = "impute", by = "mean", indicator = true }, { step = "log", kind = "signed" }, { step = "standardise" },
]
stone_qz = [{ step = "one_hot", categories = ["quartz-ROLE", "obsidian-ROLE", "granite-ROLE"] }]
"""


@dataclass
class Seen:
    """Everything that left a party, and the parameters of both, none when the job was refused."""

    places: list[bytes]
    parameters: dict[str, dict[str, Any]]


def tables(directory: Path, *, unseen: bool) -> LocalTables:
    """Raw tables; with `unseen` a row of the provider has a category that it did not declare."""
    generator = np.random.default_rng(9)
    for role in NAMES:
        words = [f"{word}-{role}" for word in generator.choice(WORDS, ROWS)]
        if unseen and role == PROVIDER:
            words[7] = "basalt-provider"
        amounts = np.where(generator.random(ROWS) < 0.2, np.nan, generator.lognormal(size=ROWS))
        frame = pl.DataFrame(
            {
                "id": [f"person-{row}" for row in range(ROWS)],
                "amount_qz": pl.Series(amounts).fill_nan(None),
                "stone_qz": words,
                **({"label_qz": generator.integers(0, 2, ROWS)} if role == BUSINESS else {}),
            }
        )
        frame.write_parquet(directory / f"{role}.parquet")
        (directory / f"{role}.toml").write_text(STEPS.replace("ROLE", role))
    return LocalTables(
        business=directory / "business.parquet",
        provider=directory / "provider.parquet",
        identifier="id",
        label="label_qz",
        business_preparation=directory / "business.toml",
        provider_preparation=directory / "provider.toml",
    )


def run(directory: Path, *, unseen: bool) -> Seen:
    """A job from beginning to end with everything that is said outside of the parties, and in their messages."""
    paths = tuple(make_parties(directory, tables(directory, unseen=unseen), marks=MARKS).values())
    parties = {role: load_party(path) for role, path in zip(NAMES, paths, strict=True)}
    published: list[tuple[str, bytes]] = []
    broker = EmbeddedBroker(list(NAMES.values()), observer=lambda key, body: published.append((key, body)))
    book, views, parameters = LogBook(), list[bytes](), {}

    def watch(view: dict[str, Any]) -> None:
        if view["status"] != "running":
            views.append(console_views(parties[BUSINESS], view["job"]))

    with (directory / "log").open("w+b") as log, logged(log.fileno(), book), embedded((paths[0], paths[1]), broker):
        try:
            result = run_job((paths[0], paths[1]), JOB, watch)
            parameters = {role: json.loads(data) for role, data in result.parameters.items()}
        except LocalError as error:
            assert error.code == "dataset_unfit"
        log.seek(0)
        lines = log.read()
    bodies = [unsealed(key, data, parties)[2] for key, data in published]
    assert views
    return Seen([lines, *views, *(part for _, part in published), *bodies], parameters)


def test_no_category_prepared_name_or_statistic_leaves_its_owner(tmp_path: Path) -> None:
    seen = run(tmp_path, unseen=False)
    private = {f"{word} of {role}": {f"{word}-{role}".encode()} for word in WORDS for role in NAMES}
    private |= {name: {name.encode()} for name in ("amount_qz", "stone_qz", "(missing)")}
    for role, document in seen.parameters.items():
        filled, _, standardised = document["preparation"]["columns"][0]["steps"]
        private[f"mean of {role}"] = doubles(filled["number"])
        private[f"deviation of {role}"] = doubles(standardised["deviation"])
        assert f"stone_qz=quartz-{role}" in document["coefficients"]
    assert find(private, seen.places) == set()


def test_a_category_that_is_refused_is_told_to_nobody(tmp_path: Path) -> None:
    """Not even in the owner's own log: the row's number is enough."""
    seen = run(tmp_path, unseen=True)
    assert seen.parameters == {}
    assert any(b"category_unseen" in place for place in seen.places)
    words = {word: {word.encode()} for word in ("basalt", "quartz-provider")}
    assert find(words, seen.places) == set()
    outside_logs = [place for place in seen.places if b"data row 8" not in place]
    assert find({"stone_qz": {b"stone_qz"}}, outside_logs) == set()
