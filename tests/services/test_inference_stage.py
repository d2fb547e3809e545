"""The inference stage by both machines with their real compute functions, against statsmodels on the joined table."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bench.inference import peer
from learning import release
from learning.inference import standard_errors
from messages import schemas
from protocol.contract import ContractError
from protocol.contract_rules import check_contract
from services.store.ledger import Ledger
from tests.protocol.test_contract import contract
from tests.services.pair import Pair
from tests.services.test_job_machines import ROWS, parameters, stage, table


def asked(directory: Path, seed: int, **changes: Any) -> Pair:
    """A job of three iterations that asks for standard errors, at parties that accept it."""
    pair = stage(directory, seed, **{"inference": True, "l2": 0.0, "max_iterations": 6, "key_bits": 768, **changes})
    for side in pair.sides:
        side.settings["policy"]["inference"] = True
    return pair


def tables(pair: Pair) -> list[dict[str, Any]]:
    """Both parties' standard_errors.json."""
    assert all(side.finish is not None and side.finish.outcome == "done" for side in pair.sides), pair.sides[0].finish
    return [json.loads(side.blobs[side.finish.results[2].sha256]) for side in pair.sides if side.finish]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A job without release noise."""
    pair = asked(tmp_path_factory.mktemp("inference"), 3)
    pair.run()
    return pair


def test_each_party_ends_with_errors_and_p_values_of_its_own_columns(ended: Pair) -> None:
    business, provider = table(ROWS, 4, 1, label=True), table(ROWS, 3, 2, label=False)
    assert business.label is not None
    best = peer("logistic", np.hstack([business.values, provider.values]), business.label)
    mine, theirs = tables(ended)
    assert [one["name"] for one in mine["coefficients"]] == [standard_errors.INTERCEPT, *business.columns]
    assert [one["name"] for one in theirs["coefficients"]] == list(provider.columns)
    found = [*mine["coefficients"][1:], *theirs["coefficients"]]
    for one, value, error, p in zip(found, best.params[1:], best.bse[1:], best.pvalues[1:], strict=True):
        assert one["error"] == pytest.approx(error, rel=0.03)
        assert abs(one["estimate"] - value) < 0.1 * error
        assert one["p"] is None or one["p"] == pytest.approx(p, rel=0.2)
    assert mine["dispersion"] == theirs["dispersion"] == 1.0


@pytest.mark.parametrize("seed", [1, 2])
def test_any_order_of_events_ends_at_the_same_errors_but_for_the_last_digits(
    seed: int, tmp_path: Path, ended: Pair
) -> None:
    """Another secret turns the directions otherwise; what comes of them agrees to the width of what is computed."""
    pair = asked(tmp_path, seed)
    pair.run()
    assert parameters(pair) == parameters(ended)
    for mine, theirs in zip(tables(pair), tables(ended), strict=True):
        for one, other in zip(mine["coefficients"], theirs["coefficients"], strict=True):
            assert one["error"] == pytest.approx(other["error"], rel=1e-3)
            assert one["estimate"] == pytest.approx(other["estimate"], abs=1e-3 * one["error"])
    for side, before in zip(pair.sides, ended.sides, strict=True):
        blocks = [next(m for m in one.sent if isinstance(m, schemas.CurvatureBlock)) for one in (side, before)]
        # The same columns in another basis: nothing but the secret has changed.
        assert not np.allclose(blocks[0].gram, blocks[1].gram, rtol=0.01)
        assert not np.allclose(blocks[0].gradient, blocks[1].gradient, rtol=0.01)


def test_nothing_is_kept_that_is_used_up(ended: Pair) -> None:
    """Scores, directions and curvatures of the turns are gone: what is left are the inputs and the results."""
    plain = stage_of_training(ended)
    for side, other in zip(ended.sides, plain.sides, strict=True):
        # The curvature itself, and its table.
        assert len(side.blobs) == len(other.blobs) + 2


def stage_of_training(like: Pair) -> Pair:
    """The same job without the stage."""
    directory = like.sides[0].directory.parent / "plain"
    directory.mkdir(exist_ok=True)
    pair = asked(directory, 3, inference=False)
    pair.run()
    return pair


def test_training_is_the_same_with_and_without_the_stage(ended: Pair) -> None:
    assert parameters(stage_of_training(ended)) == parameters(ended)


def test_a_party_says_a_block_at_the_end_and_no_more_products(ended: Pair) -> None:
    turns = 1 + 5 + 3
    for side in ended.sides:
        kinds = [type(message) for message in side.sent]
        trained = kinds.count(schemas.StepProducts)
        assert kinds.count(schemas.CurvatureBlock) == 1
        assert kinds.count(schemas.CrossTerm) == trained + turns
        assert kinds.index(schemas.CurvatureBlock) > max(k for k, kind in enumerate(kinds) if kind is schemas.CrossTerm)


def test_what_the_stage_tells_is_counted_against_the_release_caps(ended: Pair) -> None:
    for side, other in (ended.sides, ended.sides[::-1]):
        trained = sum(isinstance(message, schemas.StepProducts) for message in side.sent)
        columns, own = other.state.own_columns, side.state.own_columns
        records = list(Ledger(side.directory, other.name)._directory.glob("*.npz"))
        assert len(records) == 1
        with np.load(records[0]) as record:
            entries = int(record["entries"])
        assert entries == release.entries_released(trained, columns) + release.inference_entries(columns, own)


def test_reserved_entries_leave_fewer_iterations() -> None:
    common: dict[str, Any] = {"rows": 2000, "own_columns": 5, "partner_columns": 5, "max_iterations": 30}
    all_of_them = release.iterations_allowed(**common, small_sample=False)
    fewer = release.iterations_allowed(**common, small_sample=False, reserved=release.inference_entries(5, 5))
    assert 0 < fewer < all_of_them


@pytest.mark.parametrize("task", ["linear", "poisson"])
def test_other_tasks_have_errors_too(task: str, tmp_path: Path) -> None:
    pair = asked(tmp_path, 5, task=task, label_bound=16.0, max_iterations=8)
    pair.run()
    business, provider = table(ROWS, 4, 1, label=True), table(ROWS, 3, 2, label=False)
    assert business.label is not None
    best = peer(task, np.hstack([business.values, provider.values]), business.label)
    mine, theirs = tables(pair)
    assert mine["dispersion"] == theirs["dispersion"] == pytest.approx(best.scale, rel=0.02)
    found = [*mine["coefficients"][1:], *theirs["coefficients"]]
    assert [one["error"] for one in found] == pytest.approx(best.bse[1:].tolist(), rel=0.03)


def test_a_provider_whose_policy_does_not_allow_it_declines(tmp_path: Path) -> None:
    pair = asked(tmp_path, 3)
    del pair.sides[1].settings["policy"]["inference"]
    pair.run()
    finish = pair.sides[0].finish
    assert finish is not None
    assert (finish.outcome, finish.reason_code) == ("declined", "inference_refused")


def test_contracts_that_no_errors_can_be_had_of_are_refused() -> None:
    with pytest.raises(ContractError, match="at most 60 columns"):
        check_contract(contract(inference=True, business_columns=60))


def test_a_block_that_is_not_the_one_said_or_of_other_sizes_ends_the_job(tmp_path: Path) -> None:
    for number, (change, code) in enumerate(
        [({"gradient": [0.0]}, "block_wrong"), ({"gram": [-1.0] * 6}, "agreement_differs")]
    ):
        directory = tmp_path / str(number)
        directory.mkdir()
        pair = asked(directory, 3, max_iterations=1)
        carry_out = pair._carry_out

        def meddle(side: Any, effect: Any, change: Any = change, carry_out: Any = carry_out) -> None:
            message = getattr(effect, "message", None)
            if isinstance(message, schemas.CurvatureBlock) and side.role == "provider":
                effect = msgspec.structs.replace(effect, message=msgspec.structs.replace(message, **change))
            carry_out(side, effect)

        pair._carry_out = meddle  # type: ignore[method-assign]
        pair.run()
        finish = pair.sides[0].finish
        assert finish is not None
        assert (finish.outcome, finish.reason_code) == ("failed", code)
