"""Parts, sample sets, blocks of columns and cross-validation with several providers, against what is known of them."""

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from sklearn import metrics as peer
from sklearn.linear_model import LogisticRegression

from bench.simulate import Job
from bench.solvers import Field, spend
from learning.solvers import history as histories
from messages import codec, schemas
from protocol.effects import Send
from protocol.samples import plan_of
from services.models.version import target_of
from services.tables.snapshot import unpack_snapshot
from tests.services.pair import Pair, Side
from tests.services.test_several_providers import L2, Town, distance, parameters, stage, table

ALL = ("training", "validation", "test")
SHARES: dict[str, Any] = {"validation": 0.25, "test": 0.2}
SMALL = 240


def ran(directory: Path, town: Town, seed: int = 0, **changes: Any) -> Pair:
    """A job that is over, at providers that allow scores and evaluations."""
    directory.mkdir(exist_ok=True)
    pair = stage(directory, town, seed, **changes)
    for side in pair.sides:
        side.settings["policy"] |= {"score_quota": 10_000, "stop_evaluations_max": 20}
    pair.run()
    return pair


def common(side: Side) -> list[str]:
    """Identifiers of the common rows, in the order in which a party keeps them."""
    return [f"person-{number:05d}" for number in places(side)]


def places(side: Side) -> list[int]:
    """The rows of the joined table that a party's common rows are, in its order."""
    if side.role == "business":
        names = unpack_snapshot(side.blobs[side.state.snapshot.sha256]).identifiers
    else:
        source = next(iter(side.settings["datasets"].values()))["source"]
        names = pl.read_csv(source)["id"].to_list()
    rows = np.frombuffer(side.blobs[side.state.align.rows.sha256], dtype="<i8")
    return [int(names[row].removeprefix("person-")) for row in rows]


@pytest.fixture(scope="module")
def town() -> Town:
    return Town(2, "logistic", rows=SMALL)


@pytest.fixture(scope="module")
def evaluated(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return ran(tmp_path_factory.mktemp("evaluated"), town, evaluate=ALL, **SHARES)


def test_all_parties_divide_the_same_rows_in_the_same_way(evaluated: Pair) -> None:
    assert len({tuple(places(side)) for side in evaluated.sides}) == 1
    assert sorted(places(evaluated.sides[0])) == list(range(SMALL))
    for side in evaluated.sides:
        held = side.state.parts.validation + side.state.parts.test
        assert 0.2 * SMALL < held < 0.7 * SMALL
        assert side.state.rows == sum(side.state.parts.blocks) == SMALL - held


def test_the_model_is_that_of_the_training_rows_alone(town: Town, evaluated: Pair) -> None:
    rows = places(evaluated.sides[0])[: evaluated.sides[0].state.rows]
    oracle = LogisticRegression(C=1 / (L2 * len(rows)), tol=1e-10, max_iter=2000).fit(
        town.joined[rows], town.label[rows]
    )
    found = [value for one in parameters(evaluated) for value in one["coefficients"].values()]
    assert np.linalg.norm(found - oracle.coef_[0]) < 0.04 * np.linalg.norm(oracle.coef_[0])


def test_the_business_learns_the_figures_of_the_sum_of_all_scores(town: Town, evaluated: Pair) -> None:
    business = evaluated.sides[0]
    assert business.finish is not None
    figures, scored = (business.blobs[ref.sha256] for ref in business.finish.results[2:])
    rows = pl.read_csv(scored).with_columns(place=pl.col("id").str.strip_prefix("person-").cast(pl.Int64))
    mine, *others = parameters(evaluated)
    chosen = rows["place"].to_list()
    tables = [town.business.values, *(one.values for one in town.providers)]
    total = sum(target_of(one).scores(table[chosen]) for one, table in zip((mine, *others), tables, strict=True))
    # Each provider's score is rounded to three decimals.
    assert np.abs(rows["score"].to_numpy() - total).max() <= 0.00051 * len(others)
    found = json.loads(figures)["parts"]
    assert list(found) == list(ALL)
    for part, content in found.items():
        own = rows.filter(pl.col("part") == part)
        assert content["metrics"]["auc"] == pytest.approx(peer.roc_auc_score(own["label"], own["score"]))


def test_a_division_depends_on_the_seed_of_every_party(town: Town, evaluated: Pair, tmp_path: Path) -> None:
    seeds = [[one.seed for one in side.state.peers] for side in evaluated.sides]
    own = [side.state.parts.own_seed for side in evaluated.sides]
    assert seeds == [[own[1], own[2]], [own[0], own[2]], [own[0], own[1]]]
    assert len(set(own)) == 3
    found = [tuple(places(evaluated.sides[0]))]
    for number in (1, 2):
        directory = tmp_path / str(number)
        directory.mkdir()
        pair = stage(directory, town, evaluate=(), max_iterations=1, **SHARES)
        pair.sides[number].secret = bytes(32)
        pair.run()
        found.append(tuple(places(pair.sides[0])))
    assert len(set(found)) == 3


def lying(directory: Path, town: Town, liar: int) -> Pair:
    """A party that goes on with another seed than it has shown: it is as if it had shown its partners another."""
    pair = stage(directory, town, max_iterations=1, **SHARES)

    def forge(side: Side, effect: Any) -> None:
        if side is pair.sides[liar] and isinstance(effect, Send) and isinstance(effect.message, schemas.PartsSeed):
            parts = msgspec.structs.replace(side.state.parts, own_seed=bytes(32))
            side.state = msgspec.structs.replace(side.state, parts=parts)

    pair.on_effect = forge
    pair.run()
    return pair


@pytest.mark.parametrize("liar", [0, 1, 2])
def test_who_divides_by_another_seed_than_it_showed_ends_the_job(tmp_path: Path, town: Town, liar: int) -> None:
    ends = [side.finish for side in lying(tmp_path, town, liar).sides]
    assert {(end.outcome, end.reason_code) for end in ends if end} == {("failed", "align_differs")}
    assert None not in ends


def test_a_business_with_another_seed_than_it_committed_to_ends_the_job(tmp_path: Path, town: Town) -> None:
    pair = stage(tmp_path, town, max_iterations=1, **SHARES)
    business = pair.sides[0].state
    parts = msgspec.structs.replace(business.parts, own_seed=bytes(32))
    pair.sides[0].state = msgspec.structs.replace(business, parts=parts)
    pair.run()
    assert {side.finish.reason_code for side in pair.sides if side.finish} == {"parts_commitment"}


def test_scores_of_held_out_rows_count_against_the_quota_before_training(tmp_path: Path, town: Town) -> None:
    pair = stage(tmp_path, town, evaluate=ALL, **SHARES)
    pair.sides[1].settings["policy"]["score_quota"] = 10_000
    pair.sides[2].settings["policy"]["score_quota"] = SMALL - 1
    pair.run()
    assert {side.finish.reason_code for side in pair.sides if side.finish} == {"score_quota"}
    assert not any(isinstance(message, schemas.FeaturesCodes) for side in pair.sides for message in side.sent)


LOOPS = [
    {"sample_set": "growing", "batches": 3},
    {"sample_set": "fraction", "batches": 2},
    {"solver": "block"},
    {"solver": "block", "draw": "random", "block_share": 0.4},
    {"solver": "block", "draw": "greedy"},
]


@pytest.mark.parametrize("changes", LOOPS, ids=lambda changes: "-".join(map(str, changes.values())))
def test_every_solver_and_sample_set_follows_the_loop_in_the_clear(
    changes: dict[str, Any], town: Town, tmp_path: Path
) -> None:
    """As many iterations as all batches, stages and blocks take: what the same loop finds without any encryption."""
    pair = ran(tmp_path, town, max_iterations=6, tolerance=1e-3, **changes)
    found = [value for one in parameters(pair) for value in one["coefficients"].values()]
    state, rows = pair.sides[0].state, places(pair.sides[0])
    job = Job("small", "logistic", "y", L2, small_sample=True, release_noise=0.0, tolerance=1e-3)
    values = town.joined[rows]
    tables = (values[:, :3], values[:, 3:], town.label[rows])
    field = Field.of(job, tables, blocks=state.parts.blocks or (SMALL,))
    plan = msgspec.structs.replace(plan_of(state), rows=field.blocks)
    for _ in spend(field, plan, 6):
        pass
    expected = [value for one in field.local for value in histories.target(one).coefficients]
    assert np.linalg.norm(np.subtract(found, expected)) < 0.03 * np.linalg.norm(expected)


def test_blocks_come_to_the_optimum_of_the_joined_table(town: Town, tmp_path: Path) -> None:
    pair = ran(tmp_path, town, solver="block", max_iterations=40)
    assert distance(pair, town) < 0.02
    assert all(one["converged"] for one in parameters(pair))


def test_cross_validation_chooses_by_the_deviances_of_held_out_rows(town: Town, tmp_path: Path) -> None:
    penalties = (0.1, 0.05, 0.025)
    pair = ran(tmp_path, town, folds=2, penalties=penalties, max_iterations=20, tolerance=2e-3)
    found = parameters(pair)
    tables = [json.loads(side.blobs[side.finish.results[1].sha256])["validation"] for side in pair.sides]  # type: ignore[union-attr]
    assert tables == [tables[0]] * 3
    chosen = tables[0]["chosen"]
    assert {one["l2"] for one in found} == {chosen} == {penalties[int(np.argmin(tables[0]["means"]))]}
    rows = places(pair.sides[0])
    values, label = town.joined[rows], town.label[rows]
    edges = np.cumsum([0, *tables[0]["rows"]])
    for fold, row in enumerate(tables[0]["deviances"]):
        held = np.zeros(SMALL, dtype=bool)
        held[edges[fold] : edges[fold + 1]] = True
        losses = [_held_out_loss(values, label, held, penalty) for penalty in penalties]
        assert row == pytest.approx(np.array(losses) - losses[0], abs=0.01)
    whole = LogisticRegression(C=1 / (chosen * SMALL), tol=1e-10, max_iter=1000).fit(values, label)
    coefficients = [value for one in found for value in one["coefficients"].values()]
    assert coefficients == pytest.approx(whole.coef_[0], abs=0.03)


def _held_out_loss(values: np.ndarray, label: np.ndarray, held: np.ndarray, penalty: float) -> float:
    oracle = LogisticRegression(C=1 / (penalty * int((~held).sum())), tol=1e-10, max_iter=1000)
    oracle.fit(values[~held], label[~held])
    scores = oracle.decision_function(values[held])
    return float(np.mean(np.logaddexp(0.0, scores) - label[held] * scores))


@pytest.mark.parametrize(
    "changes",
    [
        {"folds": 2, "penalties": (0.1, 0.05), "max_iterations": 3},
        {"solver": "block", "max_iterations": 5},
        {"sample_set": "growing", "batches": 2, "evaluate": ("training",), "max_iterations": 3},
    ],
    ids=["folds", "block", "growing"],
)
def test_any_order_of_events_ends_at_the_same_bytes(changes: dict[str, Any], tmp_path: Path) -> None:
    """Seeds of the division are a party's secrets: those are the same here, and the order of events is not."""
    town, found = Town(2, "logistic", rows=40), []
    for seed in range(2):
        directory = tmp_path / str(seed)
        directory.mkdir()
        pair = stage(directory, town, 0, **changes)
        pair.random.seed(seed)
        for side in pair.sides:
            side.settings["policy"]["score_quota"] = 10_000
        pair.run()
        found.append(parameters(pair))
    assert found[0] == found[1]


def test_training_stops_early_by_the_figure_of_the_sum(tmp_path: Path) -> None:
    town, generator = Town(2, "logistic", rows=SMALL), np.random.default_rng(7)
    town.providers = [table(generator, 5, prefix, SMALL) for prefix in "pq"]  # fewer evaluations than columns
    stops: dict[str, Any] = {"stop_metric": "log_loss", "patience": 2, "stop_every": 1, "stop_evaluations_max": 3}
    pair = ran(tmp_path, town, validation=0.3, evaluate=("validation",), **stops)
    notes = [json.loads(side.blobs[side.finish.results[1].sha256])["stopping"] for side in pair.sides]  # type: ignore[union-attr]
    assert len({one["best"] for one in notes}) == 1
    told = {one["iteration"]: one["figure"] for one in notes[0]["evaluations"]}
    assert notes[0]["best"] == min(told, key=lambda iteration: told[iteration])
    business = pair.sides[0]
    scored = pl.read_csv(business.blobs[business.finish.results[3].sha256])  # type: ignore[union-attr]
    assert told[notes[0]["best"]] == pytest.approx(peer.log_loss(scored["label"], scored["prediction"]))


def test_each_provider_shows_its_seed_to_all_and_the_business_only_when_it_has_all(evaluated: Pair) -> None:
    for side in evaluated.sides:
        told = [name for name, message in side.said if codec.kind_of(message) == "parts.seed"]
        assert sorted(told) == sorted(one.name for one in evaluated.sides if one is not side)


class Reluctant(random.Random):
    """Chooses what is a message from one party to another only where nothing else is left."""

    def __init__(self, reader: str, sender: str) -> None:
        super().__init__(1)
        self._last = (reader, sender)
        self.kept_early = 0

    def choice(self, seq: Any) -> Any:
        """One of (side, sender of its next message)."""
        for side, _ in seq:
            if side.name == self._last[0]:
                self.kept_early += sum(peer.early_row is not None for peer in side.state.peers)
        willing = [one for one in seq if (one[0].name, one[1]) != self._last]
        return super().choice(willing or seq)


@pytest.mark.parametrize("sender", ["business-a", "provider-a"])
def test_a_row_of_a_turn_that_nobody_encrypts_for_is_kept_until_it_begins(sender: str, tmp_path: Path) -> None:
    """The first provider hears one party last: the other one's row of the next turn is there before."""
    pair = stage(tmp_path, Town(2, "logistic", rows=30), folds=2, penalties=(0.1, 0.05), max_iterations=3)
    chance = Reluctant("provider-d", sender)
    pair.random = chance
    pair.run()
    assert {side.finish.outcome for side in pair.sides if side.finish} == {"done"}
    assert chance.kept_early > 0
    assert len({side.state.agreement for side in pair.sides}) == 1
