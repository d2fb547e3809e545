"""What each solver and sample set costs to come within 1 % of the optimum, in the clear but for nothing else.

    python -m bench.solvers DATA_DIRECTORY [NAME ...]

prints, for every data set, the ciphertexts of link terms per row, and the products per row
(`services.results.product_count`), that a job has spent when its model first is within 1 % of the centralised optimum:
by its scores (root mean square distance over the spread of the optimum's scores) and by its coefficients (relative
distance). Without release noise, whose share in the distance depends on the number of rows alone.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.simulate import JOBS, Job, load, optimum
from learning import parts
from learning.arithmetic.reductions import column_sums
from learning.columns.quantise import Quantised, quantise
from learning.links import residual_terms
from learning.links.family import Family
from learning.links.targets import Targets, start_score
from learning.solvers import history as histories
from learning.solvers import loop, loops
from paillier.budget import bit_budget
from services.results.product_count import products_per_row

Vector = NDArray[np.float64]

WITHIN: Final = 0.01
LONG: Final = 3.0
"""Times that a long product takes, in short ones (docs/paillier.md)."""

SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "lbfgs, full": {},
    "lbfgs, growing, 4 stages": {"sample_set": "growing", "blocks": 4},
    "lbfgs, fraction, 2 batches": {"sample_set": "fraction", "blocks": 2},
    "lbfgs, fraction, 4 batches": {"sample_set": "fraction", "blocks": 4, "iterations": 60},
    "block, cyclic": {"solver": "block"},
    "block, random": {"solver": "block", "draw": "random"},
    "block, greedy": {"solver": "block", "draw": "greedy"},
}


@dataclass
class Field:
    """Both parties' columns and histories in one place, and the arranged rows."""

    job: Job
    family: Family
    labels: Vector
    sides: list[Quantised]
    local: list[histories.LocalHistory]
    blocks: tuple[int, ...]
    design: Vector
    best: Vector
    noise: np.random.Generator
    iteration: int = 0

    @classmethod
    def of(cls, job: Job, tables: tuple[Vector, Vector, Vector], blocks: tuple[int, ...], seed: int = 0) -> "Field":
        """The field of a job's tables: business, provider, labels; rows are arranged already."""
        business, provider, labels = tables
        family = job.family(labels)
        sides = [
            quantise(matrix, [f"x{j}" for j in range(matrix.shape[1])], intercept=first, small_sample=job.small_sample)
            for matrix, first in ((business, True), (provider, False))
        ]
        local = [
            histories.begin(side, family=family, l2=job.l2, release_noise=job.release_noise, base=base)
            for side, base in zip(sides, (start_score(family, Targets(labels)), 0.0), strict=True)
        ]
        design = np.column_stack([np.ones(len(labels)), business, provider])
        best = optimum(job, business, provider, labels)
        chance = np.random.default_rng(seed)
        return cls(job, family, labels, sides, local, blocks, design, best, chance)

    @property
    def widths(self) -> tuple[int, int]:
        """Columns of the business, intercept included, and of the provider."""
        return len(self.sides[0].scales), len(self.sides[1].scales)

    def rows_of(self, turn: loops.Turn) -> slice:
        """The arranged rows of a turn."""
        return slice(sum(self.blocks[: turn.first]), sum(self.blocks[: turn.last]))

    def gradient(self, turn: loops.Turn) -> tuple[list[float], float, int]:
        """Both parties' products added, their largest entry, and the link terms that it took."""
        rows, job = self.rows_of(turn), self.job
        self.iteration += 1
        budget = bit_budget(len(self.labels), 2048, self.family.residual_bound, value_bits=self.family.value_bits)
        z = [histories.scores(one, side.values[rows]) for one, side in zip(self.local, self.sides, strict=True)]
        bound, spread = residual_terms.score_range(z[1], self.family, self.iteration)
        expansion = residual_terms.choose(self.family, bound=bound, spread=spread, tolerance=turn.link_tolerance)
        constant, coefficients = residual_terms.business_terms(expansion, z[0], Targets(self.labels[rows]), budget.f_u)
        residuals = residual_terms.combine(
            constant,
            coefficients,
            residual_terms.provider_exponents(expansion, z[1]),
            residual_terms.provider_addend(expansion, z[1], budget.f_u),
        ).tolist()
        reach = budget.noise_bound(job.release_noise)
        said, first = [], 0
        for k, side in enumerate(self.sides):
            width = len(side.scales)
            drawn = [code - first for code in turn.codes if first <= code < first + width] if turn.codes else None
            totals = [
                total + (int(self.noise.integers(-reach, reach, endpoint=True)) if reach else 0)
                for total in column_sums(side.values[rows], residuals)
            ]
            self.local[k], row, largest = histories.append_gradient(
                self.local[k],
                totals,
                len(residuals),
                budget.f_u,
                job.release_noise,
                budget.f_v,
                drawn=drawn,
                against=turn.against,
                all_rows=len(self.labels) if len(residuals) < len(self.labels) else 0,
            )
            said.append((row, largest))
            first += width
        row = [b + p for b, p in zip(said[0][0], said[1][0], strict=True)]
        return row, max(said[0][1], said[1][1]), expansion.terms

    def distances(self) -> tuple[float, float]:
        """How far the present model is from the optimum: by scores, by coefficients."""
        targets = [histories.target(one) for one in self.local]
        constant = targets[0].constant + targets[1].constant
        found = np.array([constant, *targets[0].coefficients, *targets[1].coefficients])
        scores, goal = self.design @ found, self.design @ self.best
        by_scores = np.sqrt(np.mean((scores - goal) ** 2)) / np.std(goal)
        return float(by_scores), float(np.linalg.norm(found - self.best) / np.linalg.norm(self.best))


@dataclass(frozen=True)
class Spent:
    """After an iteration: ciphertexts and products (in short ones) per row so far, and the distances."""

    ciphertexts: float
    products: float
    by_scores: float
    by_coefficients: float
    step: loop.Step


def spend(field: Field, plan: loops.Plan, iterations: int) -> Iterator[Spent]:
    """Run a job's loop; after every iteration, what it has cost."""
    rows, data = len(field.labels), loops.begin(plan)
    ciphertexts = products = 0.0
    for iteration in range(1, iterations + 1):
        turn = loops.turn(plan, data)
        row, largest, terms = field.gradient(turn)
        share = (field.rows_of(turn).stop - field.rows_of(turn).start) / rows
        ciphertexts += share * (terms + 1)
        products += share * _products(field, turn, terms)
        data, step = loops.advance(plan, data, row, largest, last=iteration == iterations)
        field.local = [histories.take_step(one, step.combination) for one in field.local]
        yield Spent(ciphertexts, products, *field.distances(), step)
        if step.stop:
            return


def _products(field: Field, turn: loops.Turn, terms: int) -> float:
    """Products per row of one iteration; a party of whose columns none is drawn has no cross term."""
    business = field.widths[0]
    drawn = [code < business for code in turn.codes] or [True, False]
    columns = (business if any(drawn) else 0, field.widths[1] if not all(drawn) else 0)
    facts: dict[str, Any] = {
        "rows": len(field.labels),
        "columns": columns,
        "key_bits": 2048,
        "residual_bound": field.family.residual_bound,
        "back_end": "compiled",
    }
    one, nothing = products_per_row([terms], **facts), products_per_row([], **facts)
    return one.short - nothing.short + LONG * (one.long - nothing.long)


def plan_of(field: Field, **settings: Any) -> loops.Plan:
    """The plan of a field's loop."""
    facts = {"tolerance": field.job.tolerance, "rows": field.blocks, "codes": sum(field.widths), "seed": bytes(32)}
    return loops.Plan(**{**facts, **settings})


def measure(job: Job, tables: tuple[Vector, Vector, Vector], settings: dict[str, Any], seed: int = 0) -> list[Spent]:
    """All iterations of a job by one of `SETTINGS`."""
    settings = dict(settings)
    blocks, iterations = settings.pop("blocks", 1), settings.pop("iterations", 160)
    layout = parts.Layout(blocks=blocks, nested=settings.get("sample_set") == "growing")
    people = [str(row).encode() for row in range(len(tables[2]))]
    arranged = parts.arrange(people, seed.to_bytes(32, "little"), layout)
    business, provider, labels = (table[arranged.order] for table in tables)
    field = Field.of(job, (business, provider, labels), arranged.blocks, seed)
    return list(spend(field, plan_of(field, **settings), iterations))


def main() -> None:
    """The command."""
    directory, *names = sys.argv[1:]
    print("| data | solver, sample set | iterations | ciphertexts: scores, coefficients, all | products | at the end |")
    print("|---|---|---:|---:|---:|---:|")
    for name in names or ("credit", "breast", "motor", "dvisits"):
        job = replace(JOBS[name], release_noise=0.0)
        tables = load(Path(directory), job)
        for title, settings in SETTINGS.items():
            spent = measure(job, tables, settings)
            by_scores = next((one for one in spent if one.by_scores <= WITHIN), None)
            by_both = next((one for one in spent if one.by_coefficients <= WITHIN), None)
            end = spent[-1]
            reached = [f"{one.ciphertexts:.0f}" if one else "-" for one in (by_scores, by_both)]
            cost = f"{by_scores.products:,.0f}" if by_scores else "-"
            print(
                f"| {name} | {title} | {len(spent)} | {reached[0]}, {reached[1]}, {end.ciphertexts:.0f} | {cost} "
                f"| {end.by_scores:.2%}, {end.by_coefficients:.2%} ({end.step.reason}) |"
            )


if __name__ == "__main__":
    main()
