"""The report says what left and what came in, and shows in red what the contract does not allow."""

import json
import re
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from learning.release import entries_released
from messages.envelope import read_header, sign_header
from services.audit.export_file import Entry
from services.audit.replaying import replay
from services.audit.report_page import page
from services.audit.reporting import Fact, Line, Report, report
from services.daemon.local import connect, embedded
from services.party.configuration import load_party
from services.store import chain
from tests.audit.forging import first, forge, frames_of
from tests.audit.recorded import AUDITOR, BUSINESS, PARTNER, PROVIDER, Recorded, record
from tests.audit.test_replay import other_output

Files = dict[tuple[str, str], Path]


@pytest.mark.parametrize("role", [BUSINESS, PROVIDER])
def test_messages_and_bytes_are_those_that_the_daemon_counted(whole: Recorded, files: Files, role: str, copied) -> None:
    found = report(files[role, AUDITOR])
    assert found.within, found
    place = copied()
    with (
        embedded((place.paths[BUSINESS], place.paths[PROVIDER])),
        connect(load_party(place.paths[role])) as console,
    ):
        counted = console.ask("job", id=whole.job)["statistics"]
    for direction in ("sent", "received"):
        lines = [line for line in found.lines if line.direction == direction]
        assert sum(line.bytes or 0 for line in lines) == counted[f"bytes_{direction}"]
    _, entries, _ = frames_of(files[role, AUDITOR])
    kinds = Counter((entry.kind, read_header(entry.header).kind) for entry in entries if entry.header)
    assert {(line.direction, line.kind): line.messages for line in found.lines} == kinds


def test_rows_and_numbers_released_follow_from_the_job(files: Files) -> None:
    found = report(files[BUSINESS, AUDITOR])
    rows = {(line.direction, line.kind): line.rows for line in found.lines}
    assert rows["sent", "features.encrypted"] == rows["received", "features.encrypted"] == 300
    assert rows["sent", "link.terms"] == rows["received", "residual.share"] == 900
    facts = {fact.name: fact.value for fact in found.facts}
    assert facts["aligned rows"] == "300"
    assert facts["key of business-a"] == facts["key of provider-a"] == "512 bits"
    # 3 columns at the provider; at the business 3 and the intercept.
    assert facts["numbers released to provider-a"].startswith(f"{entries_released(3, 3)}: 3 gradients of 3 entries")
    assert facts["numbers received from provider-a"].startswith(f"{entries_released(3, 4)}: 3 gradients of 4 entries")


def totals(found: Report, direction: str) -> dict[str, tuple[int, int | None, int | None]]:
    return {line.kind: (line.messages, line.bytes, line.rows) for line in found.lines if line.direction == direction}


def test_both_parties_reports_agree_on_what_went_from_one_to_the_other(files: Files) -> None:
    reports = {role: report(files[role, AUDITOR]) for role in (BUSINESS, PROVIDER)}
    for here, there in ((BUSINESS, PROVIDER), (PROVIDER, BUSINESS)):
        sent = {
            line.kind: (line.messages, line.bytes, line.rows)
            for line in reports[here].lines
            if line.direction == "sent"
        }
        got = {
            line.kind: (line.messages, line.bytes, line.rows)
            for line in reports[there].lines
            if line.direction == "received"
        }
        assert sent == got


def test_a_partners_file_has_a_report_without_sizes(files: Files) -> None:
    found = report(files[PROVIDER, PARTNER])
    assert found.within
    assert all(line.bytes is None and line.rows is None for line in found.lines)
    assert any(fact.value == "not in this file" for fact in found.facts)


def test_what_is_outside_the_contract_is_in_red(whole: Recorded, files: Files, tmp_path: Path) -> None:
    identity = whole.party(PROVIDER).identity

    def misname(entries: list[Entry]) -> list[Entry]:
        target = first(entries, chain.SENT, "score.range")
        signed = sign_header(msgspec.structs.replace(read_header(target.header), kind="link.terms"), identity)
        entries[target.position - 1] = msgspec.structs.replace(target, header=signed.header_bytes)
        return entries

    found = report(forge(files[PROVIDER, PARTNER], tmp_path / "forged", identity, misname))
    assert not found.within
    (line,) = (line for line in found.lines if line.outside)
    assert (line.kind, line.outside) == ("link.terms", ["not granted to a business"])
    text = page(found)
    assert '<tr class="bad"><td>link.terms</td>' in text
    assert "not granted to a business" in text
    assert 'class="verdict bad"' in text


def test_a_key_that_is_shorter_than_the_contract_says_is_in_red(whole: Recorded, files: Files, tmp_path: Path) -> None:
    short = other_output("keys.generate", modulus=bytes([1] * 32))
    found = report(forge(files[BUSINESS, AUDITOR], tmp_path / "f", whole.party(BUSINESS).identity, short))
    assert [fact.name for fact in found.facts if fact.outside] == ["key of business-a"]
    assert any(finding.startswith("replay: ") for finding in found.findings)


def test_the_page_stands_alone_and_shows_foreign_text_as_text(files: Files) -> None:
    text = page(report(files[BUSINESS, AUDITOR]))
    assert not re.search(r"https?:|src=|@import|url\(|<script|<link", text)
    assert "prefers-color-scheme: dark" in text
    hostile = Report(
        job="<script>alert(1)</script>",
        lines=[Line("sent", "<b>kind", outside=["<img src=x>"])],
        facts=[Fact("<i>", "&", "<u>")],
        findings=["<script>"],
    )
    shown = page(hostile)
    assert "<script>" not in shown
    assert "<img" not in shown
    assert "&lt;script&gt;alert(1)" in shown


def test_the_report_is_plain_json(files: Files) -> None:
    found = json.loads(json.dumps(report(files[PROVIDER, AUDITOR]).as_json()))
    assert found["within"] is True
    assert found["role"] == "provider"


def test_a_file_that_is_no_export_has_a_report_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "junk"
    path.write_bytes(b"junk")
    found = report(path)
    assert not found.within
    assert "no export" in found.findings[0]
    assert "no export" in page(found)


def test_a_cross_validation_is_within_its_contract(tmp_path: Path) -> None:
    """Its fits, checks and revisions are iterations that the contract grants beside those over all rows."""
    job = record(tmp_path, "linear", 90, folds=2, penalties=[0.1, 0.03], max_iterations=3)
    out = job.export(BUSINESS, AUDITOR, tmp_path / "validated.export")
    found = report(out)
    assert found.within, found
    assert replay(out).same
