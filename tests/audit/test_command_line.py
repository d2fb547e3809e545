"""The commands, as an operator types them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from services.cli import app
from tests.audit.recorded import AUDITOR, BUSINESS, PARTNER, PROVIDER, Recorded

Files = dict[tuple[str, str], Path]


def warren(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def business(whole: Recorded) -> Path:
    return whole.paths[BUSINESS]


def test_export_and_verify(whole: Recorded, business: Path, files: Files, tmp_path: Path) -> None:
    out = tmp_path / "file"
    done = warren("audit", "export", whole.job, "--for", "partner", "--out", out, "--party", business)
    assert done.exit_code == 0, done.output
    assert f"entries of job {whole.job} for the partner" in done.output
    checked = warren("audit", "verify", out)
    assert checked.exit_code == 0
    assert "nothing is missing or altered" in checked.output
    both = warren("audit", "verify", out, files[PROVIDER, PARTNER])
    assert both.exit_code == 0
    assert "messages are the same in both files" in both.output


def test_what_does_not_hold_has_exit_code_1_and_a_sentence(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "altered"
    content = bytearray(files[BUSINESS, PARTNER].read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    done = warren("audit", "verify", path)
    assert done.exit_code == 1
    assert "something is missing or altered" in done.output
    assert "entry " in done.output


def test_replay_and_execute(business: Path, files: Files) -> None:
    done = warren("audit", "replay", files[BUSINESS, AUDITOR])
    assert done.exit_code == 0
    assert "digest of the final parameters" in done.output
    again = warren("audit", "replay", "--execute", files[BUSINESS, AUDITOR], "--party", business)
    assert again.exit_code == 0, again.output
    assert "plaintext bodies of outgoing bulk are the same" in again.output
    assert warren("audit", "replay", files[BUSINESS, PARTNER]).exit_code == 1


def test_report_in_all_forms(files: Files, tmp_path: Path) -> None:
    html = tmp_path / "report.html"
    done = warren("audit", "report", files[PROVIDER, AUDITOR], "--html", html, "--json")
    assert done.exit_code == 0
    assert json.loads(done.output)["within"] is True
    assert html.read_text().startswith("<!doctype html>")
    assert "residual.share" in warren("audit", "report", files[PROVIDER, AUDITOR]).output
    assert warren("audit", "report", files[PROVIDER, AUDITOR], "--html", html).exit_code == 2


def test_a_missing_file_and_an_unknown_job_name_themselves(business: Path, tmp_path: Path) -> None:
    missing = warren("audit", "verify", tmp_path / "missing")
    assert isinstance(missing.exception, FileNotFoundError)
    unknown = warren("audit", "export", "job-7", "--for", "partner", "--out", tmp_path / "out", "--party", business)
    assert "there is no job job-7" in str(unknown.exception)
