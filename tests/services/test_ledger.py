"""The release ledger: caps and row-set rules are judged over all jobs with a partner."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from learning.release import ReleaseRefused, entries_released
from services.store.ledger import DAY_S, Ledger, LedgerDamaged, ProjectionsSpent, RowsSpent, ScoresSpent

PEOPLE = [f"person-{number:05d}" for number in range(4200)]


def test_scores_of_all_models_count_within_a_period_and_a_job_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "bank")
    grant = functools.partial(ledger.grant_scores, quota=100, period_s=30 * DAY_S)
    assert grant("job-1", "model-1", 60, now=0.0) == 60
    assert grant("job-1", "model-1", 60, now=5.0) == 60
    assert grant("job-2", "model-2", 40, now=DAY_S) == 100
    with pytest.raises(ScoresSpent, match="0 are left of the quota of 100"):
        grant("job-3", "model-1", 1, now=2 * DAY_S)
    assert Ledger(tmp_path, "shop").grant_scores("job-4", "m", 100, quota=100, period_s=DAY_S, now=2 * DAY_S) == 100
    assert grant("job-3", "model-1", 60, now=30.5 * DAY_S) == 100
    with pytest.raises(ScoresSpent, match="0 are left"):
        grant("job-5", "model-1", 1, now=30.6 * DAY_S)


def test_rows_of_training_jobs_count_within_a_period_and_a_job_once_apart_from_scores(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "bank")
    grant = functools.partial(ledger.grant_rows, quota=100, period_s=30 * DAY_S)
    assert grant("job-1", 60, now=0.0) == 60
    assert grant("job-1", 60, now=5.0) == 60
    ledger.grant_scores("job-1", "model-1", 100, quota=100, period_s=30 * DAY_S, now=0.0)
    with pytest.raises(RowsSpent, match="41 common rows, 40 are left of rows_per_period = 100"):
        grant("job-2", 41, now=DAY_S)
    assert grant("job-2", 40, now=DAY_S) == 100
    assert grant("job-3", 60, now=30.5 * DAY_S) == 100


def test_over_all_jobs_a_row_is_evaluated_less_often_than_it_has_columns(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "bank")
    grant = functools.partial(ledger.grant_projections, columns=10)
    grant("job-1", PEOPLE[:300], 5)
    grant("job-1", PEOPLE[:300], 5)
    with pytest.raises(ProjectionsSpent, match=r"^1 validation rows were evaluated 5 times .* of 4 is left"):
        grant("job-2", PEOPLE[299:600], 5)
    grant("job-2", PEOPLE[299:600], 4)
    grant("job-3", PEOPLE[600:900], 9)
    with pytest.raises(ProjectionsSpent, match="of 0 is left"):
        grant("job-4", PEOPLE[:900], 1)
    Ledger(tmp_path, "shop").grant_projections("job-5", PEOPLE[:900], 9, columns=10)
    assert admit(ledger, "job-6", 0, 4000, iterations=8) == 8  # what is counted here is no training


def test_projections_of_jobs_on_small_samples_count_for_those_that_are_not(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "bank")
    for job in ("job-1", "job-2"):
        ledger.grant_projections(job, PEOPLE[:300], 9, columns=10, small_sample=True)
    with pytest.raises(ProjectionsSpent, match="evaluated 18 times"):
        ledger.grant_projections("job-3", PEOPLE[:300], 1, columns=10)


def admit(ledger: Ledger, job: str, first: int, last: int, *, small_sample: bool = False, iterations: int = 30) -> int:
    """Ask for a job on some of the people: 14 own columns, 10 of the partner's."""
    return ledger.admit(
        job,
        PEOPLE[first:last],
        own_columns=14,
        partner_columns=10,
        max_iterations=iterations,
        small_sample=small_sample,
    )


def test_a_second_job_on_the_same_rows_gets_what_the_first_left(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "provider-a")
    first = admit(ledger, "job-1", 0, 4000, iterations=8)
    assert first == 8
    second = admit(ledger, "job-2", 0, 4000)
    left = 4000 // 16 - entries_released(8, 10)
    assert entries_released(second, 10) <= left < entries_released(second + 1, 10)


def test_a_grant_that_was_not_used_up_goes_back(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "provider-a")
    alone = admit(ledger, "job-1", 0, 4000)
    assert admit(ledger, "job-2", 0, 4000) < alone
    ledger.settle("job-1", 1, 10)
    ledger.settle("job-2", 0, 10)
    assert 0 < admit(ledger, "job-3", 0, 4000) <= alone


def test_asking_again_for_the_same_job_gives_the_same_answer(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "provider-a")
    assert admit(ledger, "job-1", 0, 4000) == admit(Ledger(tmp_path, "provider-a"), "job-1", 0, 4000)


def test_row_sets_that_differ_by_a_few_rows_are_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "provider-a")
    admit(ledger, "job-1", 0, 4000)
    with pytest.raises(ReleaseRefused, match="job-1") as caught:
        admit(ledger, "job-2", 3, 4000)
    assert caught.value.code == "rows_too_close"


def test_too_few_rows_are_refused_naming_the_mark_that_would_allow_them(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "provider-a")
    with pytest.raises(ReleaseRefused, match="small_sample"):
        admit(ledger, "job-1", 0, 900)
    assert admit(ledger, "job-1", 0, 900, small_sample=True) == 30


def test_another_partner_has_a_ledger_of_its_own(tmp_path: Path) -> None:
    alone = admit(Ledger(tmp_path, "provider-a"), "job-1", 0, 4000)
    assert admit(Ledger(tmp_path, "provider-b"), "job-2", 0, 4000) == alone


def test_identifiers_are_on_disk_as_salted_hashes_only(tmp_path: Path) -> None:
    admit(Ledger(tmp_path, "provider-a"), "job-1", 0, 4000)
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"person-" not in stored
    assert (tmp_path / "ledger" / "salt").stat().st_mode & 0o777 == 0o600
    other = Ledger(tmp_path / "elsewhere", "provider-a")
    assert other.row_hashes(PEOPLE[:3]).tolist() != Ledger(tmp_path, "provider-a").row_hashes(PEOPLE[:3]).tolist()


def test_a_row_set_that_former_ones_nearly_add_up_to_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "provider-a")
    admit(ledger, "job-1", 0, 1000, iterations=1)
    admit(ledger, "job-2", 1000, 2010, iterations=1)
    with pytest.raises(ReleaseRefused, match="about 5 rows alone") as caught:
        admit(ledger, "job-3", 0, 2005, iterations=1)
    assert caught.value.code == "rows_too_close"
    assert admit(ledger, "job-3", 0, 2010, iterations=1) == 1
    assert admit(Ledger(tmp_path, "provider-b"), "job-3", 0, 2005, iterations=1) == 1


def test_a_refused_job_is_not_written_down(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "provider-a")
    admit(ledger, "job-1", 0, 4000)
    with pytest.raises(ReleaseRefused):
        admit(ledger, "job-2", 3, 4000)
    assert [path.stem for path in tmp_path.rglob("*.npz")] == ["job-1"]


def test_a_job_that_is_judged_again_is_judged_by_what_there_was_the_first_time(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "provider-a")
    first = admit(ledger, "job-1", 0, 4000)
    # Granted in between, with the first job counted in.
    assert admit(ledger, "job-2", 0, 4000) < first
    ledger.settle("job-1", 0, 10)
    assert admit(ledger, "job-2", 0, 4000) < first
    assert admit(Ledger(tmp_path, "provider-a"), "job-1", 0, 4000) == first


def test_blocks_that_a_former_job_took_gradients_over_are_judged_with_this_ones(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "provider-a")
    halves = np.column_stack([np.ones(4000, dtype=bool), np.arange(4000) < 2000])
    arguments = {"own_columns": 14, "partner_columns": 10, "max_iterations": 3, "small_sample": False}
    assert ledger.admit("job-1", PEOPLE[:4000], sets=halves, **arguments) == 3  # type: ignore[arg-type]
    assert ledger.admit("job-2", PEOPLE[:2000], **arguments) == 3  # type: ignore[arg-type]
    near = np.column_stack([np.ones(4000, dtype=bool), np.arange(4000) < 1990])
    with pytest.raises(ReleaseRefused) as caught:
        ledger.admit("job-3", PEOPLE[:4000], sets=near, **arguments)  # type: ignore[arg-type]
    assert caught.value.code == "rows_too_close"


def test_sets_follow_their_rows_whatever_the_order_of_their_hashes(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "provider-a")
    arguments = {"own_columns": 14, "partner_columns": 10, "max_iterations": 3, "small_sample": False}
    small = np.column_stack([np.ones(4000, dtype=bool), np.arange(4000) < 500])
    with pytest.raises(ReleaseRefused, match="500 rows"):
        ledger.admit("job-1", PEOPLE[:4000], sets=small, **arguments)  # type: ignore[arg-type]


def test_weights_that_differ_in_a_few_rows_are_refused_and_rows_count_as_far_as_they_are_effective(
    tmp_path: Path,
) -> None:
    ledger = Ledger(tmp_path, "provider-a")

    def ask(job: str, weights: np.ndarray | None) -> int:
        return ledger.admit(
            job,
            PEOPLE[:4000],
            own_columns=14,
            partner_columns=10,
            max_iterations=2,
            small_sample=False,
            weights=weights,
        )

    even = np.ones(4000)
    assert ask("job-1", None) == 2
    assert ask("job-2", even * 5.0) == 2
    ledger.settle("job-2", 2, 10)
    few = even.copy()
    few[:5] = 0.0
    with pytest.raises(ReleaseRefused) as caught:
        ask("job-3", few)
    assert caught.value.code == "rows_too_close"
    half = even.copy()
    half[:2000] = 0.0
    assert ask("job-4", half) == 2
    few = half.copy()
    few[-5:] = 3.0
    with pytest.raises(ReleaseRefused) as caught:
        ask("job-5", few)
    assert caught.value.code == "rows_too_close"
    half[:3500] = 0.0
    with pytest.raises(ReleaseRefused) as caught:
        ask("job-6", half)
    assert caught.value.code == "rows_too_few"


def _used(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "bank")
    ledger.admit("job-1", PEOPLE, own_columns=3, partner_columns=3, max_iterations=4, small_sample=False)
    ledger.grant_projections("job-1", PEOPLE, 1, columns=4)
    ledger.grant_rows("job-1", 60, quota=100, period_s=DAY_S, now=0.0)


@pytest.mark.parametrize("name", ["job-1.npz", "job-1.projections", "job-1.used", "salt"])
@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda _: b"", lambda data: data[:5] + b"?" + data[6:-1]])
def test_a_damaged_ledger_grants_nothing_and_its_file_is_named(
    tmp_path: Path, name: str, damage: Callable[[bytes], bytes]
) -> None:
    _used(tmp_path)
    path = tmp_path / "ledger" / name if name == "salt" else tmp_path / "ledger" / "bank" / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(LedgerDamaged, match=name):
        Ledger(tmp_path, "bank").admit(
            "job-2", PEOPLE, own_columns=3, partner_columns=3, max_iterations=4, small_sample=False
        )
        Ledger(tmp_path, "bank").grant_projections("job-2", PEOPLE, 1, columns=4)
        Ledger(tmp_path, "bank").grant_rows("job-2", 1, quota=100, period_s=DAY_S, now=0.0)


def test_a_ledger_whose_salt_is_gone_forgets_no_former_job(tmp_path: Path) -> None:
    _used(tmp_path)
    (tmp_path / "ledger" / "salt").unlink()
    with pytest.raises(LedgerDamaged, match="salt is missing"):
        Ledger(tmp_path, "bank")
