"""One business and several providers, machines and compute functions whole: the chain, the masks, the common rows."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge

from learning import parts
from learning.links.targets import Targets, declared_units
from protocol.contract import FurtherProvider, encode_contract, job_id
from services.tables.snapshot import pack_snapshot
from services.tables.table import Table
from tests.protocol.test_contract import contract
from tests.services.pair import Pair, Side, a_side

ROWS, MARKS = 400, ("insecure", "small_sample", "few_columns")
L2 = 0.05


def names(count: int) -> list[str]:
    """Names of so many providers, in an order that is not the alphabet's."""
    return [f"provider-{'dacbhgfe'[number]}" for number in range(count)]


def table(generator: np.random.Generator, columns: int, prefix: str, rows: int) -> Table:
    """Columns of numbers for the same people."""
    return Table(
        identifiers=[f"person-{number:05d}" for number in range(rows)],
        columns=tuple(f"{prefix}{j}" for j in range(columns)),
        values=generator.normal(size=(rows, columns)),
        label=None,
    )


class Town:
    """Tables of a business and some providers, of whom each also has people that nobody else has."""

    def __init__(self, providers: int, task: str, seed: int = 5, rows: int = ROWS) -> None:
        generator = np.random.default_rng(seed)
        self.task = task
        self.rows = rows
        self.business = table(generator, 3, "b", rows)
        self.providers = [table(generator, 2 + number % 2, f"p{number}", rows) for number in range(providers)]
        self.joined = np.hstack([self.business.values, *(one.values for one in self.providers)])
        # Every provider's ten largest scores are clipped, which of so few rows is a lot: small scores keep it harmless.
        score = 0.5 + self.business.values @ [0.6, -0.4, 0.5] + 0.15 * self.joined[:, 3:].sum(axis=1)
        self.label = {
            "logistic": lambda: (generator.uniform(size=rows) < 1 / (1 + np.exp(-score))).astype(float),
            "linear": lambda: score + generator.normal(size=rows),
            "poisson": lambda: generator.poisson(np.exp(np.clip(0.5 * score, -3, 2))).clip(0, 16).astype(float),
        }[task]()
        self.weight: Any = None
        self.classes: tuple[str, ...] = ()

    def optimum(self) -> tuple[float, np.ndarray]:
        """Intercept and coefficients that scikit-learn finds on the joined table."""
        model: Any = {
            "logistic": lambda: LogisticRegression(C=1 / (L2 * self.rows), tol=1e-10, max_iter=2000),
            "linear": lambda: Ridge(alpha=L2 * self.rows),
            "poisson": lambda: PoissonRegressor(alpha=L2, tol=1e-10, max_iter=2000),
        }[self.task]()
        model.fit(self.joined, self.label)
        return float(np.ravel(model.intercept_)[0]), np.ravel(model.coef_)


def shuffled(
    one: Table, label: Any, seed: int, own: int, shared: int = 0, *, weight: Any = None, classes: tuple[str, ...] = ()
) -> Table:
    """The people in another order, and `own` strangers among them, of whom `shared` are known elsewhere, too."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(one.identifiers) + own)
    strangers = [f"shared-{number}" if number < shared else f"stranger-{seed}-{number}" for number in range(own)]
    identifiers = [*one.identifiers, *strangers]
    values = np.vstack([one.values, generator.normal(size=(own, one.values.shape[1]))])
    labels = None if label is None else np.concatenate([label, np.zeros(own)])[order]
    return Table(
        identifiers=[identifiers[row] for row in order],
        columns=one.columns,
        values=values[order],
        label=labels,
        weight=None if weight is None else np.concatenate([weight, np.ones(own)])[order],
        classes=classes,
    )


def write(one: Table, path: Path) -> None:
    lines = [",".join(["id", *one.columns])]
    lines += [",".join([name, *map(repr, row)]) for name, row in zip(one.identifiers, one.values.tolist(), strict=True)]
    path.write_text("\n".join(lines) + "\n")


def stage(directory: Path, town: Town, seed: int = 0, *, shared_with_first: int = 0, **changes: Any) -> Pair:
    """All parties, the job submitted. `shared_with_first`: rows that business and first provider alone have."""
    sides: list[Side] = []
    for name, one in zip(names(len(town.providers)), town.providers, strict=True):
        source = directory / f"{name}.csv"
        write(shuffled(one, None, len(sides) + 10, 10 + len(sides), 0 if sides else 9), source)
        settings = {
            "policy": {"marks": list(MARKS), "tasks": ["logistic", "linear", "poisson", "gamma", "tweedie"]},
            "datasets": {f"of-{name}": {"source": str(source), "id": "id"}},
            "noise_seed": "",
        }
        sides.append(a_side(directory / name, name, "provider", settings, f"{seed}/{name}"))
    own = {"policy": {"marks": list(MARKS)}, "datasets": {}, "noise_seed": ""}
    business = a_side(directory / "business", "business-a", "business", own, f"{seed}/business")
    rows = shuffled(town.business, town.label, 3, 10, shared_with_first, weight=town.weight, classes=town.classes)
    first, *further = sides
    agreed = contract(
        business_key=business.identity.public.digest(),
        provider=first.name,
        provider_key=first.identity.public.digest(),
        provider_dataset=f"of-{first.name}",
        further=tuple(
            FurtherProvider(name=side.name, key=side.identity.public.digest(), dataset=f"of-{side.name}")
            for side in further
        ),
        masks_bound=True,
        business_rows=len(rows.identifiers),
        business_columns=len(rows.columns),
        task=town.task,
        label_bound=16.0 if town.task != "logistic" else 1.0,
        l2=L2,
        **{
            "max_iterations": 30,
            "key_bits": 512,
            "marks": MARKS,
            "release_noise": 0.0,
            "chunk_rows_max": 60,
            "align_chunk_items": 150,
            "tolerance": 1e-4,
            **changes,
        },
    )
    salt = hashlib.sha256(b"salt").digest()
    if agreed.layout.divides:
        agreed = msgspec.structs.replace(agreed, parts_commitment=parts.commitment(parts.own_seed(salt)))
    data = encode_contract(agreed)
    pair = Pair(business, *sides, seed=seed)
    facts = msgspec.msgpack.encode({"salt": salt})
    pair.start(job_id(data), data, pack_snapshot(rows), len(rows.identifiers), facts)
    return pair


def parameters(pair: Pair) -> list[dict[str, Any]]:
    """All parties' parameters.json, the business's first."""
    found = []
    for side in pair.sides:
        assert side.finish is not None, (side.name, side.state.phase)
        assert side.finish.outcome == "done", (side.name, side.finish)
        found.append(msgspec.json.decode(side.blobs[side.finish.results[0].sha256]))
    return found


def distance(pair: Pair, town: Town) -> float:
    """How far the model is from the optimum, relative to its size."""
    found = parameters(pair)
    coefficients = [value for one in found for value in one["coefficients"].values()]
    intercept, best = town.optimum()
    reference = np.array([intercept, *best])
    return float(
        np.linalg.norm(np.array([found[0]["intercept"], *coefficients]) - reference) / np.linalg.norm(reference)
    )


@pytest.mark.parametrize("task", ["logistic", "linear", "poisson"])
@pytest.mark.parametrize("providers", [1, 2, 4])
def test_the_model_is_the_one_that_scikit_learn_finds_on_the_joined_table(
    tmp_path: Path, providers: int, task: str
) -> None:
    town = Town(providers, task)
    pair = stage(tmp_path, town)
    pair.run()
    assert distance(pair, town) < 0.02


@pytest.mark.parametrize("providers", [2, 3])
def test_a_linear_model_of_weighted_rows_is_the_one_of_scikit_learn_with_sample_weights(
    tmp_path: Path, providers: int
) -> None:
    town = Town(providers, "linear", rows=240)
    # Where small labels weigh most, the weights bend the model.
    town.weight = np.where(town.label < np.median(town.label), 4.0, np.arange(town.rows) % 2)
    unit, _ = declared_units("linear", 0.0, Targets(town.label, town.weight))
    pair = stage(tmp_path, town, weighted=True, residual_unit=unit)
    pair.run()
    found = parameters(pair)
    coefficients = [value for one in found for value in one["coefficients"].values()]
    own = np.array([found[0]["intercept"], *coefficients])
    oracle = Ridge(alpha=L2 * town.weight.sum()).fit(town.joined, town.label, sample_weight=town.weight)
    best = np.array([oracle.intercept_, *oracle.coef_])
    plain = Ridge(alpha=L2 * town.rows).fit(town.joined, town.label)
    assert np.linalg.norm(own - best) < 0.02 * np.linalg.norm(best)
    assert np.linalg.norm([plain.intercept_, *plain.coef_] - best) > 0.2 * np.linalg.norm(best)


def test_an_elastic_net_of_several_providers_has_the_zeros_of_scikit_learn(tmp_path: Path) -> None:
    l1, town = 0.01, Town(3, "logistic")
    ratio, strength = l1 / (l1 + L2), 1 / ((l1 + L2) * ROWS)
    oracle = LogisticRegression(l1_ratio=ratio, solver="saga", C=strength, tol=1e-9, max_iter=20_000)
    oracle.fit(town.joined, town.label)
    pair = stage(tmp_path, town, l1=l1)
    pair.run()
    own = np.array([value for one in parameters(pair) for value in one["coefficients"].values()])
    best = oracle.coef_[0]
    assert np.linalg.norm(own - best) < 0.02 * np.linalg.norm(best)
    assert (own == 0).tolist() == (np.abs(best) < 1e-6).tolist()
    assert (own == 0).any()


@pytest.mark.parametrize("seed", [1, 2])
def test_any_order_of_events_and_any_secrets_end_at_the_same_bytes(tmp_path: Path, seed: int) -> None:
    found = []
    for number in (0, seed):
        directory = tmp_path / str(number)
        directory.mkdir()
        pair = stage(directory, Town(3, "logistic", rows=60), number, max_iterations=2)
        pair.run()
        found.append(parameters(pair))
    assert found[0] == found[1]


def test_eight_providers_come_to_the_same_scalars(tmp_path: Path) -> None:
    pair = stage(tmp_path, Town(8, "logistic", rows=40), max_iterations=2)
    pair.run()
    assert len(parameters(pair)) == 9
    assert len({side.state.agreement for side in pair.sides}) == 1
    assert [side.state.rows for side in pair.sides] == [40] * 9


def test_a_job_that_is_over_has_let_go_of_everything_it_needed_on_the_way(tmp_path: Path) -> None:
    pair = stage(tmp_path, Town(3, "logistic", rows=60), max_iterations=1)
    pair.run()
    parameters(pair)
    for side in pair.sides:
        features = side.state.features
        kept = [side.state.snapshot, side.state.align.rows, features.matrix, features.label, features.history]
        kept += [ref for peer in side.state.peers for ref in peer.features.encrypted]
        expected = {ref.sha256 for ref in (*kept, *side.finish.results) if ref is not None}  # type: ignore[union-attr]
        assert set(side.references) == expected


def test_one_provider_that_declines_ends_the_job_for_all(tmp_path: Path) -> None:
    pair = stage(tmp_path, Town(3, "logistic", rows=40))
    pair.sides[2].settings["policy"] = {"marks": list(MARKS), "tasks": ["linear"]}
    pair.run()
    business, first, second, third = (side.finish for side in pair.sides)
    assert business is not None and first is not None and second is not None and third is not None
    assert (business.outcome, second.outcome) == ("declined", "declined")
    assert pair.sides[2].name in business.reason
    for other in (first, third):
        assert (other.outcome, other.reason_code) == ("failed", "provider_declined")
        assert pair.sides[2].name in other.reason


def test_a_provider_that_fails_ends_the_job_for_all(tmp_path: Path) -> None:
    pair = stage(tmp_path, Town(3, "logistic", rows=40), max_iterations=1)
    pair.sides[1].settings["policy"] = {"marks": list(MARKS), "intersection_min": 1000}
    pair.run()
    for side in pair.sides:
        assert side.finish is not None
        assert (side.finish.outcome, side.finish.reason_code) == ("failed", "intersection_small")
