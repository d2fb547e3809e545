"""The inference stage in the clear: the integer arithmetic of a job without its encryption, against statsmodels.

    python -m bench.inference DATA_DIRECTORY [NAME ...]

prints, for every data set, each coefficient's error and p-value beside statsmodels' GLM on the joined table.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import simulate
from bench.simulate import JOBS, Job, load
from learning.arithmetic.reductions import column_sums
from learning.columns.quantise import Quantised
from learning.inference import curvature as curvatures
from learning.inference import curvature_terms, standard_errors
from learning.links import residual_terms
from learning.links.family import Family
from learning.links.targets import Targets
from learning.solvers import history as histories
from paillier.budget import BitBudget, bit_budget

Vector = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Inferred:
    """Both parties' tables, the business's first; `ciphertexts_per_row` of the stage alone."""

    trained: simulate.Outcome
    estimates: tuple[standard_errors.Estimate, ...]
    dispersion: float
    ciphertexts_per_row: int

    @property
    def own(self) -> list[standard_errors.Estimate]:
        """Without the intercept."""
        return [one for one in self.estimates if one.name != standard_errors.INTERCEPT]


def infer(job: Job, business: Vector, provider: Vector, labels: Vector, seed: int = 0) -> Inferred:
    """Train, then run the stage."""
    outcome, sides, local = simulate.train(job, business, provider, labels, seed)
    noise = np.random.default_rng(seed + 1)
    rows, family = len(labels), job.family(labels)
    budget = bit_budget(rows, 2048, family.residual_bound, value_bits=family.value_bits)
    curved = [
        curvatures.begin(
            history,
            side.values,
            noise.integers(0, 2**32, curvatures.entropy_needed(len(history.scales))).tolist(),
            job.release_noise,
        )
        for history, side in zip(local, sides, strict=True)
    ]
    z = [histories.scores(history, side.values) for history, side in zip(local, sides, strict=True)]
    cost = 0
    turns = [(0, None), *((owner, j) for owner in (0, 1) for j in range(len(local[owner].scales)))]
    for owner, j in turns:
        along = None if j is None else curvatures.along(curved[owner], local[owner], j, sides[owner].values)
        residuals, terms = _residuals(family, z, labels, budget, owner, along)
        cost += terms + 1
        for k, side in enumerate(sides):
            totals = _noisy(side, residuals, budget, job, noise)
            direction = j if owner == k else None
            curved[k] = curvatures.append(
                curved[k], local[k], totals, rows, budget.f_u, budget.f_v, direction=direction
            )
    parts = [
        curvatures.unexplained_part(curved[k], local[k], family, z[k], labels if k == 0 else None) for k in range(2)
    ]
    curved = [replace(one, unexplained=part) for one, part in zip(curved, parts, strict=True)]
    said = [curvatures.summarise(one, business=k == 0) for k, one in enumerate(curved)]
    scale = standard_errors.dispersion(job.task, said[0], said[1], rows)
    estimates: list[standard_errors.Estimate] = []
    for k, (one, history) in enumerate(zip(curved, local, strict=True)):
        block = curvatures.solve(one, said[1 - k], rows, business=k == 0)
        names = [f"{'bp'[k]}{j}" for j in range(len(history.scales) - int(history.intercept))]
        estimates += standard_errors.table(names, history, block, rows, dispersion=scale)
    return Inferred(outcome, tuple(estimates), scale * local[0].label_unit ** 2, cost)


def _residuals(
    family: Family, z: list[Vector], labels: Vector, budget: BitBudget, owner: int, along: Vector | None
) -> tuple[Integers, int]:
    """What the encrypted computation gives for every row, and the terms that were sent for it."""
    bound, spread = residual_terms.score_range(z[1], family, 2)
    expansion = curvature_terms.choose(family, bound=bound, spread=spread, rows=len(labels), slope=along is None)
    if along is None:
        constant, coefficients = residual_terms.business_terms(expansion, z[0], Targets(labels), budget.f_u)
        exponents = residual_terms.provider_exponents(expansion, z[1])
        addend = residual_terms.provider_addend(expansion, z[1], budget.f_u)
    else:
        mine, theirs = (along, None) if owner == 0 else (None, along)
        constant, coefficients = curvature_terms.business_terms(expansion, z[0], mine, budget.f_u)
        exponents = curvature_terms.provider_exponents(expansion, z[1], theirs)
        addend = curvature_terms.provider_addend(expansion, len(labels), theirs, budget.f_u)
    residuals = residual_terms.combine(constant, coefficients, exponents, addend)
    assert int(np.abs(residuals).max()) < 1 << budget.residual_bits
    return residuals, coefficients.shape[1]


def _noisy(side: Quantised, residuals: Integers, budget: BitBudget, job: Job, noise: np.random.Generator) -> list[int]:
    reach = budget.noise_bound(job.release_noise)
    return [
        total + (int(noise.integers(-reach, reach, endpoint=True)) if reach else 0)
        for total in column_sums(side.values, residuals.tolist())
    ]


def peer(task: str, values: Vector, labels: Vector, power: float = 1.5) -> Any:
    """statsmodels' fit of the joined table, without penalty; parameters, errors, p-values with the constant first.

    The dispersion of Gamma and Tweedie models is estimated from the deviance there, too.
    """
    from statsmodels import api

    log = api.families.links.Log()
    families = {
        "logistic": api.families.Binomial(),
        "poisson": api.families.Poisson(),
        "linear": api.families.Gaussian(),
        "gamma": api.families.Gamma(link=log),
        "tweedie": api.families.Tweedie(link=log, var_power=power),
    }
    scale = "dev" if task in ("gamma", "tweedie") else None
    return api.GLM(labels, api.add_constant(values), family=families[task]).fit(tol=1e-12, maxiter=200, scale=scale)


def main() -> None:
    directory, *names = sys.argv[1:]
    for name in names or JOBS:
        job = replace(JOBS[name], l2=0.0)
        business, provider, labels = load(Path(directory), job)
        best = peer(job.task, np.hstack([business, provider]), labels)
        found = infer(job, business, provider, labels)
        print(
            f"{name}: {len(labels)} rows, {found.trained.iterations} iterations, ciphertexts per row "
            f"{found.trained.ciphertexts_per_row} + {found.ciphertexts_per_row}, dispersion {found.dispersion:.5g} "
            f"({best.scale:.5g})"
        )
        for one, value, error, p in zip(found.own, best.params[1:], best.bse[1:], best.pvalues[1:], strict=True):
            if one.error is None:
                print(f"  {one.name:4} {value:+.5f} error {error:.5f} p {p:.5f} | {one.note}")
                continue
            told = f"p {one.p:.5f} ({one.p / p - 1:+.2%})" if one.p is not None else f"p at most {one.p_at_most:.5f}"
            off = (one.estimate - value) / error
            print(
                f"  {one.name:4} {value:+.5f} error {error:.5f} p {p:.5f} | off by {off:+.4f} errors, "
                f"error {one.error / error - 1:+.3%}, {told}"
            )


if __name__ == "__main__":
    main()
