"""The whole loop in the clear: the integer arithmetic of a job, without its encryption.

    python -m bench.simulate DATA_DIRECTORY [NAME ...]

prints, for every data set, what a job would cost and how far its model is from the centralised optimum.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from learning import release
from learning.arithmetic.reductions import column_sums
from learning.columns.quantise import Quantised, quantise
from learning.evaluation import metrics
from learning.links import residual_terms
from learning.links.family import LOG_LINKS, VALUE_BITS, Family
from learning.links.targets import Targets, declared_units, declared_units_of_counts, start_score
from learning.solvers import history as histories
from learning.solvers import loop, proximal_loop
from paillier.budget import bit_budget
from services.daemon.job_file import LOG_VALUE_BITS
from services.results import reference

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Job:
    name: str
    task: str
    label: str
    l2: float
    label_bound: float = 1.0
    rows: int | None = None
    small_sample: bool = False
    release_noise: float = 1 / 32
    max_iterations: int = 30
    tolerance: float = loop.DEFAULT_TOLERANCE
    power: float = 0.0
    l1: float = 0.0

    def family(self, labels: Vector, targets: Targets | None = None) -> Family:
        """As `services.daemon.job_file` declares it. `targets`: where rows have weights or offsets."""
        targets = targets or Targets(labels)
        told = {"weighted": targets.weight is not None, "shifted": targets.offset is not None}
        at_mean = self.task in LOG_LINKS
        if not at_mean and targets.weight is None:
            return Family(task=self.task, label_bound=self.label_bound, **told)
        if self.task == "poisson" and not any(told.values()):
            unit, curvature = declared_units_of_counts(targets, self.label_bound)
        else:
            unit, curvature = declared_units(self.task, self.power, targets)
        return Family(
            task=self.task,
            power=self.power,
            label_bound=self.label_bound,
            value_bits=LOG_VALUE_BITS if at_mean else VALUE_BITS,
            residual_unit=unit,
            curvature=curvature,
            **told,
        )


@dataclass(frozen=True)
class Outcome:
    iterations: int
    converged: bool
    reason: str
    ciphertexts_per_row: int
    terms: tuple[int, ...]
    loop_bytes: int
    business: histories.TargetParameters
    provider: histories.TargetParameters


JOBS = {
    "credit-4000": Job("default_credit", "logistic", "y", 1e-4, rows=4000),
    "credit": Job("default_credit", "logistic", "y", 1e-4),
    "breast": Job("breast", "logistic", "y", 1e-2, small_sample=True, release_noise=0.0),
    "motor": Job("motor", "linear", "motor_speed", 1e-3, 4.0, small_sample=True, release_noise=0.0),
    "dvisits": Job("dvisits", "poisson", "doctorco", 1e-4, 16.0),
}


def load(directory: Path, job: Job) -> tuple[Vector, Vector, Vector]:
    """(business columns, provider columns, labels), joined on the identifier."""
    business = pl.read_csv(directory / f"{job.name}_hetero_guest.csv").head(job.rows or 2**62)
    provider = pl.read_csv(directory / f"{job.name}_hetero_host.csv")
    key = business.columns[0]
    joined = business.join(provider, on=key, suffix="_provider", how="inner", maintain_order="left")
    own = [name for name in business.columns if name not in (key, job.label)]
    other = [name if name not in business.columns else f"{name}_provider" for name in provider.columns[1:]]
    return (
        joined.select(own).cast(pl.Float64).to_numpy(),
        joined.select(other).cast(pl.Float64).to_numpy(),
        joined[job.label].cast(pl.Float64).to_numpy(),
    )


def run(job: Job, business: Vector, provider: Vector, labels: Vector, seed: int = 0) -> Outcome:
    """One job: two local histories, one shared loop, exact integers between them."""
    return train(job, business, provider, labels, seed)[0]


def train(
    job: Job, business: Vector, provider: Vector, labels: Vector, seed: int = 0, targets: Targets | None = None
) -> tuple[Outcome, list[Quantised], list[histories.LocalHistory]]:
    """`run`, with what each party keeps to itself: quantised columns and history, the business's first.

    `targets`: labels with weights and offsets, where rows have any.
    """
    rows, targets = len(labels), targets or Targets(labels)
    noise = np.random.default_rng(seed)
    sides = [
        quantise(matrix, [f"x{j}" for j in range(matrix.shape[1])], intercept=first, small_sample=job.small_sample)
        for matrix, first in ((business, True), (provider, False))
    ]
    family = job.family(labels, targets)
    base = start_score(family, targets)
    local = [
        histories.begin(side, family=family, l2=job.l2, release_noise=job.release_noise, base=own, l1=job.l1)
        for side, own in zip(sides, (base, 0.0), strict=True)
    ]
    widths = [len(s.scales) for s in sides]
    allowed = min(
        release.iterations_allowed(
            rows=rows,
            own_columns=widths[1 - side],
            partner_columns=widths[side],
            max_iterations=job.max_iterations,
            small_sample=job.small_sample,
        )
        for side in (0, 1)
    )
    budget = bit_budget(rows, 2048, family.residual_bound, value_bits=family.value_bits)
    state = loop.begin(job.tolerance)
    combination: loop.Coefficients = ()
    ciphertexts, terms = 0, []
    for iteration in range(1, allowed + 1):
        local = [histories.take_step(history, combination) for history in local]
        z = [histories.scores(history, side.values) for history, side in zip(local, sides, strict=True)]
        bound, spread = residual_terms.score_range(z[1], family, iteration)
        expansion = residual_terms.choose(family, bound=bound, spread=spread, tolerance=state.link_tolerance)
        constant, coefficients = residual_terms.business_terms(expansion, z[0], targets, budget.f_u)
        residuals = residual_terms.combine(
            constant,
            coefficients,
            residual_terms.provider_exponents(expansion, z[1]),
            residual_terms.provider_addend(expansion, z[1], budget.f_u),
        )
        ciphertexts += expansion.terms + 1
        terms.append(expansion.terms)
        said = []
        for k, side in enumerate(sides):
            reach = budget.noise_bound(job.release_noise)
            totals = [
                total + (int(noise.integers(-reach, reach, endpoint=True)) if reach else 0)
                for total in column_sums(side.values, residuals.tolist())
            ]
            local[k], row, largest = histories.append_gradient(
                local[k], totals, rows, budget.f_u, job.release_noise, budget.f_v
            )
            said.append((row, largest))
        row = [b + p for b, p in zip(said[0][0], said[1][0], strict=True)]
        advance = proximal_loop.advance if job.l1 else loop.advance
        state, step = advance(state, row, max(said[0][1], said[1][1]), last=iteration == allowed)
        combination = step.combination
        if step.stop:
            break
    local = [histories.take_step(history, combination) for history in local]
    outcome = Outcome(
        iterations=iteration,
        converged=step.converged,
        reason=step.reason,
        ciphertexts_per_row=ciphertexts,
        terms=tuple(terms),
        loop_bytes=len(loop.encode(state)),
        business=histories.target(local[0]),
        provider=histories.target(local[1]),
    )
    return outcome, sides, local


def joined_parameters(outcome: Outcome) -> Vector:
    """(intercept, business coefficients, provider coefficients) of the model on raw columns."""
    intercept = outcome.business.constant + outcome.provider.constant
    return np.array([intercept, *outcome.business.coefficients, *outcome.provider.coefficients])


def optimum(job: Job, business: Vector, provider: Vector, labels: Vector) -> Vector:
    """The centralised optimum by Newton's method, in the order of `joined_parameters`."""
    best = reference.fit(job.task, np.hstack([business, provider]), labels, job.l2, power=job.power)
    return np.array([best.intercept, *best.coefficients])


def report(name: str, directory: Path, seeds: int) -> None:
    job = JOBS[name]
    business, provider, labels = load(directory, job)
    best = optimum(job, business, provider, labels)
    z = np.column_stack([np.ones(len(labels)), business, provider]) @ best
    reference = metrics.evaluate(job.task, labels, z, job.power)
    for seed in range(seeds if job.release_noise else 1):
        outcome = run(job, business, provider, labels, seed)
        found = joined_parameters(outcome)
        scores = outcome.business.scores(business) + outcome.provider.scores(provider)
        reached = metrics.evaluate(job.task, labels, scores, job.power)
        distance = np.linalg.norm(found - best) / np.linalg.norm(best)
        differences = ", ".join(f"{key} {reached[key] - reference[key]:+.5f}" for key in reference)
        print(
            f"{name:12} rows {len(labels):6} iterations {outcome.iterations:3} {outcome.reason:10} "
            f"ciphertexts/row {outcome.ciphertexts_per_row:4} relative L2 {distance:.4f}  {differences}"
            f"  loop {outcome.loop_bytes} B, terms {outcome.terms}"
        )


def main() -> None:
    directory, *names = sys.argv[1:]
    for name in names or JOBS:
        report(name, Path(directory), seeds=3)


if __name__ == "__main__":
    main()
