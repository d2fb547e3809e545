"""The evaluation at the end of a job by both machines, against scikit-learn on the joined table."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn import metrics as peer

from messages import schemas
from protocol.contract import ContractError
from protocol.contract_rules import check_contract
from services.models.version import target_of
from services.store.ledger import Ledger
from tests.protocol.test_contract import contract
from tests.services import test_several_providers as several
from tests.services.pair import Pair
from tests.services.test_job_machines import ROWS, parameters, stage, table

ALL = ("training", "validation", "test")


def asked(directory: Path, seed: int, *, quota: int = 1000, **changes: Any) -> Pair:
    """A job that evaluates its parts, at a provider that allows so many scores."""
    shares = {"validation": 0.25, "test": 0.2}
    pair = stage(directory, seed, **{"evaluate": ALL, **shares, **changes})
    for side in pair.sides:
        side.settings["policy"]["score_quota"] = quota
    return pair


def results(pair: Pair) -> list[bytes]:
    """The business's results."""
    finish = pair.sides[0].finish
    assert finish is not None
    assert finish.outcome == "done", finish
    return [pair.sides[0].blobs[ref.sha256] for ref in finish.results]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    pair = asked(tmp_path_factory.mktemp("evaluation"), 3)
    pair.run()
    return pair


def test_the_figures_of_every_part_are_scikit_learn_s_of_the_joint_model(ended: Pair) -> None:
    _, _, figures, scored = results(ended)
    rows = pl.read_csv(scored)
    assert sorted(rows["id"]) == sorted(table(ROWS, 4, 1, label=True).identifiers)
    found = json.loads(figures)["parts"]
    assert list(found) == list(ALL)
    for part, content in found.items():
        own = rows.filter(pl.col("part") == part)
        assert content["rows"] == own.height
        assert content["metrics"]["auc"] == pytest.approx(peer.roc_auc_score(own["label"], own["score"]))
        assert content["metrics"]["log_loss"] == pytest.approx(peer.log_loss(own["label"], own["prediction"]))


def test_scores_are_those_of_both_parties_parameters_to_three_decimals(ended: Pair) -> None:
    rows = pl.read_csv(results(ended)[3])
    business, provider = table(ROWS, 4, 1, label=True), table(ROWS, 3, 2, label=False)
    mine, theirs = (json.loads(data) for data in parameters(ended))
    places = [business.identifiers.index(name) for name in rows["id"]]
    # The provider's constant is in the business's intercept.
    other = target_of(theirs).scores(provider.values[places])
    expected = target_of(mine).scores(business.values[places]) + other
    assert np.abs(rows["score"].to_numpy() - expected).max() <= 0.00051
    assert business.label is not None
    assert rows["label"].to_list() == business.label[places].tolist()


def test_training_is_the_same_with_and_without_the_stage(ended: Pair, tmp_path: Path) -> None:
    pair = asked(tmp_path, 3, evaluate=())
    pair.run()
    assert parameters(pair) == parameters(ended)
    assert len(results(pair)) == 2
    assert not any(kind == "score.partial" for kind, *_ in pair.sides[1].bodies)


def test_only_the_parts_that_are_named_are_told(tmp_path: Path) -> None:
    pair = asked(tmp_path, 3, evaluate=("validation",))
    pair.run()
    rows = pl.read_csv(results(pair)[3])
    assert set(rows["part"]) == {"validation"}
    assert 0 < rows.height < ROWS / 2
    assert [kind for kind, *_ in pair.sides[1].bodies].count("score.partial") == 1
    assert not any(kind == "score.partial" for kind, *_ in pair.sides[0].bodies)


def test_the_training_rows_of_a_job_without_parts_can_be_evaluated(tmp_path: Path) -> None:
    pair = asked(tmp_path, 3, evaluate=("training",), validation=0.0, test=0.0)
    pair.run()
    assert list(json.loads(results(pair)[2])["parts"]) == ["training"]


@pytest.mark.parametrize("task", ["linear", "poisson"])
def test_other_tasks_are_evaluated_in_units_of_their_labels(task: str, tmp_path: Path) -> None:
    pair = asked(tmp_path, 4, task=task, label_bound=16.0, inference=False)
    pair.run()
    rows = pl.read_csv(results(pair)[3]).filter(pl.col("part") == "training")
    figures = json.loads(results(pair)[2])["parts"]["training"]["metrics"]
    assert figures["rmse"] == pytest.approx(peer.root_mean_squared_error(rows["label"], rows["prediction"]))
    if task == "linear":
        assert figures["r2"] == pytest.approx(peer.r2_score(rows["label"], rows["prediction"]))


def test_errors_and_figures_can_be_had_of_one_job(tmp_path: Path) -> None:
    pair = asked(tmp_path, 5, inference=True, l2=0.0)
    for side in pair.sides:
        side.settings["policy"]["inference"] = True
    pair.run()
    found = results(pair)
    assert "coefficients" in json.loads(found[2])
    assert "parts" in json.loads(found[3])
    assert found[4].startswith(b"id,part,")


def test_every_row_that_is_told_is_counted_before_it_leaves(ended: Pair) -> None:
    provider = ended.sides[1]
    ledger = Ledger(provider.directory, ended.sides[0].name)
    with pytest.raises(Exception, match="quota"):
        ledger.grant_scores("another", "model", 1, quota=ROWS, period_s=1e9, now=2e9)


def test_a_provider_without_quota_declines_and_one_with_too_little_ends_the_job_before_training(tmp_path: Path) -> None:
    for quota, outcome, code in ((0, "declined", "evaluation_refused"), (ROWS - 1, "failed", "score_quota")):
        directory = tmp_path / str(quota)
        directory.mkdir()
        pair = asked(directory, 3, quota=quota)
        pair.run()
        finish = pair.sides[0].finish
        assert finish is not None
        assert (finish.outcome, finish.reason_code) == (outcome, code)
        assert not any(isinstance(message, schemas.CrossTerm) for message in pair.sides[1].sent)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"evaluate": ("test",)}, "give test a share"),
        ({"evaluate": ("training", "training")}, "once"),
        ({"evaluate": ("validation", "training"), "validation": 0.2, "parts_commitment": bytes(32)}, "in the order"),
    ],
)
def test_contracts_that_name_no_such_parts_are_refused(fields: dict[str, Any], what: str) -> None:
    with pytest.raises(ContractError, match=what):
        check_contract(contract(**fields))


@pytest.mark.parametrize("seed", [0, 1])
def test_of_several_providers_the_business_gets_the_sum_and_nobodys_scores(seed: int, tmp_path: Path) -> None:
    town = several.Town(2, "logistic")
    pair = several.stage(tmp_path, town, seed, evaluate=("training",), tolerance=0.05)
    for side in pair.sides:
        side.settings["policy"]["score_quota"] = 1000
    pair.run()
    rows = pl.read_csv(results(pair)[3])
    places = [town.business.identifiers.index(name) for name in rows["id"]]
    assert sorted(places) == list(range(several.ROWS))
    own, *others = several.parameters(pair)
    parts = [target_of(found).scores(one.values[places]) for found, one in zip(others, town.providers, strict=True)]
    mine = target_of(own).scores(town.business.values[places])
    assert np.abs(rows["score"].to_numpy() - mine - sum(parts)).max() <= 0.0011
    assert json.loads(results(pair)[2])["parts"]["training"]["metrics"]["auc"] == pytest.approx(
        peer.roc_auc_score(rows["label"], rows["score"])
    )
    # What one provider says alone is no score of anybody: uniform modulo 2^64.
    for ref in (one.partials[0] for one in pair.sides[0].state.evaluation.scores):
        values = np.frombuffer(pair.sides[0].blobs[ref.sha256], dtype="<u8").astype(float) / 2.0**64
        assert abs(values.mean() - 0.5) < 0.1
        assert values.std() > 0.2
