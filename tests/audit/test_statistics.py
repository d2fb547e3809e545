"""Audits of a job with standard errors and an evaluation: its records verify, replay, and are within the contract."""

import json
from pathlib import Path

import pytest

from learning.release import entries_released, inference_entries
from services.audit.replaying import replay
from services.audit.reporting import report
from services.models.store import ModelStore
from tests.audit.recorded import AUDITOR, BUSINESS, PARTNER, PROVIDER, Recorded
from tests.replay.record import statistics


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return statistics(tmp_path_factory.mktemp("statistics"))


@pytest.mark.parametrize("role", [BUSINESS, PROVIDER])
def test_every_number_that_left_is_counted_and_nothing_is_outside_the_contract(
    ended: Recorded, role: str, tmp_path: Path
) -> None:
    found = report(ended.export(role, AUDITOR, tmp_path / "file"))
    assert found.within, found
    assert found.findings == []
    own, other = (4, 3) if role == BUSINESS else (3, 4)
    total = entries_released(2, other) + inference_entries(other, own)
    facts = {fact.name: fact.value for fact in found.facts if fact.name.startswith("numbers released")}
    assert [value.split(":")[0] for value in facts.values()] == [str(total)]
    lines = {(line.direction, line.kind): line for line in found.lines}
    way = "received" if role == BUSINESS else "sent"
    assert lines[way, "score.partial"].rows == 90
    assert lines["sent", "curvature.block"].messages == 1


@pytest.mark.parametrize("role", [BUSINESS, PROVIDER])
def test_a_partners_file_is_within_the_contract_too(ended: Recorded, role: str, tmp_path: Path) -> None:
    assert report(ended.export(role, PARTNER, tmp_path / "file")).within


@pytest.mark.parametrize("role", [BUSINESS, PROVIDER])
def test_the_records_fold_to_the_same_end(ended: Recorded, role: str, tmp_path: Path) -> None:
    found = replay(ended.export(role, AUDITOR, tmp_path / "file"))
    assert (found.same, found.outcome) == (True, "done"), found.difference


def test_daemons_write_what_the_contract_asks_for_and_keep_the_figures_with_the_model(ended: Recorded) -> None:
    files = {"parameters.json", "history.json", "inference.json"}
    for role, more in ((BUSINESS, {"metrics.json", "scores.csv"}), (PROVIDER, set())):
        party = ended.party(role)
        directory = party.data_directory / "results" / ended.job
        assert {path.name for path in directory.iterdir()} == files | more
        kept = ModelStore(party.data_directory).get(ended.job).version.metrics
        if role == PROVIDER:
            assert kept == {}
            continue
        told = json.loads((directory / "metrics.json").read_text())["parts"]
        assert set(told) == {"training", "validation", "test"}
        assert kept["test.log_loss"] == told["test"]["metrics"]["log_loss"]
