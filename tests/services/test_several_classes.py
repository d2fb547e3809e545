"""A job of several classes, one against the rest, over both machines and their real compute functions."""

import json
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
from sklearn.multiclass import OneVsRestClassifier

from learning import parts
from learning.solvers import classes as several
from learning.solvers import loop
from messages import schemas
from protocol.contract import ContractError, encode_contract, job_id
from protocol.contract_rules import check_contract
from services.store.ledger import Ledger, ScoresSpent
from services.tables.snapshot import pack_snapshot
from services.tables.table import Table, TableError, read_table
from tests.protocol.test_contract import contract
from tests.services.pair import Pair, two_sides
from tests.services.test_generalised_models import parameter_files

Vector = NDArray[np.float64]
MARKS = ("insecure", "small_sample")
L2 = 0.05
NAMES = ("barbera", "barolo", "grignolino")


def wine() -> tuple[Vector, Vector, Vector]:
    """(business columns, provider columns, class numbers) of 178 wines, columns standardised."""
    values, label = load_wine(return_X_y=True)
    values = (values - values.mean(axis=0)) / values.std(axis=0)
    return values[:, :5], values[:, 5:11], label.astype(float)


def stage(directory: Path, *, strangers: int = 0, evaluations: int = 0, **changes: Any) -> Pair:
    """The wines split over two parties, the job run to its end.

    `strangers`: columns of the provider that say nothing; `evaluations`: its policy's `stop_evaluations_max`.
    """
    business, provider, label = wine()
    provider = np.hstack([provider, np.random.default_rng(7).normal(size=(len(label), strangers))])
    names = [f"wine-{number:04d}" for number in range(len(label))]
    columns = tuple(f"b{j}" for j in range(business.shape[1]))
    table = Table(identifiers=names, columns=columns, values=business, label=label, classes=NAMES)
    head = ",".join(["id", *(f"p{j}" for j in range(provider.shape[1]))])
    rows = (",".join([name, *map(repr, row)]) for name, row in zip(names, provider.tolist(), strict=True))
    (directory / "provider.csv").write_text("\n".join([head, *rows]) + "\n")
    settings = {
        "policy": {"marks": list(MARKS)},
        "datasets": {"customers": {"source": str(directory / "provider.csv"), "id": "id"}},
        "noise_seed": "",
    }
    sides = two_sides(directory, settings, "0")
    agreed = contract(
        business_key=sides[0].identity.public.digest(),
        provider_key=sides[1].identity.public.digest(),
        business_rows=len(label),
        business_columns=business.shape[1],
        classes=len(NAMES),
        **{
            "l2": L2,
            "max_iterations": 30,
            "tolerance": 1e-3,
            "key_bits": 512,
            "marks": MARKS,
            "release_noise": 0.0,
            "chunk_rows_max": 60,
            **changes,
        },
    )
    for side in sides:
        side.settings["policy"].update(score_quota=10_000, stop_evaluations_max=evaluations)
    salt = bytes(range(32))
    if agreed.layout.divides:
        agreed = msgspec.structs.replace(agreed, parts_commitment=parts.commitment(parts.own_seed(salt)))
    encoded = encode_contract(agreed)
    pair = Pair(sides[0], sides[1])
    facts = msgspec.msgpack.encode({"salt": salt})
    pair.start(job_id(encoded), encoded, pack_snapshot(table), len(label), facts)
    pair.run()
    return pair


def test_every_class_ends_at_the_optimum_of_scikit_learn_one_against_the_rest(tmp_path: Path) -> None:
    pair = stage(tmp_path)
    own, other = parameter_files(pair)
    business, provider, label = wine()
    oracle = OneVsRestClassifier(LogisticRegression(C=1 / (L2 * len(label)), tol=1e-10, max_iter=10_000))
    oracle.fit(np.hstack([business, provider]), label)
    assert own["converged"]
    assert tuple(own["classes"]) == NAMES
    assert tuple(other["classes"]) == ("0", "1", "2")
    scores = []
    for place, (mine, theirs) in enumerate(zip(own["classes"].values(), other["classes"].values(), strict=True)):
        best = oracle.estimators_[place]
        found = np.array([mine["intercept"], *mine["coefficients"].values(), *theirs["coefficients"].values()])
        optimum = np.array([best.intercept_[0], *best.coef_[0]])
        assert np.linalg.norm(found - optimum) < 0.02 * np.linalg.norm(optimum)
        scores.append(np.hstack([business, provider]) @ found[1:] + found[0])
    assert (np.argmax(scores, axis=0) == oracle.predict(np.hstack([business, provider]))).all()


def test_an_elastic_net_of_every_class_has_scikit_learn_s_zeros_and_coefficients(tmp_path: Path) -> None:
    l1 = 0.03
    pair = stage(tmp_path, l1=l1)
    own, other = parameter_files(pair)
    business, provider, label = wine()
    penalty = l1 + L2
    for place, (mine, theirs) in enumerate(zip(own["classes"].values(), other["classes"].values(), strict=True)):
        best = LogisticRegression(
            C=1 / (penalty * len(label)), l1_ratio=l1 / penalty, solver="saga", tol=1e-9, max_iter=100_000
        )
        best.fit(np.hstack([business, provider]), label == place)
        found = np.array([*mine["coefficients"].values(), *theirs["coefficients"].values()])
        assert 0 < (found == 0.0).sum() < len(found)
        assert ((found == 0.0) == (best.coef_[0] == 0.0)).all()
        assert np.linalg.norm(found - best.coef_[0]) < 0.02 * np.linalg.norm(best.coef_[0])


def test_classes_share_features_and_messages_and_names_stay_at_the_business(tmp_path: Path) -> None:
    pair = stage(tmp_path, max_iterations=2)
    said = [[message for message in side.sent if isinstance(message, schemas.CrossTerm)] for side in pair.sides]
    assert [len(messages) for messages in said] == [2, 2]
    products = [message for message in pair.sides[0].sent if isinstance(message, schemas.StepProducts)]
    assert [len(message.products) for message in products] == [3 * 3, 3 * 4]
    for name in NAMES:
        assert name.encode() not in pair.sides[1].state.contract
        assert all(name.encode() not in data for data in pair.sides[1].blobs.values())


def test_figures_of_every_part_are_scikit_learn_s(tmp_path: Path) -> None:
    named = ("training", "validation", "test")
    pair = stage(tmp_path, max_iterations=3, validation=0.3, test=0.2, evaluate=named)
    finish = pair.sides[0].finish
    assert finish is not None
    assert finish.outcome == "done", finish
    _, _, figures, scored = (pair.sides[0].blobs[ref.sha256] for ref in finish.results)
    rows, found = pl.read_csv(scored), json.loads(figures)["parts"]
    assert rows.height == len(wine()[2])
    assert list(found) == list(named)
    for part, content in found.items():
        own = rows.filter(pl.col("part") == part)
        chances = own.select(f"probability_{name}" for name in NAMES).to_numpy()
        assert content["rows"] == own.height
        assert content["metrics"] == pytest.approx(
            {
                "log_loss": peer.log_loss(own["label"], chances, labels=NAMES),
                "accuracy": peer.accuracy_score(own["label"], own["prediction"]),
                "macro_auc": peer.roc_auc_score(own["label"], chances, multi_class="ovr", labels=NAMES),
            }
        )
        assert content["confusion"] == peer.confusion_matrix(own["label"], own["prediction"], labels=NAMES).tolist()
    # Every class of every row is a projection, counted.
    ledger = Ledger(pair.sides[1].directory, pair.sides[0].name)
    with pytest.raises(ScoresSpent):
        ledger.grant_scores("another", "m", 1, quota=len(NAMES) * rows.height, period_s=1e9, now=2e9)


def test_a_class_whose_loop_has_ended_drops_out_and_keeps_its_point() -> None:
    state = several.begin(1e-2, 3)
    row = [1.0, 0.0, 0.5, 1.0, 0.0, 0.5, 1e-12, 0.0, 0.0]
    state, step = several.advance(state, row)
    assert state.active == (0, 1)
    assert not step.stop
    assert len(step.combination) == 3
    ended = step.combination[2]
    state, step = several.advance(state, [0.1, 0.01, 0.0, 1e-6, 0.1, 0.01, 0.0, 0.5])
    assert state.active == (1,)
    # The ended class keeps one number, that of the only gradient it has.
    assert step.combination[-1] == ended
    state, step = several.advance(state, [0.01, 0.001, 1e-4, 0.0, 0.5], last=True)
    assert step.stop
    assert step.reason == "iterations"
    with pytest.raises(loop.LoopError):
        several.advance(several.begin(1e-2, 3), row[:-1])


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": 2},
        {"classes": 3, "task": "linear"},
        {"classes": 3, "solver": "block"},
        {"classes": 3, "inference": True},
        {"classes": 3, "shifted": True},
    ],
)
def test_what_goes_with_several_classes_is_told(changes: dict[str, Any]) -> None:
    with pytest.raises(ContractError) as caught:
        check_contract(contract(**changes))
    assert caught.value.code == "classes"


def test_labels_are_names_of_three_classes_or_more(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("id,y,x\na,red,1\nb,blue,2\nc,green,3\nd,red,4\n")
    table = read_table(path, identifier="id", label="y", task="multiclass")
    assert table.classes == ("blue", "green", "red")
    assert table.label is not None
    assert table.label.tolist() == [2.0, 0.0, 1.0, 2.0]
    for text, code in (("a,red,1\nb,blue,2\n", "label_invalid"), ("a,red,1\nb,,2\nc,blue,3\n", "value_missing")):
        path.write_text("id,y,x\n" + text)
        with pytest.raises(TableError) as caught:
            read_table(path, identifier="id", label="y", task="multiclass")
        assert caught.value.code == code
