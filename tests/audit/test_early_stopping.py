"""Audits of a job that stops early: its records verify, replay and run again, within the contract."""

import json
import struct
from pathlib import Path

import pytest

from services.audit.replaying import replay
from services.audit.reporting import report
from services.audit.verifying import verify
from tests.audit.recorded import AUDITOR, BUSINESS, PARTNER, PROVIDER, Recorded
from tests.audit.test_execution import run_again
from tests.replay.record import stopped


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return stopped(tmp_path_factory.mktemp("stopped"), retention="full")


@pytest.mark.parametrize("role", [BUSINESS, PROVIDER])
def test_the_records_verify_fold_and_run_again_and_nothing_is_outside_the_contract(
    ended: Recorded, role: str, tmp_path: Path
) -> None:
    file = ended.export(role, AUDITOR, tmp_path / "file")
    assert verify(file).findings == []
    found = replay(file)
    assert (found.same, found.outcome) == (True, "done"), found.difference
    done = run_again(ended, role, file)
    assert done.same, (done.differences, done.replay.difference)
    told = report(file)
    assert told.within, told
    lines = {(line.direction, line.kind): line for line in told.lines}
    way, back = ("received", "sent") if role == BUSINESS else ("sent", "received")
    assert lines[back, "stop.decision"].messages == 2
    assert lines[way, "score.partial"].messages == 3  # two on the way, and the figures of the model that is kept


def test_a_partner_s_file_of_the_business_has_no_figure(ended: Recorded, tmp_path: Path) -> None:
    directory = ended.party(BUSINESS).data_directory / "results" / ended.job
    history = json.loads((directory / "history.json").read_text())
    data = ended.export(BUSINESS, PARTNER, tmp_path / "file").read_bytes()
    assert len(history["stopping"]["evaluations"]) == 2
    for one in history["stopping"]["evaluations"]:
        assert struct.pack(">d", one["figure"]) not in data
        assert struct.pack("<d", one["figure"]) not in data
    assert report(tmp_path / "file").within
