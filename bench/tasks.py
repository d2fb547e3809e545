"""Every kind of model over the whole machinery, against scikit-learn on the joined table.

    python -m bench.tasks [NAME ...]

trains each case between two daemons in this process, with 2048-bit keys and the default release noise where the data
set is large enough for it, and prints a row of the table in docs/performance.md. scikit-learn is among what tests need.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from learning.evaluation.part_figures import deviance
from services.cli.locals_ import train
from services.daemon.local import BUSINESS, PROVIDER, LocalTables
from services.daemon.local_job import LocalResult
from services.tables.row_columns import RowColumns

Vector = NDArray[np.float64]
Fit = Callable[[Vector, Vector, Vector | None], tuple[float, Vector]]

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SMALL = {"marks": ["small_sample"], "release_noise": 0.0}


@dataclass(frozen=True)
class Case:
    """`data` gives (columns of the business, of the provider, labels, weights or None); `fit` the oracle's optimum."""

    task: str
    data: Callable[[], tuple[Vector, Vector, Vector, Vector | None]]
    oracle: str
    fit: Fit
    job: dict[str, Any] = field(default_factory=dict)
    power: float = 0.0


def _example(name: str, label: str, rows: int | None = None) -> tuple[Vector, Vector, Vector, None]:
    business, provider = (pl.read_parquet(EXAMPLES / name / f"{who}.parquet") for who in ("business", "provider"))
    joined = business.head(rows or len(business)).join(provider, on=business.columns[0], suffix="_other", how="inner")
    own = [column for column in business.columns[1:] if column != label]
    others = [column for column in joined.columns if column not in (*own, business.columns[0], label)]
    table = joined.cast({column: pl.Float64 for column in (*own, *others, label)})
    # Standardised, so that a penalty means the same to every column.
    own_values, other_values = (_standardised(table.select(names).to_numpy()) for names in (own, others))
    return own_values, other_values, table[label].to_numpy(), None


def _standardised(values: Vector) -> Vector:
    return np.asarray((values - values.mean(axis=0)) / values.std(axis=0))


def _diabetes() -> tuple[Vector, Vector, Vector, None]:
    from sklearn.datasets import load_diabetes

    values, label = load_diabetes(return_X_y=True)
    return _standardised(values[:, :4]), _standardised(values[:, 4:]), label, None


def _weighted_diabetes() -> tuple[Vector, Vector, Vector, Vector]:
    business, provider, label, _ = _diabetes()
    return business, provider, label, np.random.default_rng(7).integers(0, 5, len(label)).astype(float)


def _regressor(name: str, **parameters: Any) -> Fit:
    def fit(values: Vector, label: Vector, weight: Vector | None) -> tuple[float, Vector]:
        from sklearn import linear_model

        made = dict(parameters)
        if "C" in made:
            made["C"] /= len(label)
        if name == "Ridge":
            made["alpha"] *= float(len(label) if weight is None else weight.sum())
        model = getattr(linear_model, name)(tol=1e-8, max_iter=100_000, **made)
        model.fit(values, label, **({} if weight is None else {"sample_weight": weight}))
        return float(np.ravel(model.intercept_)[0]), np.ravel(model.coef_)

    return fit


CASES: dict[str, Case] = {
    "poisson dvisits": Case(
        "poisson",
        lambda: _example("dvisits", "doctorco"),
        "PoissonRegressor",
        _regressor("PoissonRegressor", alpha=1e-3),
    ),
    "tweedie 1.5 dvisits": Case(
        "tweedie",
        lambda: _example("dvisits", "doctorco"),
        "TweedieRegressor",
        _regressor("TweedieRegressor", power=1.5, link="log", alpha=1e-3),
        {"tweedie_power": 1.5},
        1.5,
    ),
    "tweedie 1.5 dvisits, no release noise": Case(
        "tweedie",
        lambda: _example("dvisits", "doctorco"),
        "TweedieRegressor",
        _regressor("TweedieRegressor", power=1.5, link="log", alpha=1e-3),
        {**SMALL, "tweedie_power": 1.5},
        1.5,
    ),
    # One release is expected to move the coefficients by 6.5 % at a penalty of 1e-3, and by 1.1 % at this one.
    "tweedie 1.5 dvisits, l2 3e-2": Case(
        "tweedie",
        lambda: _example("dvisits", "doctorco"),
        "TweedieRegressor",
        _regressor("TweedieRegressor", power=1.5, link="log", alpha=3e-2),
        {"tweedie_power": 1.5, "l2": 3e-2},
        1.5,
    ),
    "gamma diabetes": Case("gamma", _diabetes, "GammaRegressor", _regressor("GammaRegressor", alpha=1e-3), SMALL),
    "balanced logistic default_credit": Case(
        "logistic",
        lambda: _example("default_credit", "y"),
        "LogisticRegression",
        _regressor("LogisticRegression", C=1e3, class_weight="balanced"),
        {"class_weight": "balanced"},
    ),
    "weighted linear diabetes": Case(
        "linear", _weighted_diabetes, "Ridge", _regressor("Ridge", alpha=1e-3), {**SMALL, "weight": "w"}
    ),
    "elastic net logistic default_credit": Case(
        "logistic",
        lambda: _example("default_credit", "y"),
        "LogisticRegression (saga)",
        _regressor("LogisticRegression", C=1 / 11e-3, l1_ratio=10 / 11, solver="saga"),
        {"l1": 1e-2},
    ),
    "elastic net linear diabetes": Case(
        "linear",
        _diabetes,
        "ElasticNet",
        _regressor("ElasticNet", alpha=2.001, l1_ratio=2 / 2.001),
        {**SMALL, "l1": 2.0},
    ),
}


def _write(directory: Path, case: Case) -> tuple[LocalTables, Vector, Vector, Vector | None]:
    business, provider, label, weight = case.data()
    names = [f"row-{number:06d}" for number in range(len(label))]
    own = {"id": names, "y": label, **{f"b{j}": column for j, column in enumerate(business.T)}}
    if weight is not None:
        own["w"] = weight
    pl.DataFrame(own).write_parquet(directory / "business.parquet")
    others = {"id": names, **{f"p{j}": column for j, column in enumerate(provider.T)}}
    pl.DataFrame(others).write_parquet(directory / "provider.parquet")
    tables = LocalTables(
        business=directory / "business.parquet",
        provider=directory / "provider.parquet",
        identifier="id",
        label="y",
        beside=RowColumns(weight="w" if weight is not None else ""),
        class_weight=case.job.get("class_weight", ""),
    )
    return tables, np.hstack([business, provider]), label, weight


def _parameters(result: LocalResult) -> tuple[float, Vector]:
    own, other = (json.loads(result.parameters[role]) for role in (BUSINESS, PROVIDER))
    return own["intercept"], np.array([*own["coefficients"].values(), *other["coefficients"].values()])


def measure(name: str) -> str:
    """Train a case and compare: a row of the table."""
    case = CASES[name]
    with tempfile.TemporaryDirectory() as directory:
        tables, values, label, weight = _write(Path(directory), case)
        result = train(tables, {"task": case.task, "l2": 1e-3, **case.job}, broker="embedded", show_progress=False)
    intercept, coefficients = _parameters(result)
    best_intercept, best = case.fit(values, label, weight)
    if case.job.get("class_weight"):
        counts = np.bincount(label.astype(int))
        weight = (len(label) / (2 * counts))[label.astype(int)]
    found, optimum = (
        deviance(case.task, label, values @ part + start, weight, case.power)
        for start, part in ((intercept, coefficients), (best_intercept, best))
    )
    facts = json.loads(result.history)["iterations"]
    zeros = f"{int((coefficients == 0).sum())} / {int((best == 0).sum())}" if case.job.get("l1") else ""
    distance = np.linalg.norm(coefficients - best) / np.linalg.norm(best)
    return (
        f"| {name} | {len(label)} | {case.oracle} | {len(facts)} | {sum(fact['terms'] + 1 for fact in facts)} | "
        f"{100 * distance:.2f} % | {100 * (found / optimum - 1):+.4f} % | {zeros} |"
    )


def main() -> None:
    print("| model, data | rows | against | iterations | ciphertexts a row | coefficients | deviance | zeros |")
    print("|---|---:|---|---:|---:|---:|---:|---:|")
    for name in sys.argv[1:] or CASES:
        print(measure(name), flush=True)


if __name__ == "__main__":
    main()
