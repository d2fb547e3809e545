"""Both machines with their real compute functions: a whole job in one process, in any order of events."""

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from bench.simulate import Job
from bench.solvers import Field, spend
from learning import parts
from learning.solvers import history as histories
from protocol.contract import encode_contract, job_id
from protocol.samples import plan_of
from protocol.state import Phase
from services.tables.snapshot import pack_snapshot, unpack_snapshot
from services.tables.table import Table
from tests.protocol.test_contract import contract
from tests.services.pair import Pair, two_sides

ROWS, MARKS = 120, ("insecure", "small_sample")
DEFAULTS: dict[str, Any] = {
    "l2": 1e-2,
    "max_iterations": 2,
    "tolerance": 1e-6,
    "key_bits": 512,
    "release_noise": 0.0,
    "chunk_rows_max": 30,
    "align_chunk_items": 50,
}


def table(rows: int, columns: int, seed: int, *, label: bool) -> Table:
    """Rows of numbers that say something about the label; the same people whatever the columns."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(rows, columns))
    chosen = (values.sum(axis=1) + generator.logistic(size=rows) > 0).astype(float) if label else None
    return Table(
        identifiers=[f"person-{number:05d}" for number in range(rows)],
        columns=tuple(f"{'b' if label else 'p'}{j}" for j in range(columns)),
        values=values,
        label=chosen,
    )


def shuffled(table: Table, seed: int) -> Table:
    """The same people in another order."""
    order = np.random.default_rng(seed).permutation(len(table.identifiers))
    return Table(
        identifiers=[table.identifiers[row] for row in order],
        columns=table.columns,
        values=table.values[order],
        label=None if table.label is None else table.label[order],
    )


def stage(
    directory: Path, seed: int, *, shuffle: bool = False, salted: int = 0, columns: int = 3, **changes: Any
) -> Pair:
    """A pair with fresh identities and secrets that derive from `seed`, its job submitted."""
    business, provider = table(ROWS, 4, 1, label=True), table(ROWS, columns, 2, label=False)
    if shuffle:
        business, provider = shuffled(business, seed), shuffled(provider, seed + 1)
    source = directory / "provider.csv"
    lines = [",".join(["id", *provider.columns])]
    lines += [
        ",".join([name, *map(repr, row)])
        for name, row in zip(provider.identifiers, provider.values.tolist(), strict=True)
    ]
    source.write_text("\n".join(lines) + "\n")
    settings = {
        "policy": {"marks": list(MARKS)},
        "datasets": {"customers": {"source": str(source), "id": "id"}},
        "noise_seed": "",
    }
    sides = two_sides(directory, settings, str(seed))
    agreed = contract(
        business_key=sides[0].identity.public.digest(),
        provider_key=sides[1].identity.public.digest(),
        business_rows=ROWS,
        business_columns=4,
        marks=MARKS,
        **{**DEFAULTS, **changes},
    )
    salt = hashlib.sha256(f"salt {salted}".encode()).digest()
    if agreed.layout.divides:
        agreed = msgspec.structs.replace(agreed, parts_commitment=parts.commitment(parts.own_seed(salt)))
    data = encode_contract(agreed)
    pair = Pair(sides[0], sides[1], seed=seed)
    pair.start(job_id(data), data, pack_snapshot(business), ROWS, msgspec.msgpack.encode({"salt": salt}))
    return pair


def parameters(pair: Pair) -> list[bytes]:
    """Both parties' parameters.json."""
    found = []
    for side in pair.sides:
        assert side.finish is not None
        assert side.finish.outcome == "done", side.finish
        found.append(side.blobs[side.finish.results[0].sha256])
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The parameters of one order of events."""
    pair = stage(tmp_path_factory.mktemp("first"), 0)
    pair.run()
    return parameters(pair)


@pytest.mark.parametrize("seed", range(1, 6))
def test_any_order_of_events_and_any_secrets_end_at_the_same_bytes(
    seed: int, tmp_path: Path, expected: list[bytes]
) -> None:
    pair = stage(tmp_path, seed)
    pair.run()
    assert parameters(pair) == expected


def test_the_order_of_the_rows_does_not_show_in_the_parameters(tmp_path: Path, expected: list[bytes]) -> None:
    pair = stage(tmp_path, 0, shuffle=True)
    pair.run()
    assert parameters(pair) == expected


def test_the_cut_into_chunks_does_not_show_in_the_parameters(tmp_path: Path, expected: list[bytes]) -> None:
    pair = stage(tmp_path, 9, chunk_rows_max=90, align_chunk_items=1000)
    pair.run()
    assert parameters(pair) == expected


def test_rows_held_out_are_trained_on_by_nobody(tmp_path: Path) -> None:
    pair = stage(tmp_path, 0, validation=0.2, test=0.1)
    pair.run()
    assert all(side.finish is not None and side.finish.outcome == "done" for side in pair.sides)
    sizes = [(side.state.rows, side.state.parts.validation, side.state.parts.test) for side in pair.sides]
    assert sizes[0] == sizes[1]
    assert sum(sizes[0]) == ROWS
    assert min(sizes[0]) > 0
    training, *_ = sizes[0]
    arranged = []
    for side in pair.sides:
        snapshot = unpack_snapshot(side.blobs[side.state.snapshot.sha256])
        rows = np.frombuffer(side.blobs[side.state.align.rows.sha256], dtype="<i8")
        arranged.append([snapshot.identifiers[row] for row in rows])
        kept = sum(ref.rows for ref in side.state.peers[0].features.encrypted)
        assert kept == training
    assert arranged[0] == arranged[1]
    found = json.loads(parameters(pair)[0])
    assert found["rows"] == training


def test_a_division_depends_on_the_seeds_of_both_parties(tmp_path: Path) -> None:
    found = []
    for seed, salted in ((0, 0), (0, 1), (1, 0)):
        directory = tmp_path / f"{seed}-{salted}"
        directory.mkdir()
        pair = stage(directory, seed, salted=salted, validation=0.5)
        pair.run()
        side = pair.sides[0]
        snapshot = unpack_snapshot(side.blobs[side.state.snapshot.sha256])
        rows = np.frombuffer(side.blobs[side.state.align.rows.sha256], dtype="<i8")
        found.append(frozenset(snapshot.identifiers[row] for row in rows[: side.state.rows]))
    assert len(set(found)) == 3


def test_a_seed_that_is_not_the_one_committed_to_ends_the_job(tmp_path: Path) -> None:
    pair = stage(tmp_path, 0, validation=0.5)
    business = pair.sides[0].state
    pair.sides[0].state = msgspec.structs.replace(
        business, parts=msgspec.structs.replace(business.parts, own_seed=bytes(32))
    )
    pair.run()
    finish = pair.sides[1].finish
    assert finish is not None
    assert (finish.outcome, finish.reason_code) == ("failed", "parts_commitment")


SAMPLED = [
    {"sample_set": "growing", "batches": 3},
    {"sample_set": "fraction", "batches": 2},
    {"solver": "block"},
    {"solver": "block", "draw": "random", "block_share": 0.4},
    {"solver": "block", "draw": "greedy"},
]


@pytest.mark.parametrize("changes", SAMPLED, ids=lambda changes: "-".join(map(str, changes.values())))
def test_every_solver_and_sample_set_ends_at_the_loop_in_the_clear(changes: dict[str, Any], tmp_path: Path) -> None:
    """As many iterations as all batches, stages and blocks take: the same integers as without any encryption."""
    pair = stage(tmp_path, 3, max_iterations=6, tolerance=1e-3, **changes)
    pair.run()
    side = pair.sides[0]
    assert side.finish is not None
    assert side.finish.outcome == "done", (side.finish, pair.sides[1].finish)
    assert found_in_the_clear(pair, changes) == pytest.approx(
        [
            *json.loads(parameters(pair)[0])["coefficients"].values(),
            *json.loads(parameters(pair)[1])["coefficients"].values(),
        ],
        rel=1e-6,
        abs=1e-9,
    )


def found_in_the_clear(pair: Pair, changes: dict[str, Any]) -> list[float]:
    """The coefficients that the same loop finds on the same rows in the same order, without encryption."""
    business, provider = table(ROWS, 4, 1, label=True), table(ROWS, 3, 2, label=False)
    state = pair.sides[0].state
    rows = np.frombuffer(pair.sides[0].blobs[state.align.rows.sha256], dtype="<i8")
    assert business.label is not None
    job = Job("small", "logistic", "y", 1e-2, small_sample=True, release_noise=0.0, tolerance=1e-3)
    tables = (business.values[rows], provider.values[rows], business.label[rows])
    field = Field.of(job, tables, blocks=state.parts.blocks or (ROWS,))
    plan = msgspec.structs.replace(plan_of(state), rows=field.blocks)
    for _ in spend(field, plan, 6):
        pass
    return [value for one in field.local for value in histories.target(one).coefficients]


def test_cross_validation_chooses_a_penalty_in_one_job(tmp_path: Path) -> None:
    """Both parties find the same table, its differences are those of held-out rows, the model is that of the choice."""
    penalties = (0.1, 0.05, 0.025)
    pair = stage(tmp_path, 4, folds=2, penalties=penalties, l2=0.05, max_iterations=20, tolerance=2e-3)
    pair.run()
    found = parameters(pair)
    tables = [json.loads(side.blobs[side.finish.results[1].sha256])["validation"] for side in pair.sides]  # type: ignore[union-attr]
    assert tables[0] == tables[1]
    table_ = tables[0]
    assert (
        json.loads(found[0])["l2"]
        == json.loads(found[1])["l2"]
        == table_["chosen"]
        == penalties[int(np.argmin(table_["means"]))]
    )
    business, provider = table(ROWS, 4, 1, label=True), table(ROWS, 3, 2, label=False)
    rows = np.frombuffer(pair.sides[0].blobs[pair.sides[0].state.align.rows.sha256], dtype="<i8")
    assert business.label is not None
    values, label = np.hstack([business.values, provider.values])[rows], business.label[rows]
    edges = np.cumsum([0, *table_["rows"]])
    for fold, row in enumerate(table_["deviances"]):
        held = np.zeros(ROWS, dtype=bool)
        held[edges[fold] : edges[fold + 1]] = True
        losses = [_held_out_loss(values, label, held, penalty) for penalty in penalties]
        assert row == pytest.approx(np.array(losses) - losses[0], abs=0.01)
    whole = LogisticRegression(C=1 / (table_["chosen"] * ROWS), tol=1e-10, max_iter=1000).fit(values, label)
    coefficients = [value for data in found for value in json.loads(data)["coefficients"].values()]
    assert coefficients == pytest.approx(whole.coef_[0], abs=0.03)


def _held_out_loss(values: np.ndarray, label: np.ndarray, held: np.ndarray, penalty: float) -> float:
    oracle = LogisticRegression(C=1 / (penalty * int((~held).sum())), tol=1e-10, max_iter=1000)
    oracle.fit(values[~held], label[~held])
    scores = oracle.decision_function(values[held])
    return float(np.mean(np.logaddexp(0.0, scores) - label[held] * scores))


def test_a_job_that_is_over_has_let_go_of_everything_it_needed_on_the_way(tmp_path: Path) -> None:
    pair = stage(tmp_path, 0)
    pair.run()
    for side in pair.sides:
        kept = {ref.sha256 for ref in (side.state.snapshot, side.state.align.rows, *side.finish.results)}  # type: ignore[union-attr]
        features = side.state.features
        kept |= {
            ref.sha256
            for ref in (features.matrix, features.label, features.history, *side.state.peers[0].features.encrypted)
            if ref
        }
        assert side.references == dict.fromkeys(kept, 1)
        assert set(side.blobs) == kept
        assert side.state.phase is Phase.DONE


def test_release_noise_moves_the_model_a_little_and_differs_with_the_secret(
    tmp_path: Path, expected: list[bytes]
) -> None:
    found = []
    for seed in (1, 2):
        directory = tmp_path / str(seed)
        directory.mkdir()
        pair = stage(directory, seed, release_noise=1 / 32)
        pair.run()
        found.append(parameters(pair))
    assert found[0] != found[1]
    assert expected not in found
