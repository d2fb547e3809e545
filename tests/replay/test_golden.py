"""Every recorded job is verified and replayed by this version, for ever. See CONTRIBUTING.md."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from services.audit.export_file import AUDITOR
from services.audit.reconciling import reconcile
from services.audit.replaying import replay
from services.audit.report_page import page
from services.audit.reporting import report
from services.audit.verifying import verify
from tests.audit.forging import frames_of
from tests.replay.record import AUDIENCES, LOGS, SCENARIOS, SUMS, add, golden

FILES = sorted(LOGS.iterdir())
NAMES = sorted({path.name.split(".")[0] for path in FILES})
BYTES_MAX = 6_000_000


def test_there_are_golden_logs_of_every_kind_of_job() -> None:
    assert set(SCENARIOS) <= set(NAMES)
    for name in NAMES:
        assert all(path.exists() for path in golden(name)), name
    outcomes = {replay(path).outcome for path in FILES if path.name.endswith(AUDITOR)}
    assert outcomes == {"done", "cancelled", "declined", "failed"}


def test_no_golden_log_was_changed() -> None:
    listed = dict(reversed(line.split("  ")) for line in SUMS.read_text().splitlines())
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FILES} == listed
    assert sum(path.stat().st_size for path in FILES) < BYTES_MAX


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_golden_log_verifies_and_replays(path: Path) -> None:
    checked = verify(path)
    assert checked.holds, checked.findings
    if path.name.endswith(AUDITOR):
        found = replay(path)
        assert found.same, found.difference
        assert not found.notes
        _, entries, ending = frames_of(path)
        assert (found.entries, found.outcome) == (len(entries), ending.outcome)
    made = report(path)
    assert made.within, made
    assert made.job in page(made)


@pytest.mark.parametrize("name", NAMES)
def test_all_parties_golden_logs_tell_the_same_story(name: str) -> None:
    for audience in AUDIENCES:
        together = reconcile(*(path for path in golden(name) if path.name.endswith(f".{audience}")))
        assert together.holds, (together.findings, together.files)
        assert together.missing == []


def test_the_recorder_refuses_to_write_a_log_again() -> None:
    before = {path: path.read_bytes() for path in FILES}
    with pytest.raises(FileExistsError, match="never written again"):
        add("logistic", "logistic")
    done = subprocess.run(
        [sys.executable, "-m", "tests.replay.record", "declined"],
        cwd=LOGS.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "never written again" in done.stderr
    assert {path: path.read_bytes() for path in FILES} == before
