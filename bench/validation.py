"""Cross-validation in one job against a training for every fold and penalty, in the clear but for nothing else.

    python -m bench.validation DATA_DIRECTORY [NAME [FOLDS PENALTY ...]]

prints the ciphertexts of link terms per row of both ways, what the held-out deviances are off by, and the choice.
"""

import itertools
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.simulate import JOBS, Job, load, optimum, run
from bench.solvers import Field
from learning import parts, release
from learning.arithmetic.reductions import column_sums
from learning.links import residual_terms
from learning.links.targets import Targets
from learning.solvers import cross_validation, loops, validated
from learning.solvers import history as histories
from paillier.budget import bit_budget

Vector = NDArray[np.float64]
Tables = tuple[Vector, Vector, Vector]

PENALTIES: Final = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5)


@dataclass(frozen=True)
class Found:
    """What a cross-validation came to, and the ciphertexts per row, iterations and turns of each kind that it took."""

    state: validated.Validated
    ciphertexts: float
    turns: dict[str, int]


def tariff(folds: int, penalties: int) -> release.Tariff:
    """What such a job releases, as `protocol.samples` has it."""
    return release.Tariff(fits=folds * penalties, fit_row=2 * validated.PAIRS + 3, revisions=penalties - 1)


def turns_allowed(job: Job, field: Field, folds: int, penalties: int) -> int:
    """Gradients over all rows that the release rules leave."""
    return min(
        release.iterations_allowed(
            rows=len(field.labels),
            own_columns=field.widths[1 - side],
            partner_columns=field.widths[side],
            max_iterations=100,
            small_sample=job.small_sample,
            tariff=tariff(folds, penalties),
        )
        for side in (0, 1)
    )


def validate(job: Job, field: Field, penalties: tuple[float, ...]) -> Found:
    """Run a cross-validation over the folds that the field's blocks are."""
    rows, folds = len(field.labels), len(field.blocks)
    allowed = turns_allowed(job, field, folds, len(penalties))
    plan = loops.Plan(tolerance=job.tolerance, rows=field.blocks, penalties=penalties, iterations=allowed)
    data, ciphertexts, counted = loops.begin(plan), 0.0, dict.fromkeys(("path", "revise", "fit", "check"), 0)
    held: list[Vector | None] = [None, None]
    while True:
        turn = loops.turn(plan, data)
        counted[turn.act] += 1
        said = []
        if turn.act == "revise":
            for k in (0, 1):
                field.local[k], row, largest = cross_validation.revise_gradient(
                    field.local[k], turn.penalty or 0.0, job.release_noise
                )
                said.append((row, largest))
        else:
            used, totals, terms = _totals(field, turn)
            ciphertexts += (terms + 1) * len(used) / rows
            for k in (0, 1):
                said.append(_taken(field, k, turn, totals[k], len(used), held, penalties[0]))
        row = [b + p for b, p in zip(said[0][0], said[1][0], strict=True)]
        data, step = loops.advance(plan, data, row, max(said[0][1], said[1][1]))
        if loops.turn(plan, data).act != "revise" or step.stop:
            field.local = [histories.take_step(one, step.combination) for one in field.local]
        if step.stop:
            return Found(msgspec.msgpack.decode(data, type=validated.Validated), ciphertexts, counted)


def _totals(field: Field, turn: loops.Turn) -> tuple[NDArray[np.int64], list[list[int]], int]:
    """The places of a turn's rows, both parties' exact sums with release noise, and the link terms."""
    folds = len(field.blocks)
    edges = np.cumsum([0, *field.blocks])
    used = np.concatenate([np.arange(edges[b % folds], edges[b % folds + 1]) for b in range(turn.first, turn.last)])
    budget = bit_budget(len(field.labels), 2048, field.family.residual_bound, value_bits=field.family.value_bits)
    field.iteration += 1
    z = [histories.scores(one, side.values[used]) for one, side in zip(field.local, field.sides, strict=True)]
    bound, spread = residual_terms.score_range(z[1], field.family, field.iteration)
    expansion = residual_terms.choose(field.family, bound=bound, spread=spread, tolerance=turn.link_tolerance)
    constant, coefficients = residual_terms.business_terms(expansion, z[0], Targets(field.labels[used]), budget.f_u)
    values = residual_terms.provider_exponents(expansion, z[1])
    addend = residual_terms.provider_addend(expansion, z[1], budget.f_u)
    residuals = residual_terms.combine(constant, coefficients, values, addend).tolist()
    reach = budget.noise_bound(field.job.release_noise)
    totals = [
        [
            total + (int(field.noise.integers(-reach, reach, endpoint=True)) if reach else 0)
            for total in column_sums(side.values[used], residuals)
        ]
        for side in field.sides
    ]
    return used, totals, expansion.terms


def _taken(
    field: Field,
    k: int,
    turn: loops.Turn,
    total: list[int],
    rows: int,
    held: list[Vector | None],
    strongest: float,
) -> tuple[list[float], float]:
    """A party's scalars of a turn, as `services.tasks.train.gradient` has them."""
    budget = bit_budget(len(field.labels), 2048, field.family.residual_bound, value_bits=field.family.value_bits)
    if turn.act == "check":
        found = cross_validation.data_gradient(field.local[k], total, rows, budget.f_u, budget.f_v)
        before = held[k] if turn.penalty != strongest else None
        difference, held[k] = cross_validation.held_out_difference(field.local[k], found, before)
        return [difference], 0.0
    history = cross_validation.with_penalty(field.local[k], turn.penalty or 0.0)
    field.local[k], row, largest = histories.append_gradient(
        history,
        total,
        rows,
        budget.f_u,
        field.job.release_noise,
        budget.f_v,
        all_rows=len(field.labels) if rows < len(field.labels) else 0,
        composites=turn.composites if turn.act == "fit" else None,
    )
    return row, largest


def separately(job: Job, tables: Tables, blocks: tuple[int, ...], penalties: tuple[float, ...]) -> tuple[float, float]:
    """What a training for every fold and penalty takes: ciphertexts per row of all rows together, and iterations."""
    business, provider, labels = tables
    rows, edges = len(labels), np.cumsum([0, *blocks])
    ciphertexts, iterations = 0.0, 0
    for first, last in itertools.pairwise(edges):
        outside = np.r_[0:first, last:rows]
        for penalty in penalties:
            outcome = run(replace(job, l2=penalty), business[outside], provider[outside], labels[outside])
            ciphertexts += outcome.ciphertexts_per_row * len(outside) / rows
            iterations += outcome.iterations
    return ciphertexts, iterations


def exact(job: Job, tables: Tables, blocks: tuple[int, ...], penalties: tuple[float, ...]) -> Vector:
    """Held-out mean losses (folds, penalties) of the centralised optima. Logistic only."""
    rows, edges = len(tables[2]), np.cumsum([0, *blocks])
    losses = np.zeros((len(blocks), len(penalties)))
    for fold, (first, last) in enumerate(itertools.pairwise(edges)):
        outside = np.r_[0:first, last:rows]
        for at, penalty in enumerate(penalties):
            best = optimum(replace(job, l2=penalty), *(table[outside] for table in tables))
            business, provider, labels = (table[first:last] for table in tables)
            scores = np.column_stack([np.ones(last - first), business, provider]) @ best
            losses[fold, at] = np.mean(np.logaddexp(0.0, scores) - labels * scores)
    return losses


def main() -> None:
    """The command."""
    directory, *more = sys.argv[1:]
    name, folds = (more[0] if more else "credit"), int(more[1]) if len(more) > 1 else 5
    penalties = tuple(float(value) for value in more[2:]) or PENALTIES
    job = replace(JOBS[name], l2=sorted(penalties)[len(penalties) // 2])
    tables = load(Path(directory), job)
    people = [str(row).encode() for row in range(len(tables[2]))]
    arranged = parts.arrange(people, bytes(32), parts.Layout(blocks=folds))
    business, provider, labels = (table[arranged.order] for table in tables)
    tables = (business, provider, labels)
    field = Field.of(job, tables, arranged.blocks)
    print(f"gradients over all rows that the caps leave: {turns_allowed(job, field, folds, len(penalties))}")
    found = validate(job, field, penalties)
    print(f"one job: {found.ciphertexts:.0f} ciphertexts per row, turns {found.turns}, loose {found.state.loose}")
    means = validated.mean_deviances(found.state.deviances, found.state.rows)
    print(f"deviances by penalty {[f'{value:+.5f}' for value in means]}, chosen {penalties[found.state.chosen]:g}")
    if job.task == "logistic":
        losses = exact(job, tables, arranged.blocks, penalties)
        away = (losses - losses[:, :1]).mean(axis=0)
        print(f"of the optima        {[f'{value:+.5f}' for value in away]}, lowest {penalties[int(away.argmin())]:g}")
    ciphertexts, iterations = separately(job, tables, arranged.blocks, penalties)
    print(f"{folds * len(penalties)} jobs: {ciphertexts:.0f} ciphertexts per row, {iterations} iterations")
    print(f"share of one job: {found.ciphertexts / ciphertexts:.2f}")


if __name__ == "__main__":
    main()
