"""Early stopping by both machines, against jobs of every length that do not stop early, and scikit-learn's metrics."""

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from sklearn import metrics as peer

from messages import codec, schemas
from protocol.contract import ContractError
from protocol.contract_rules import check_contract
from protocol.effects import ControlReceived, Send
from services.store.ledger import Ledger, ScoresSpent
from tests.protocol.test_contract import contract
from tests.services.lengths import Lengths
from tests.services.pair import Pair, Side
from tests.services.test_job_machines import MARKS, parameters, stage

COLUMNS, VALIDATION, LONGEST = 5, 0.3, 4
JOB: dict[str, Any] = {"columns": COLUMNS, "validation": VALIDATION, "l2": 1e-4, "max_iterations": LONGEST}
STOPS: dict[str, Any] = {"patience": LONGEST, "stop_every": 1, "stop_evaluations_max": LONGEST}


def asked(directory: Path, seed: int = 3, *, most: int = LONGEST, quota: int = 100_000, **changes: Any) -> Pair:
    """A job at a provider that allows so many evaluations."""
    pair = stage(directory, seed, **{**JOB, **changes})
    for side in pair.sides:
        side.settings["policy"].update(score_quota=quota, stop_evaluations_max=most)
    return pair


def ran(directory: Path, seed: int = 3, **changes: Any) -> Pair:
    pair = asked(directory, seed, **changes)
    pair.run()
    return pair


def coefficients(pair: Pair) -> list[Any]:
    """The models of both parties, without how they were come to."""
    documents = [json.loads(data) for data in parameters(pair)]
    return [{name: one[name] for name in ("intercept", "coefficients", "grid") if name in one} for one in documents]


def history(pair: Pair, party: int = 0) -> dict[str, Any]:
    """A party's history.json."""
    finish = pair.sides[party].finish
    assert finish is not None
    assert finish.outcome == "done", finish
    found: dict[str, Any] = json.loads(pair.sides[party].blobs[finish.results[1].sha256])
    return found


def figure_of(metric: str, rows: pl.DataFrame) -> float:
    """scikit-learn's."""
    by = {
        "log_loss": lambda: peer.log_loss(rows["label"], rows["prediction"]),
        "auc": lambda: peer.roc_auc_score(rows["label"], rows["score"]),
        "rmse": lambda: peer.root_mean_squared_error(rows["label"], rows["prediction"]),
        "deviance": lambda: peer.mean_poisson_deviance(rows["label"], rows["prediction"]),
    }
    return float(by[metric]())


@pytest.fixture(scope="module")
def lengths(tmp_path_factory: pytest.TempPathFactory) -> Lengths:
    return Lengths(tmp_path_factory.mktemp("lengths"), ran, coefficients)


@pytest.mark.parametrize(
    ("metric", "changes"),
    [
        ("log_loss", {}),
        ("auc", {}),
        ("log_loss", {"l1": 0.01, "l2": 1e-3}),
        ("log_loss", {"solver": "block"}),
        ("log_loss", {"sample_set": "growing", "batches": 2, "tolerance": 0.05}),
        ("log_loss", {"sample_set": "fraction", "batches": 2}),
        ("rmse", {"task": "linear", "label_bound": 16.0}),
        ("deviance", {"task": "poisson", "label_bound": 16.0}),
    ],
)
def test_the_model_kept_is_that_of_the_iteration_with_scikit_learn_s_best_figure(
    metric: str, changes: dict[str, Any], lengths: Lengths, tmp_path: Path
) -> None:
    pair = ran(tmp_path, **changes, **STOPS, stop_metric=metric)
    found = history(pair)["stopping"]
    told = {one["iteration"]: one["figure"] for one in found["evaluations"]}
    assert list(told) == list(range(1, len(told) + 1))
    jobs = {iteration: lengths.of(iteration, tuple(changes.items())) for iteration in told}
    figures = {iteration: figure_of(metric, rows) for iteration, (_, rows) in jobs.items()}
    assert told == pytest.approx(figures)
    best = max if metric == "auc" else min
    assert told[found["best"]] == best(told.values())
    assert figures[found["best"]] == pytest.approx(best(figures.values()))
    assert coefficients(pair) == jobs[found["best"]][0]


def test_an_iteration_before_the_last_is_kept_by_all(tmp_path: Path) -> None:
    pair = ran(tmp_path, **STOPS, stop_metric="log_loss")
    found = [history(pair, party) for party in (0, 1)]
    assert found[0]["stopping"]["best"] == found[1]["stopping"]["best"] < len(found[0]["iterations"])
    assert not found[0]["converged"]
    assert [one["iterations"] for one in found] == [found[0]["iterations"]] * 2


def test_training_ends_when_patience_does(tmp_path: Path) -> None:
    pair = ran(tmp_path, **{**STOPS, "patience": 1}, stop_metric="log_loss")
    found = history(pair)
    figures = [one["figure"] for one in found["stopping"]["evaluations"]]
    assert found["stop_reason"] == "patience"
    assert figures[:-1] == sorted(figures[:-1], reverse=True)
    assert figures[-1] >= figures[-2]
    assert len(found["iterations"]) < LONGEST


def test_training_ends_when_all_evaluations_that_the_contract_grants_are_spent(tmp_path: Path) -> None:
    pair = ran(tmp_path, **{**STOPS, "stop_evaluations_max": 2, "stop_every": 2}, stop_metric="auc", max_iterations=6)
    found = history(pair)
    assert found["stop_reason"] == "evaluations"
    assert [one["iteration"] for one in found["stopping"]["evaluations"]] == [2, 4]
    assert len(found["iterations"]) == 4


def test_the_model_of_a_loop_that_ends_by_itself_is_evaluated_too(tmp_path: Path) -> None:
    pair = ran(tmp_path, **{**STOPS, "stop_every": 4}, stop_metric="log_loss", tolerance=0.1, l2=1.0, max_iterations=6)
    found = history(pair)
    last = len(found["iterations"])
    assert last % 4, "the test needs a loop that ends between two evaluations"
    assert found["stop_reason"] == "converged"
    assert found["stopping"]["evaluations"][-1]["iteration"] == last
    assert found["converged"] == (found["stopping"]["best"] == last)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The parameters of one order of events."""
    return parameters(ran(tmp_path_factory.mktemp("expected"), **STOPS, stop_metric="log_loss"))


@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_events_ends_at_the_same_model(seed: int, tmp_path: Path, expected: list[bytes]) -> None:
    pair = asked(tmp_path, **STOPS, stop_metric="log_loss")
    pair.random = random.Random(seed)
    pair.run()
    assert parameters(pair) == expected


def test_only_validation_rows_are_told_and_no_figure_leaves_the_business(tmp_path: Path) -> None:
    pair = ran(tmp_path, **STOPS, stop_metric="log_loss")
    business, provider = pair.sides
    evaluations = history(pair)["stopping"]["evaluations"]
    assert [kind for kind, *_ in provider.bodies].count("score.partial") == len(evaluations)
    decisions = [message for message in business.sent if isinstance(message, schemas.StopDecision)]
    assert len(decisions) == len(evaluations)
    assert all(set(one) == {"iteration"} for one in history(pair, 1)["stopping"]["evaluations"])
    said = b"".join(codec.encode(message) for message in business.sent) + b"".join(body for *_, body in business.bodies)
    for one in evaluations:
        packed = msgspec.msgpack.encode(one["figure"])[1:]
        assert packed not in said
        assert packed not in msgspec.msgpack.encode(provider.state)
        assert packed in msgspec.msgpack.encode(business.state)


def test_every_evaluation_that_the_contract_grants_is_counted_before_training(tmp_path: Path) -> None:
    pair = ran(tmp_path, **STOPS, stop_metric="log_loss", evaluate=("validation",))
    rows = pair.sides[1].state.parts.validation
    granted = (LONGEST + 1) * rows
    ledger = Ledger(pair.sides[1].directory, pair.sides[0].name)
    assert ledger.grant_scores("another", "model", 1, quota=granted + 1, period_s=1e9, now=2e9) == granted + 1
    directory = tmp_path / "little"
    directory.mkdir()
    short = ran(directory, **STOPS, stop_metric="log_loss", evaluate=("validation",), quota=granted - 1)
    finish = short.sides[0].finish
    assert finish is not None
    assert (finish.outcome, finish.reason_code) == ("failed", "score_quota")
    assert not any(isinstance(message, schemas.CrossTerm) for message in short.sides[1].sent)
    with pytest.raises(ScoresSpent):
        ledger.grant_scores("a third", "model", 1, quota=granted + 1, period_s=1e9, now=2e9)


@pytest.mark.parametrize(
    ("given", "changes", "what"),
    [
        ({"quota": 0}, {}, "no score_quota"),
        ({"most": 0}, {}, "stop_evaluations_max"),
        ({"most": LONGEST - 1}, {}, "stop_evaluations_max"),
        ({"most": 50}, {"stop_evaluations_max": COLUMNS}, "fewer evaluations than columns"),
        ({"most": 50}, {"columns": LONGEST}, "fewer evaluations than columns"),
    ],
)
def test_a_provider_lets_nobody_evaluate_more_than_its_policy_and_its_columns_allow(
    given: dict[str, int], changes: dict[str, Any], what: str, tmp_path: Path
) -> None:
    pair = ran(tmp_path, **{**STOPS, **changes}, stop_metric="auc", **given)
    finish = pair.sides[0].finish
    assert finish is not None
    assert (finish.outcome, finish.reason_code) == ("declined", "stopping_refused")
    assert what in finish.reason


def test_a_metric_that_the_validation_rows_do_not_have_ends_the_job_and_says_so(tmp_path: Path) -> None:
    pair = asked(tmp_path, **STOPS, stop_metric="auc", validation=0.02)
    pair.run()
    finish = pair.sides[0].finish
    assert finish is not None
    assert finish.reason_code in {"stop_metric", "parts_empty"}
    assert "validation row" in finish.reason


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"best": 99}, "decision_wrong"),
        ({"iteration": 2}, "iteration_wrong"),
        ({"stop": False, "at": 2}, "decision_wrong"),
    ],
)
def test_a_decision_that_cannot_be_ends_the_job(changed: dict[str, Any], code: str, tmp_path: Path) -> None:
    pair = asked(tmp_path, **{**STOPS, "stop_evaluations_max": 2}, stop_metric="log_loss")
    business, provider = pair.sides
    at = changed.get("at", 1)
    fields = {name: value for name, value in changed.items() if name != "at"}
    told: list[bytes] = []

    def lie(side: Side, effect: Any) -> None:
        message = effect.message if isinstance(effect, Send) else None
        if side is business and isinstance(message, schemas.StopDecision) and message.iteration == at:
            told.append(codec.encode(msgspec.structs.replace(message, **fields)))
            forged = ControlReceived(kind="stop.decision", message=told[-1], sender=business.name)
            provider.inbox[business.name].append(forged)

    pair.on_effect = lie
    pair.run()
    assert told
    finish = provider.finish
    assert finish is not None
    assert (finish.outcome, finish.reason_code) == ("failed", code)


STOPPED = {"validation": 0.2, "parts_commitment": bytes(32), "marks": MARKS, **STOPS, "stop_metric": "log_loss"}


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"stop_metric": "", "patience": 1, "stop_every": 0, "stop_evaluations_max": 0}, "go with a stop_metric"),
        ({"patience": 0}, "of 1 or more"),
        ({"stop_every": 0}, "of 1 or more"),
        ({"stop_evaluations_max": 0}, "of 1 or more"),
        ({"stop_metric": "r2"}, "name one of log_loss"),
        ({"validation": 0.0, "parts_commitment": b""}, "give validation a share"),
        ({"inference": True}, "standard errors"),
        ({"solver": "block", "max_iterations": 241}, "room for 240 iterations"),
        ({"folds": 2, "penalties": (0.1, 1e-4), "l2": 1e-4}, "cross-validation"),
        ({"classes": 3, "stop_metric": "gini"}, "name one of log_loss, accuracy"),
    ],
)
def test_contracts_that_cannot_stop_early_are_refused(fields: dict[str, Any], what: str) -> None:
    check_contract(contract(**STOPPED))
    with pytest.raises(ContractError, match=what):
        check_contract(contract(**{**STOPPED, **fields}))
