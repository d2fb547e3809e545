"""A job of several classes with several providers, over all machines and their real compute functions."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from sklearn import metrics as peer
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression

from learning.links import projections
from messages import codec, schemas, seal
from messages.seal import seal_info
from protocol import closing
from protocol.effects import RemoteProtocolError
from services.store.ledger import Ledger, ScoresSpent
from tests.services.pair import Pair
from tests.services.test_several_providers import L2, Town, parameters, stage, table

Vector = NDArray[np.float64]
NAMES = ("barbera", "barolo", "grignolino")


class Cellar(Town):
    """178 wines, whose standardised columns are divided among a business and some providers."""

    def __init__(self, providers: int, columns: int = 0) -> None:
        """`columns`: of each provider, instead of those of a town."""
        values, label = load_wine(return_X_y=True)
        values = (values - values.mean(axis=0)) / values.std(axis=0)
        super().__init__(providers, "logistic", rows=len(label))
        if columns:
            self.providers = [table(np.random.default_rng(), columns, f"p{j}", self.rows) for j in range(providers)]
        ends = np.cumsum([3, *(one.values.shape[1] for one in self.providers)])
        self.business.values[:] = values[:, :3]
        for one, first, last in zip(self.providers, ends, ends[1:], strict=False):
            one.values[:] = values[:, first:last]
        self.joined, self.label, self.classes = values[:, : ends[-1]], label.astype(float), NAMES


def of_classes(pair: Pair) -> Iterator[Vector]:
    """The joint model of each class: intercept and coefficients."""
    for parts in zip(*(one["classes"].values() for one in parameters(pair)), strict=True):
        yield np.array([parts[0]["intercept"], *(value for one in parts for value in one["coefficients"].values())])


def off(found: Vector, optimum: Vector) -> float:
    return float(np.linalg.norm(found - optimum) / np.linalg.norm(optimum))


@pytest.mark.parametrize("providers", [2, 3])
def test_every_class_ends_at_the_optimum_of_scikit_learn_one_against_the_rest(tmp_path: Path, providers: int) -> None:
    cellar = Cellar(providers)
    pair = stage(tmp_path, cellar, classes=3, tolerance=1e-2)
    pair.run()
    for place, found in enumerate(of_classes(pair)):
        best = LogisticRegression(C=1 / (L2 * cellar.rows), tol=1e-10, max_iter=10_000)
        best.fit(cellar.joined, cellar.label == place)
        assert off(found, np.array([best.intercept_[0], *best.coef_[0]])) < 0.02


def test_weights_of_rows_bend_every_class_as_scikit_learn_s_sample_weights_do(tmp_path: Path) -> None:
    cellar = Cellar(2)
    cellar.weight = 1.0 + np.arange(cellar.rows) % 3
    pair = stage(tmp_path, cellar, classes=3, tolerance=1e-2, weighted=True, residual_unit=2.0)
    pair.run()
    for place, found in enumerate(of_classes(pair)):
        best = LogisticRegression(C=1 / (L2 * cellar.weight.sum()), tol=1e-10, max_iter=10_000)
        best.fit(cellar.joined, cellar.label == place, sample_weight=cellar.weight)
        assert off(found, np.array([best.intercept_[0], *best.coef_[0]])) < 0.02


def test_an_elastic_net_of_every_class_has_scikit_learn_s_zeros_and_coefficients(tmp_path: Path) -> None:
    l1, cellar = 0.03, Cellar(2)
    pair = stage(tmp_path, cellar, classes=3, tolerance=5e-3, l1=l1)
    pair.run()
    for place, joint in enumerate(of_classes(pair)):
        best = LogisticRegression(
            C=1 / ((l1 + L2) * cellar.rows), l1_ratio=l1 / (l1 + L2), solver="saga", tol=1e-9, max_iter=100_000
        ).fit(cellar.joined, cellar.label == place)
        found = joint[1:]
        assert ((found == 0.0) == (np.abs(best.coef_[0]) < 1e-6)).all()
        assert off(found, best.coef_[0]) < 0.02


def test_classes_share_features_and_messages_and_are_told_in_sums_alone(tmp_path: Path) -> None:
    pair = stage(tmp_path, Cellar(2), classes=3, max_iterations=2)
    pair.run()
    for side in pair.sides:
        rows = [message.row for other, message in side.said if isinstance(message, schemas.StepMasked)]
        # A row for each class, its largest entry in it, and all of it under masks.
        assert [len(row) for row in rows] == [3 * 3, 3 * 3, 3 * 4, 3 * 4]
        assert all(int.from_bytes(number[24:], "little").bit_count() > 8 for row in rows for number in row)
        ends = [message for _, message in side.said if isinstance(message, schemas.JobDone)]
        assert all((message.constant, message.constants) == (0.0, []) for message in ends)
        crossed = [message for _, message in side.said if isinstance(message, schemas.CrossTerm)]
        assert len(crossed) == (0 if side is pair.sides[1] else 2 * 2)
    for side in pair.sides[1:]:
        (part,) = [message for _, message in side.said if isinstance(message, schemas.InterceptPart)]
        assert len(part.masked) == 3 * 32
        assert all(name.encode() not in data for name in NAMES for data in side.blobs.values())


def opened(pair: Pair) -> dict[str, Vector]:
    """What the business reads of each provider's scores at the end."""
    found, business = {}, pair.sides[0]
    for side in pair.sides[1:]:
        values = b""
        for kind, chunk, chunks, data in side.bodies:
            if kind == "score.partial":
                info = seal_info(1, side.state.job, side.name, business.name, kind, chunk, chunks)
                message = codec.decode(seal.unseal(data, business.identity, info))
                assert isinstance(message, schemas.ScorePartial)
                values += message.values
        found[side.name] = projections.from_bytes(values)
    return found


def test_figures_of_every_part_are_scikit_learn_s_and_no_provider_s_scores_are_told(tmp_path: Path) -> None:
    named = ("training", "validation", "test")
    pair = stage(tmp_path, Cellar(2), classes=3, max_iterations=3, validation=0.3, test=0.2, evaluate=named)
    for side in pair.sides[1:]:
        side.settings["policy"]["score_quota"] = 10_000
    pair.run()
    finish = pair.sides[0].finish
    assert finish is not None
    assert finish.outcome == "done", finish
    _, _, figures, scored = (pair.sides[0].blobs[ref.sha256] for ref in finish.results)
    rows, found = pl.read_csv(scored), json.loads(figures)["parts"]
    assert list(found) == list(named)
    for part, content in found.items():
        own = rows.filter(pl.col("part") == part)
        chances = own.select(f"probability_{name}" for name in NAMES).to_numpy()
        assert content["metrics"] == pytest.approx(
            {
                "log_loss": peer.log_loss(own["label"], chances, labels=NAMES),
                "accuracy": peer.accuracy_score(own["label"], own["prediction"]),
                "macro_auc": peer.roc_auc_score(own["label"], chances, multi_class="ovr", labels=NAMES),
            }
        )
    expected = joint_scores(pair, rows)
    assert np.abs(rows.select(f"score_{name}" for name in NAMES).to_numpy() - expected).max() < 2e-3
    told = opened(pair)
    # Scores are small numbers of either sign: under a mask the high bits are those of chance, in the sum they are not.
    assert all(len(one) == 3 * rows.height and (one >> np.uint64(56)).std() > 40 for one in told.values())
    assert np.abs(projections.from_units(sum(told.values()), 1e-3)).max() < 50
    for side in pair.sides[1:]:
        ledger = Ledger(side.directory, pair.sides[0].name)
        with pytest.raises(ScoresSpent):
            ledger.grant_scores("another", "m", 1, quota=3 * rows.height, period_s=1e9, now=2e9)


def test_a_job_of_classes_that_stops_early_ends_with_the_model_of_that_iteration(tmp_path: Path) -> None:
    parted: dict[str, Any] = {"classes": 3, "validation": 0.3}
    early = {"stop_metric": "log_loss", "patience": 1, "stop_every": 3, "stop_evaluations_max": 1}
    found = []
    for name, changes in (("early", {"max_iterations": 8, **early}), ("alone", {"max_iterations": 3})):
        (tmp_path / name).mkdir()
        pair = stage(tmp_path / name, Cellar(2, columns=5), **parted, **changes)
        for side in pair.sides[1:]:
            side.settings["policy"] |= {"score_quota": 10_000, "stop_evaluations_max": 3}
        pair.run()
        assert len({side.state.agreement for side in pair.sides}) == 1
        assert pair.sides[0].state.iteration == 3
        found.append(list(of_classes(pair)))
    assert all(off(one, other) < 1e-9 for one, other in zip(*found, strict=True))


def joint_scores(pair: Pair, rows: pl.DataFrame) -> Vector:
    """Scores (n, classes) by all parties' coefficients: only a test has them together."""
    cellar = Cellar(len(pair.sides) - 1)
    places = [int(name.split("-")[1]) for name in rows["id"]]
    return np.column_stack([cellar.joined[places] @ model[1:] + model[0] for model in of_classes(pair)])


@pytest.mark.parametrize("numbers", [1, 2, 4])
def test_a_part_of_the_intercept_that_is_not_of_every_class_ends_the_job(tmp_path: Path, numbers: int) -> None:
    pair = stage(tmp_path, Cellar(2), classes=3, max_iterations=1)
    pair.run()
    provider = pair.sides[1].name
    state = pair.sides[0].state
    asked = msgspec.structs.replace(state.peer(provider), intercept_part=b"")
    state = closing.with_peer(state, asked)
    with pytest.raises(RemoteProtocolError) as caught:
        closing.part_received(state, schemas.InterceptPart(masked=bytes(32 * numbers)), provider)
    assert caught.value.code == "constant_wrong"
