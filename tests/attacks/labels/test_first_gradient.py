"""The provider's first gradient is a sum over labels: solved for them with lattices, and by trying out few."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial import cKDTree

from learning import release
from services.tables.table import Table
from tests.attacks.labels import lattice
from tests.attacks.labels.transcript import Recorded, Transcript, example, run_job, table

Labels = np.ndarray[Any, np.dtype[np.int64]]

ROWS = 80
NOISE = 1 / 32
SHARE = 0.22  # of defaults, in all of the example: public knowledge

ACCOUNTS, PAYMENTS = slice(0, 10), slice(10, 23)  # columns of default_credit


def job(directory: Path, first: int, release_noise: float, **changes: Any) -> Recorded:
    """A job on 80 rows of default_credit whose provider holds ten of the columns."""
    tables = example("default_credit", first, ROWS, PAYMENTS, ACCOUNTS)
    return run_job(directory, *tables, release_noise=release_noise, **changes)


def attack(seen: Transcript) -> Labels | None:
    """The labels as the lattice has them; all that goes in is the provider's."""
    error = seen.budget.noise_bound(seen.facts["release_noise"]) / seen.budget.unit
    return lattice.solve(seen.matrix, seen.label_sums(), error=error, share=SHARE)


def read(seen: Transcript, answer: Labels | None, truth: Labels) -> bool:
    """Whether an answer has every label; among rows that are alike in all columns, how many there are of each."""
    if answer is None:
        return False
    _, alike = np.unique(seen.matrix, axis=0, return_inverse=True)
    return np.array_equal(np.bincount(alike, answer), np.bincount(alike, truth))


@pytest.mark.parametrize("first", [0, 80, 160])
def test_without_release_noise_every_label_of_80_rows_is_read(first: int, tmp_path: Path) -> None:
    recorded = job(tmp_path, first, 0.0)
    assert read(recorded.provider, attack(recorded.provider), recorded.labels)


def test_with_the_release_noise_the_same_attack_reads_less_than_a_guess_without_it(tmp_path: Path) -> None:
    # Settled before the first run: over six sets of 80 rows, with the full key length in one of them, the attack
    # (its answer where it finds one, else regression on the gradient) must be right on fewer rows than the guess
    # that nobody defaults; and no set may be read.
    right = guess = 0
    for number, lengths in enumerate(({"key_bits": 2048, "marks": ("small_sample",)}, {}, {}, {}, {}, {})):
        recorded = job(tmp_path / str(number), number * ROWS, NOISE, **lengths)
        seen, truth = recorded.provider, recorded.labels
        found = attack(seen)
        answer = lattice.regression(seen.matrix, seen.label_sums()) if found is None else found
        assert not read(seen, answer, truth)
        right += int((answer == truth).sum())
        guess += int((truth == 0).sum())
    assert right < guess


def test_the_noise_alone_does_not_hide_60_rows_from_a_provider_of_all_23_columns(tmp_path: Path) -> None:
    # What the mark `small_sample` gives away, and why it takes both parties to set it.
    tables = example("default_credit", 0, 60, slice(0, 3), slice(0, 23))
    recorded = run_job(tmp_path, *tables, release_noise=NOISE)
    assert read(recorded.provider, attack(recorded.provider), recorded.labels)
    unmarked = run_job(tmp_path / "unmarked", *tables, release_noise=NOISE, marks=("insecure",))
    assert {end.reason_code for end in unmarked.ends.values()} == {"rows_too_few"}


def told_bits(matrix: Labels, variance: float) -> float:
    """At most so many bits are in the noisy sums over rows of these columns (Gaussian channel, uniform noise)."""
    columns = matrix.shape[1]
    signal = matrix.T.astype(float) @ matrix * variance
    noise = (1024.0**2) / 3.0
    # A uniform error of the same variance carries up to 1/2 log2(pi e / 6) bits less uncertainty than a normal one.
    return 0.5 * np.linalg.slogdet(np.eye(columns) + signal / noise)[1] / math.log(2) + columns * 0.255


def test_what_an_unmarked_job_may_release_at_first_is_less_than_a_quarter_of_its_labels(tmp_path: Path) -> None:
    tables = example("default_credit", 0, 1000, slice(0, 3), slice(3, 23))
    recorded = run_job(tmp_path, *tables, release_noise=NOISE, marks=("insecure",))
    assert recorded.ends["business"].outcome == "done"
    share = recorded.labels.mean()
    entropy = -1000 * (share * math.log2(share) + (1 - share) * math.log2(1 - share))
    assert told_bits(recorded.provider.matrix, share * (1 - share)) < entropy / 4


# -- rare labels ------------------------------------------------------------------------------------------------


def rare(positives: int) -> tuple[Table, Table]:
    """1000 rows of default_credit of which so few default."""
    business, provider = example("default_credit", 0, 3000, slice(0, 3), slice(3, 23))
    assert business.label is not None
    ones, zeros = np.flatnonzero(business.label == 1), np.flatnonzero(business.label == 0)
    rows = np.sort(np.concatenate([ones[:positives], zeros[: 1000 - positives]]))
    names = [business.identifiers[row] for row in rows]
    return table(names, business.values[rows], business.label[rows]), table(names, provider.values[rows])


def triples(columns: Labels, sums: np.ndarray[Any, Any], error: float) -> list[set[int]]:
    """Every three rows whose sums are within `error`: all pairs, and a tree to find the third row."""
    pairs = np.array(list(itertools.combinations(range(len(columns)), 2)))
    missing = sums - columns[pairs[:, 0]] - columns[pairs[:, 1]]
    far, third = cKDTree(columns).query(missing, p=math.inf, distance_upper_bound=error + 0.01)
    fits = np.flatnonzero(np.isfinite(far))
    return [{*pairs[at].tolist(), int(third[at])} for at in fits]


def test_three_positives_among_1000_rows_are_refused_and_would_be_found_by_trying_triples(tmp_path: Path) -> None:
    allowed = run_job(tmp_path / "marked", *rare(3), release_noise=NOISE)
    seen = allowed.provider
    found = triples(seen.matrix, seen.label_sums(), seen.budget.noise_bound(NOISE) / seen.budget.unit)
    assert set(map(frozenset, found)) == {frozenset(np.flatnonzero(allowed.labels).tolist())}
    refused = run_job(tmp_path / "unmarked", *rare(3), release_noise=NOISE, marks=("insecure",))
    assert {role: end.reason_code for role, end in refused.ends.items()} == {
        "business": "labels_rare",
        "provider": "labels_rare",
    }
    assert "3 of 1000" in refused.ends["business"].reason
    assert "3 of" not in refused.ends["provider"].reason
    assert not refused.provider.of("gradient")


def test_the_rule_for_rare_labels_lets_50_of_1000_pass(tmp_path: Path) -> None:
    recorded = run_job(tmp_path, *rare(release.LABEL_SUPPORT_MIN), release_noise=NOISE, marks=("insecure",))
    assert recorded.ends["business"].outcome == "done"
