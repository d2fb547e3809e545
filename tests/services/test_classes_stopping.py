"""Several classes stop early by log loss or accuracy of validation rows, against jobs of every length that do not."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sklearn import metrics as peer

from learning.solvers import loops
from protocol.contract import ContractError
from protocol.contract_rules import check_contract
from protocol.samples import plan_of
from services.store.ledger import Ledger, ProjectionsSpent
from services.tables.snapshot import unpack_snapshot
from tests.protocol.test_contract import contract
from tests.services.lengths import Lengths
from tests.services.pair import Pair
from tests.services.test_generalised_models import parameter_files
from tests.services.test_several_classes import MARKS, NAMES, stage

LONGEST, STRANGERS = 4, 7
"""Four evaluations of three classes are twelve projections of the provider's thirteen columns."""

JOB: dict[str, Any] = {"strangers": STRANGERS, "validation": 0.3, "l2": 1e-3, "max_iterations": LONGEST}
STOPS: dict[str, Any] = {"patience": LONGEST, "stop_every": 1, "stop_evaluations_max": LONGEST}


def ran(directory: Path, *, evaluations: int = LONGEST * len(NAMES), **changes: Any) -> Pair:
    return stage(directory, evaluations=evaluations, **{**JOB, **changes})


def models(pair: Pair) -> list[Any]:
    return [{name: one[name] for name in ("classes", "grid")} for one in parameter_files(pair)]


def history(pair: Pair) -> dict[str, Any]:
    finish = pair.sides[0].finish
    assert finish is not None
    assert finish.outcome == "done", finish
    found: dict[str, Any] = json.loads(pair.sides[0].blobs[finish.results[1].sha256])
    return found


def figure_of(metric: str, rows: pl.DataFrame) -> float:
    """scikit-learn's."""
    if metric == "accuracy":
        return float(peer.accuracy_score(rows["label"], rows["prediction"]))
    chances = rows.select(f"probability_{name}" for name in NAMES).to_numpy()
    return float(peer.log_loss(rows["label"], chances, labels=NAMES))


@pytest.fixture(scope="module")
def lengths(tmp_path_factory: pytest.TempPathFactory) -> Lengths:
    return Lengths(tmp_path_factory.mktemp("lengths"), ran, models)


@pytest.mark.parametrize(
    ("metric", "changes"), [("log_loss", {}), ("accuracy", {"tolerance": 0.1}), ("accuracy", {"l1": 0.01})]
)
def test_the_model_kept_is_that_of_the_iteration_with_scikit_learn_s_best_figure(
    metric: str, changes: dict[str, Any], lengths: Lengths, tmp_path: Path
) -> None:
    pair = ran(tmp_path, **changes, **STOPS, stop_metric=metric)
    found = history(pair)["stopping"]
    told = {one["iteration"]: one["figure"] for one in found["evaluations"]}
    assert list(told) == list(range(1, LONGEST + 1))
    jobs = {iteration: lengths.of(iteration, tuple(changes.items())) for iteration in told}
    figures = {iteration: figure_of(metric, rows) for iteration, (_, rows) in jobs.items()}
    assert told == pytest.approx(figures)
    best = max if metric == "accuracy" else min
    assert told[found["best"]] == best(told.values())
    assert models(pair) == jobs[found["best"]][0]
    if metric == "accuracy":
        assert found["best"] < LONGEST, "the test needs a model that is older than the last"
    if "tolerance" in changes:
        state = pair.sides[0].state
        ended = loops.gradients(plan_of(state), state.loop, LONGEST)
        assert found["best"] < min(ended) < max(ended) == LONGEST, (
            "the test needs a class whose loop ends before others"
        )


def test_an_evaluation_counts_once_for_each_class(tmp_path: Path) -> None:
    pair = ran(tmp_path, **{**STOPS, "stop_evaluations_max": 2}, max_iterations=2, stop_metric="log_loss")
    assert [one["iteration"] for one in history(pair)["stopping"]["evaluations"]] == [1, 2]
    provider, rows = pair.sides[1], pair.sides[1].state.parts.validation
    told = [body for kind, *_, body in provider.bodies if kind == "score.partial"]
    assert len(told) == 2
    ledger = Ledger(provider.directory, pair.sides[0].name)
    scores = 2 * len(NAMES) * rows
    assert ledger.grant_scores("another", "m", 1, quota=scores + 1, period_s=1e9, now=2e9) == scores + 1
    snapshot = unpack_snapshot(provider.blobs[provider.state.snapshot.sha256])
    everybody = list(snapshot.identifiers)
    columns = 6 + STRANGERS
    with pytest.raises(
        ProjectionsSpent, match=rf"^{rows} validation rows were evaluated 6 times .* 3 more of 3 classes"
    ):
        ledger.grant_projections("next", everybody, 3, each=3, columns=columns)
    ledger.grant_projections("next", everybody, 2, each=3, columns=columns)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"evaluations": LONGEST * len(NAMES) - 1}, "policy's stop_evaluations_max"),
        ({"strangers": STRANGERS - 1}, "fewer evaluations times classes than columns"),
    ],
)
def test_a_provider_s_columns_and_policy_bound_the_evaluations_of_all_classes_together(
    given: dict[str, int], what: str, tmp_path: Path
) -> None:
    finish = ran(tmp_path, **STOPS, stop_metric="log_loss", **given).sides[0].finish
    assert finish is not None
    assert (finish.outcome, finish.reason_code) == ("declined", "stopping_refused")
    assert what in finish.reason
    assert "3 classes" in finish.reason


def test_several_classes_stop_by_their_own_metrics() -> None:
    fields: dict[str, Any] = {"validation": 0.2, "parts_commitment": bytes(32), "marks": MARKS, **STOPS}
    for metric in ("log_loss", "accuracy"):
        check_contract(contract(**fields, stop_metric=metric, classes=3))
    for metric, classes in (("auc", 3), ("accuracy", 0)):
        with pytest.raises(ContractError, match="none of the task's"):
            check_contract(contract(**fields, stop_metric=metric, classes=classes))
