"""Several jobs on nearly the same rows: first gradients added and subtracted until few rows are left.

The provider chooses which of its rows it brings, so it chooses the row sets. Its columns here are flags of plus and
minus one, which quantise alike in every row set: what is left of sums and differences is the few rows alone.
"""

import itertools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learning.solvers import history as histories
from services.tables.table import Table
from tests.attacks.labels.transcript import Recorded, Transcript, example, run_job, table

Floats = np.ndarray[Any, np.dtype[np.float64]]
Plan = Sequence[tuple[tuple[int, int], int]]

COLUMNS = 12
FEW = 5
UNMARKED, MARKED = ("insecure",), ("insecure", "small_sample")
FLAGS = np.random.default_rng(8).choice([-1.0, 1.0], size=(2100, COLUMNS))

# Which rows the provider brings to which job, and the sign with which their gradients go into the sum.
TWO_JOBS = (((0, 1005), 1), ((0, 1000), -1))
THREE_JOBS = (((0, 2005), -1), ((0, 1000), 1), ((1000, 2010), 1))


def tables(rows: tuple[int, int]) -> tuple[Table, Table]:
    """The business brings 2010 customers to every job, the provider these rows of them."""
    business, provider = example("default_credit", 0, 2010, slice(0, 10), slice(10, 12))
    chosen = slice(*rows)
    return business, table(provider.identifiers[chosen], FLAGS[: len(provider.identifiers)][chosen])


def jobs(directory: Path, plan: Plan, marks: Sequence[tuple[str, ...]]) -> list[Recorded]:
    """The jobs of a plan, one after the other between the same two parties."""
    return [
        run_job(directory, *tables(rows), seed=number, marks=mark, release_noise=1 / 32)
        for number, ((rows, _), mark) in enumerate(zip(plan, marks, strict=True))
    ]


@dataclass
class Sums:
    """`sum_i x_ij y_i` over a job's rows is `scaled` + `centres` times the number of ones, which is not known."""

    scaled: Floats
    centres: Floats


def label_sums(seen: Transcript) -> Sums:
    """What a job's first gradient says in units of the raw columns; the grid is the provider's own."""
    own = histories.decode(seen.of("features.quantise")[0].result.blobs[1][0])
    return Sums(seen.label_sums() * own.scales, own.centres)


def few_labels(plan: Plan, found: Sequence[Recorded], rows: Floats) -> tuple[int, ...]:
    """Of all ways to label the few rows that are left (n, d), the one that the sums of all jobs allow best.

    The numbers of ones in the jobs are fitted: the last job's follows from the others and from the labels tried.
    """
    sums = [label_sums(job.provider) for job in found]
    signs = [sign for _, sign in plan]
    left = sum(sign * one.scaled for sign, one in zip(signs, sums, strict=True))
    free = np.column_stack(
        [sign * (one.centres - sums[0].centres) for sign, one in zip(signs[1:], sums[1:], strict=True)]
    )

    def misfit(way: tuple[int, ...]) -> float:
        chosen = np.array(way)
        rest = rows.T @ chosen - left - sums[0].centres * chosen.sum()
        return float(np.linalg.norm(rest - free @ np.linalg.lstsq(free, rest, rcond=None)[0]))

    return min(itertools.product((0, 1), repeat=len(rows)), key=misfit)


@pytest.mark.parametrize(
    ("plan", "few"), [(TWO_JOBS, range(1000, 1005)), (THREE_JOBS, range(2005, 2010))], ids=["two jobs", "three jobs"]
)
def test_without_the_rule_the_labels_of_the_five_rows_that_are_left_are_read(
    plan: Plan, few: range, tmp_path: Path
) -> None:
    # Jobs that both parties mark are exempt from the rule. The release noise is as in any job.
    found = jobs(tmp_path, plan, [MARKED] * len(plan))
    business, _ = tables((0, 2010))
    assert business.label is not None
    truth = tuple(int(label) for label in business.label[list(few)])
    assert few_labels(plan, found, FLAGS[list(few)]) == truth
    assert 0 < sum(truth) < FEW


@pytest.mark.parametrize("plan", [TWO_JOBS, THREE_JOBS], ids=["two jobs", "three jobs"])
@pytest.mark.parametrize("forgetful", ["nobody", "business", "provider"])
def test_the_job_that_would_leave_five_rows_is_refused_by_either_owner_alone(
    plan: Plan, forgetful: str, tmp_path: Path
) -> None:
    ordered = plan[1:] + plan[:1]
    done = jobs(tmp_path, ordered[:-1], [UNMARKED] * (len(plan) - 1))
    assert all(job.ends["business"].outcome == "done" for job in done)
    if forgetful != "nobody":
        shutil.rmtree(tmp_path / forgetful / "ledger")
    ((rows, _),) = ordered[-1:]
    refused = run_job(tmp_path, *tables(rows), seed=9, marks=UNMARKED, release_noise=1 / 32)
    assert {end.reason_code for end in refused.ends.values()} == {"rows_too_close"}
    assert not refused.provider.of("features.encrypt")
    assert not refused.business.of("link.terms")


def test_row_sets_that_differ_by_enough_are_allowed(tmp_path: Path) -> None:
    found = jobs(tmp_path, (((0, 1000), 1), ((0, 2000), 1)), [UNMARKED] * 2)
    assert [job.ends["provider"].outcome for job in found] == ["done", "done"]
