"""What a daemon holds on to does not grow with the number of its jobs: two real processes over a real broker."""

import pytest

from bench.long_run import Sample, figures, measure_long_run
from services.daemon.local import BUSINESS, PROVIDER

JOBS = 6
NAME_BYTES_MAX = 2_000
"""What a job leaves in a journal once it is archived, with the share of half-full pages."""
PAGES_BYTES = 2 * 4_096
"""A journal grows by whole pages: one may be begun at either end of what is compared."""


@pytest.fixture(scope="module")
def samples() -> dict[str, list[Sample]]:
    """After the first job, and after each of the others; jobs leave the journal within a second."""
    return measure_long_run(JOBS, every=1, lines="retention_days = 0.000001\n")


def growth(taken: list[int]) -> int:
    """What each job left, if it left anything: what is there at the moment of a single sample does not count."""
    return min(taken[-2:]) - max(taken[:3])


def test_files_stay_open_for_running_jobs_only_and_jobs_leave_the_journal(samples):
    assert growth([20, 21, 22, 23, 24, 25]) > 0
    assert growth([20, 21, 20, 22, 21, 22]) <= 0
    for role in (BUSINESS, PROVIDER):
        for process in range(2):
            assert growth([each.files[process] for each in samples[role]]) <= 0, samples[role]
        assert growth([each.blobs for each in samples[role]]) <= 0, samples[role]
        assert growth([each.journal for each in samples[role]]) <= JOBS * NAME_BYTES_MAX + PAGES_BYTES, samples[role]
    assert {role: taken["from_job"] for role, taken in figures(samples, first=2).items()} == {BUSINESS: 2, PROVIDER: 2}
