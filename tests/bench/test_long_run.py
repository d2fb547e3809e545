"""What a daemon holds on to does not grow with the number of its jobs: two real processes over a real broker."""

import pytest

from bench.long_run import Sample, figures, measure_long_run
from services.daemon.local import BUSINESS, PROVIDER

JOBS = 5
NAME_BYTES_MAX = 2_000
"""What a job leaves in a journal once it is archived, with the share of half-full pages."""


@pytest.fixture(scope="module")
def samples() -> dict[str, list[Sample]]:
    """After the first job, and after each of the others; jobs leave the journal within a second."""
    return measure_long_run(JOBS, every=1, lines="retention_days = 0.000001\n")


def test_files_stay_open_for_running_jobs_only_and_jobs_leave_the_journal(samples):
    found = figures(samples, first=2)
    for role in (BUSINESS, PROVIDER):
        assert found[role]["files_growth"] == [0, 0], samples[role]
        assert found[role]["blobs_growth"] == 0, samples[role]
        assert found[role]["journal_growth"] <= (JOBS - 2) * NAME_BYTES_MAX, samples[role]
