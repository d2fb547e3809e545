"""A model of several classes scores files: every class for every row, each of them counted."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import polars as pl
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from learning.links import projections
from protocol.contract import ContractError
from protocol.scoring_contract import check_scoring, decode_scoring, encode_scoring
from services.audit.export_file import AUDITOR
from services.audit.replaying import replay
from services.audit.reporting import report
from services.daemon.control import ControlClient, ControlError
from services.daemon.local import connect, embedded, wait_for
from services.daemon.lookups import LookupRefused, total
from services.models.export import part_of
from services.models.store import ModelStore
from services.models.version import ModelVersion
from services.party.configuration import load_party
from services.store.ledger import Ledger, ScoresSpent
from services.tables.table import read_table
from tests.audit.recorded import BUSINESS, COLUMNS, PROVIDER, Recorded, record
from tests.parties import until
from tests.protocol.test_scoring_contract import scoring

ROWS, CLASSES = 90, ["amber_qz", "green_qz", "red_qz"]
SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "model-part.json"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return record(tmp_path_factory.mktemp("classes"), "multiclass", ROWS, max_iterations=2)


@pytest.fixture(scope="module")
def business(model: Recorded) -> Iterator[ControlClient]:
    with embedded(tuple(model.paths.values())), connect(load_party(model.paths[BUSINESS])) as found:
        yield found


@pytest.fixture(scope="module")
def scored(model: Recorded, business: ControlClient) -> tuple[str, pl.DataFrame]:
    """(job, scores.csv) of the rows that the model was trained on."""
    job = business.ask("predict", model=model.job)["job"]
    view = wait_for(business, job)
    assert view["outcome"] == "done", view["reason"]
    with connect(load_party(model.paths[PROVIDER])) as provider:
        until(lambda: provider.ask("job", id=job)["status"] != "running", "the provider's end")
    return job, pl.read_csv(Path(view["results"]) / "scores.csv", schema_overrides={"id": pl.String})


def version(model: Recorded, role: str) -> ModelVersion:
    return ModelStore(model.party(role).data_directory).get(model.job).version


def halves(model: Recorded, names: list[str]) -> np.ndarray[Any, Any]:
    """Scores (n, classes) from both parties' files and parts: only a test has them."""
    total = np.zeros((len(names), len(CLASSES)))
    for role in (BUSINESS, PROVIDER):
        table = read_table(model.paths[role].parent.parent / f"{role}.csv", identifier="id", columns=COLUMNS[role])
        places = [table.identifiers.index(name) for name in names]
        total += np.column_stack([one.scores(table.values[places]) for one in version(model, role).targets])
    return total


def test_every_class_has_the_score_and_probability_of_both_halves(
    model: Recorded, scored: tuple[str, pl.DataFrame]
) -> None:
    _, frame = scored
    assert frame.height == ROWS
    expected = halves(model, frame["id"].to_list())
    found = frame.select(f"score_{name}" for name in CLASSES).to_numpy()
    assert np.abs(found - expected).max() <= 0.00051
    # As scikit-learn's OneVsRestClassifier has them.
    chances = expit(found) / expit(found).sum(axis=1, keepdims=True)
    assert np.allclose(frame.select(f"probability_{name}" for name in CLASSES).to_numpy(), chances)
    assert frame["prediction"].to_list() == [CLASSES[place] for place in found.argmax(axis=1)]


def test_every_class_of_a_row_is_counted_against_the_quota(model: Recorded, scored: tuple[str, pl.DataFrame]) -> None:
    del scored
    ledger = Ledger(model.party(PROVIDER).data_directory, "business-a")
    with pytest.raises(ScoresSpent):
        ledger.grant_scores("another", "m", 1, quota=len(CLASSES) * ROWS, period_s=1e9, now=2e9)
    ledger.grant_scores("another", "m", 1, quota=len(CLASSES) * ROWS + 1, period_s=1e9, now=2e9)


def test_its_records_replay_within_the_contract(
    model: Recorded, scored: tuple[str, pl.DataFrame], tmp_path: Path
) -> None:
    for role in (BUSINESS, PROVIDER):
        file = Recorded(scored[0], model.paths).export(role, AUDITOR, tmp_path / role)
        assert replay(file).same
        assert report(file).within


def oracle_of(model: Recorded) -> tuple[OneVsRestClassifier, dict[str, np.ndarray[Any, Any]]]:
    """scikit-learn's one against the rest with the joint coefficients of both parts, and the joined rows by name."""
    tables = {
        role: read_table(model.paths[role].parent.parent / f"{role}.csv", identifier="id", columns=COLUMNS[role])
        for role in (BUSINESS, PROVIDER)
    }
    places = {name: row for row, name in enumerate(tables[PROVIDER].identifiers)}
    rows = {
        name: np.hstack([tables[BUSINESS].values[row], tables[PROVIDER].values[places[name]]])
        for row, name in enumerate(tables[BUSINESS].identifiers)
    }
    found = OneVsRestClassifier(LogisticRegression(max_iter=1))
    with warnings.catch_warnings(action="ignore"):
        found.fit(np.array(list(rows.values())), [CLASSES[place % 3] for place in range(len(rows))])
    pairs = zip(version(model, BUSINESS).targets, version(model, PROVIDER).targets, strict=True)
    for one, (own, other) in zip(found.estimators_, pairs, strict=True):
        one.coef_ = np.array([[*own.coefficients, *other.coefficients]])
        one.intercept_ = np.array([own.constant + other.constant])
    return found, rows


def test_a_single_row_has_scikit_learn_s_likeliest_class_and_the_score_and_probability_of_each(
    model: Recorded, business: ControlClient, scored: tuple[str, pl.DataFrame]
) -> None:
    job = business.ask("predict", model=model.job, mode="lookup", expires_in_hours=1)["job"]
    view = wait_for(business, job, until_stage="serve")
    assert view["status"] == "running", view["reason"]
    oracle, rows = oracle_of(model)
    batch = {row["id"]: row for row in scored[1].to_dicts()}
    for name in list(batch)[::9]:
        found = business.ask("lookup", model=model.job, id=name)
        assert list(found) == ["job", "prediction", "classes"]
        assert (found["job"], list(found["classes"])) == (job, CLASSES)
        assert found["prediction"] == batch[name]["prediction"] == oracle.predict(rows[name][None, :])[0]
        chances = oracle.predict_proba(rows[name][None, :])[0]
        for place, (of, one) in enumerate(found["classes"].items()):
            assert one["score"] == pytest.approx(batch[name][f"score_{of}"], abs=1e-12)
            assert one["probability"] == pytest.approx(batch[name][f"probability_{of}"], abs=1e-12)
            assert one["probability"] == pytest.approx(chances[place], abs=1e-3)
    with pytest.raises(ControlError, match="not among the rows"):
        business.ask("lookup", model=model.job, id="nobody")
    spent = 2 * len(CLASSES) * ROWS
    ledger = Ledger(model.party(PROVIDER).data_directory, "business-a")
    with pytest.raises(ScoresSpent):
        ledger.grant_scores("more", "m", 1, quota=spent, period_s=1e9, now=2e9)
    business.ask("cancel", id=job)


def test_an_answer_of_another_size_is_no_score() -> None:
    units = projections.to_units(np.array([0.5, -1.25, 2.0]), 1e-3)
    value = projections.to_bytes(units)
    assert (total([value, value], 3) == units + units).all()
    for wrong in (value[:8], value + bytes(8)):
        with pytest.raises(LookupRefused) as refused:
            total([value, wrong], 3)
        assert refused.value.code == "answer_wrong"


@pytest.mark.parametrize("role", [BUSINESS, PROVIDER])
def test_the_exported_part_has_every_class_by_the_published_schema(model: Recorded, role: str) -> None:
    part = json.loads(part_of(version(model, role)))
    jsonschema.validate(part, json.loads(SCHEMA.read_text()))
    assert [one["name"] for one in part["classes"]] == (CLASSES if role == BUSINESS else ["0", "1", "2"])
    for one, target in zip(part["classes"], version(model, role).targets, strict=True):
        assert (one["constant"], one["coefficients"]) == (target.constant, list(target.coefficients))


@pytest.mark.parametrize(
    "fields",
    [{"classes": 2}, {"classes": 3, "mode": "lookup", "expires_at": 0}, {"classes": 3, "chunk_rows_max": 65_536}],
)
def test_contracts_of_other_classes_are_refused(fields: dict[str, Any]) -> None:
    fits = scoring(classes=3, chunk_rows_max=21_845)
    assert decode_scoring(encode_scoring(fits)) == fits
    with pytest.raises(ContractError):
        check_scoring(scoring(**{"chunk_rows_max": 100, **fields}))
