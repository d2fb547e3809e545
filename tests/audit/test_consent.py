"""What a provider decides over all jobs is in the chain of each job, and proved and replayed like the rest."""

from pathlib import Path

import pytest

from services.audit.export_file import AUDITOR
from services.audit.reconciling import reconcile
from services.audit.replaying import replay
from services.audit.verifying import verify
from tests.audit.recorded import BUSINESS, PROVIDER, record


@pytest.mark.parametrize("policy", ["jobs_max = 0\n", "rows_per_period = 10\n"])
def test_a_job_that_a_quota_ends_is_replayed_to_that_end_at_both_parties(tmp_path: Path, policy: str) -> None:
    refused = record(tmp_path, "logistic", 60, max_iterations=1, policy=policy)
    files = [refused.export(role, AUDITOR, tmp_path / f"{role}.file") for role in (BUSINESS, PROVIDER)]
    outcome = "declined" if "jobs_max" in policy else "failed"
    for path in files:
        assert verify(path).findings == []
        found = replay(path)
        assert (found.difference, found.notes, found.outcome) == ("", [], outcome)
    assert reconcile(*files).holds
