"""Does a job come to the centralised optimum whatever the data look like? Random problems, in the clear.

    python -m bench.robustness [--problems 400] [--first 0] [--noise] [--all]

makes problems from seeds (rows, columns, task, penalty, difficulties of the data), runs the integer arithmetic of a job
without encryption, and compares with the optimum on the joined table. It prints every problem that is not
within 2 % of it by scores or by coefficients, and a table by task and by trait. A problem can be looked at alone:
`--first SEED --problems 1 --all`.
"""

import argparse
import collections
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.simulate import Job, train
from learning.columns.quantise import ColumnRefused
from learning.links.family import LinkError
from learning.links.targets import Targets
from services.results import reference

Vector = NDArray[np.float64]

WITHIN: Final = 0.02
TASKS: Final = (
    ("logistic", 0.0),
    ("linear", 0.0),
    ("poisson", 0.0),
    ("gamma", 0.0),
    ("tweedie", 1.0),
    ("tweedie", 1.5),
    ("tweedie", 1.9),
)
PENALTIES: Final = (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)


@dataclass
class Problem:
    """Columns of the business and of the provider, what is known of rows, and how it was made."""

    seed: int
    task: str
    power: float
    l2: float
    business: Vector
    provider: Vector
    targets: Targets
    traits: tuple[str, ...]

    @property
    def columns(self) -> Vector:
        """All columns (n, d), the business's first."""
        return np.hstack([self.business, self.provider])

    def __str__(self) -> str:
        power = f" {self.power:g}" if self.power else ""
        rows, columns = self.columns.shape
        return (
            f"{self.seed}: {self.task}{power}, {rows} x {columns}, l2 {self.l2:g}, {' '.join(self.traits) or 'plain'}"
        )


@dataclass(frozen=True)
class Found:
    """How a problem went: `refused` by which rule; else distances from the optimum and what the job says of itself."""

    problem: Problem
    refused: str = ""
    by_coefficients: float = math.nan
    by_scores: float = math.nan
    iterations: int = 0
    converged: bool = False

    @property
    def near(self) -> bool:
        """Whether scores or coefficients are within 2 % of the optimum's."""
        return min(self.by_scores, self.by_coefficients) <= WITHIN

    def __str__(self) -> str:
        if self.refused:
            return f"{self.problem}: refused, {self.refused}"
        ended = "converged" if self.converged else "not converged"
        return (
            f"{self.problem}: scores {self.by_scores:.2%}, coefficients {self.by_coefficients:.2%} off, "
            f"{self.iterations} iterations, {ended}"
        )


def _collinear(chance: np.random.Generator, columns: Vector) -> Vector:
    """A column that others nearly determine, as age and its square."""
    if columns.shape[1] > 1:
        columns[:, -1] = columns[:, 0] + 10.0 ** chance.uniform(-3, -1) * columns[:, -1]
    return columns


def _heavy(chance: np.random.Generator, columns: Vector) -> Vector:
    """A few columns with tails as those of amounts."""
    for j in range(0, columns.shape[1], 2):
        columns[:, j] = np.exp(chance.uniform(0.5, 1.2) * columns[:, j])
    return columns


def _outlier(chance: np.random.Generator, columns: Vector) -> Vector:
    """One value far from all others."""
    columns[int(chance.integers(len(columns))), -1] = 50.0
    return columns


def _one_hot(chance: np.random.Generator, columns: Vector) -> Vector:
    """A category in a column each, without leaving one out."""
    width = min(4, columns.shape[1])
    columns[:, :width] = np.eye(width)[chance.integers(width, size=len(columns))]
    return columns


def _counts(chance: np.random.Generator, columns: Vector) -> Vector:
    """A column of counts."""
    columns[:, 0] = chance.poisson(1.0, len(columns))
    return columns


TRAITS: Final[dict[str, Callable[[np.random.Generator, Vector], Vector]]] = {
    "collinear": _collinear,
    "heavy": _heavy,
    "outlier": _outlier,
    "one-hot": _one_hot,
    "counts": _counts,
}
OF_ROWS: Final = ("scales", "shifted", "rare", "separable", "weights", "offset", "constant")


def problem(seed: int) -> Problem:
    """The problem of a seed."""
    chance = np.random.default_rng(seed)
    task, power = TASKS[seed % len(TASKS)]
    rows, width = round(math.exp(chance.uniform(math.log(50), math.log(5000)))), int(chance.integers(2, 41))
    width = min(width, max(2, rows // 10))
    traits = [
        name for name in (*TRAITS, *OF_ROWS) if chance.random() < (0.04 if name in ("constant", "outlier") else 0.2)
    ]
    columns = chance.standard_normal((rows, width))
    for name in traits:
        if name in TRAITS:
            columns = TRAITS[name](chance, columns)
    strength = chance.uniform(0.2, 1.0) if task != "logistic" or "separable" not in traits else 6.0
    typical = (columns - columns.mean(axis=0)) / np.maximum(columns.std(axis=0), 1e-12)
    score = typical @ chance.standard_normal(width) * (strength / math.sqrt(width))
    offset = np.log(chance.uniform(0.05, 20.0, rows)) if "offset" in traits and task != "linear" else None
    label = _labels(chance, task, power, score + (0.0 if offset is None else offset), rare="rare" in traits)
    weight = chance.integers(0, 4, rows).astype(float) if "weights" in traits else None
    if "scales" in traits:
        columns = columns * 10.0 ** chance.uniform(-6, 6, width)
    if "shifted" in traits:
        columns = columns + columns.std(axis=0) * chance.uniform(-100, 100, width)
    if "constant" in traits:
        columns[:, 0] = 3.0
    l2 = PENALTIES[int(chance.integers(len(PENALTIES)))] * float(np.median(columns.var(axis=0)))
    own = max(1, int(chance.integers(1, width)))
    targets = Targets(label, weight, offset).normalised(rows)
    return Problem(seed, task, power, l2, columns[:, :own], columns[:, own:], targets, tuple(traits))


def _labels(chance: np.random.Generator, task: str, power: float, score: Vector, *, rare: bool) -> Vector:
    rows = len(score)
    if task == "logistic":
        score = score - (5.3 if rare else 0.0)
        label = (chance.random(rows) < 1 / (1 + np.exp(-score))).astype(float)
        label[:2] = (0.0, 1.0)  # both classes
        return label
    if task == "linear":
        noise: Vector = chance.standard_t(3, rows) if rare else chance.standard_normal(rows)
        return score * 3.0 + 20.0 * chance.random() + noise
    mean = np.exp(np.clip(score, -20, 12) + (-3.0 if rare else chance.uniform(-1.0, 2.0)))
    if task == "gamma":
        return np.maximum(chance.gamma(2.0, mean / 2.0), 1e-9)
    counts = chance.poisson(mean).astype(float)
    if task == "tweedie" and power > 1.0:
        counts = np.array([chance.gamma(2.0, 0.5, int(k)).sum() for k in np.minimum(counts, 1000)])
    counts[0] = max(counts[0], 1.0)
    return counts


def run(one: Problem, *, noise: float = 0.0) -> Found:
    """Run the job of a problem and compare."""
    job = Job(
        "random",
        one.task,
        "y",
        one.l2,
        label_bound=2.0 ** max(0, math.ceil(math.log2(max(1.0, float(np.abs(one.targets.label).max()))))),
        small_sample=True,
        release_noise=noise,
        power=one.power,
    )
    try:
        outcome, *_ = train(job, one.business, one.provider, one.targets.label, one.seed, one.targets)
    except (ColumnRefused, LinkError) as error:
        return Found(one, refused=error.code)
    best = reference.fit(
        one.task,
        one.columns,
        one.targets.label,
        one.l2,
        power=one.power,
        weight=one.targets.weight,
        offset=one.targets.offset,
    )
    scale = one.columns.std(axis=0)
    found = np.array([*outcome.business.coefficients, *outcome.provider.coefficients])
    size = float(np.linalg.norm(best.coefficients * scale))
    apart = float(np.linalg.norm((found - best.coefficients) * scale)) / max(size, 1e-12)
    constant = outcome.business.constant + outcome.provider.constant
    scores, goal = one.columns @ found + constant, one.columns @ best.coefficients + best.intercept
    by_scores = float(np.sqrt(np.mean((scores - goal) ** 2))) / max(float(np.std(goal)), 1e-12)
    return Found(
        one,
        by_coefficients=apart,
        by_scores=by_scores,
        iterations=outcome.iterations,
        converged=outcome.converged,
    )


def study(seeds: range, *, noise: float = 0.0) -> Iterator[Found]:
    """The problems of some seeds, one after the other."""
    for seed in seeds:
        yield run(problem(seed), noise=noise)


@dataclass
class Tally:
    """Of one task or trait: problems, those refused, near the optimum, converged; distances by scores."""

    problems: int = 0
    refused: int = 0
    near: int = 0
    converged: int = 0
    distances: list[float] = field(default_factory=list)

    def add(self, found: Found) -> None:
        """Count one."""
        self.problems += 1
        self.refused += bool(found.refused)
        self.near += found.near
        self.converged += found.converged
        if not found.refused:
            self.distances.append(found.by_scores)

    def __str__(self) -> str:
        at = np.quantile(self.distances, (0.5, 0.9)) if self.distances else (math.nan, math.nan)
        shown = f"{at[0]:.2%} | {at[1]:.2%}"
        return f"{self.problems} | {self.refused} | {self.near} | {self.converged} | {shown}"


def main() -> None:
    """The command."""
    asked = argparse.ArgumentParser(prog="python -m bench.robustness", description=__doc__.split("\n")[0])
    asked.add_argument("--problems", type=int, default=400)
    asked.add_argument("--first", type=int, default=0, help="seed of the first one")
    asked.add_argument("--noise", action="store_true", help="with the default release noise")
    asked.add_argument("--all", action="store_true", help="print every problem")
    given = asked.parse_args()
    tallies: dict[str, Tally] = collections.defaultdict(Tally)
    seeds = range(given.first, given.first + given.problems)
    for found in study(seeds, noise=1 / 32 if given.noise else 0.0):
        one = found.problem
        kind = f"{one.task} {one.power:g}" if one.power else one.task
        for name in (kind, *(one.traits or ("plain",))):
            tallies[name].add(found)
        if given.all or not (found.refused or found.near):
            print(found, flush=True)
    print("\n| task or trait | problems | refused | within 2 % | converged | scores off, median | 90 % |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, tally in tallies.items():
        print(f"| {name} | {tally} |")


if __name__ == "__main__":
    main()
