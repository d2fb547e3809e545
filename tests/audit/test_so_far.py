"""What the console says of a job's journal as it grows is what an audit says of it in the end."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from services.audit import so_far
from services.audit.exporting import reading
from services.audit.reporting import Report, report
from services.audit.so_far import SoFar
from services.store.journal_schema import events
from tests.audit.recorded import AUDITOR, BUSINESS, PROVIDER, Recorded

Files = dict[tuple[str, str], Path]


def lines_of(found: Report) -> list[dict[str, Any]]:
    """An auditor's lines; rows of the partner's bulk are what only a replay knows."""
    return [{**asdict(line), **({} if line.direction == "sent" else {"rows": None})} for line in found.lines]


def read_whole(told: SoFar, connection: Connection, job: str) -> tuple[dict[str, Any], int]:
    """The figures when all entries have been read, and in how many steps."""
    for steps in range(1, 1_000):
        found = told.read(connection, job)
        if found["whole"]:
            return found, steps
    raise AssertionError("the end of the journal is never reached")


@pytest.mark.parametrize("role", [BUSINESS, PROVIDER])
def test_read_in_steps_it_says_what_the_auditor_s_report_says(
    whole: Recorded, files: Files, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(so_far, "ENTRIES_PER_READ", 7)
    expected = report(files[role, AUDITOR])
    with reading(whole.party(role)) as connection:
        entries = connection.scalar(select(func.count()).where(events.c.job == whole.job))
        found, steps = read_whole(SoFar(whole.party(role).file.name), connection, whole.job)
    assert entries is not None
    assert steps >= entries / 7
    assert found["lines"] == lines_of(expected)
    assert found["facts"] == [asdict(fact) for fact in expected.facts]
    assert found["within"] is True


def test_what_the_contract_does_not_grant_is_named(whole: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.audit.reporting.GRANTED", {})
    with reading(whole.party(PROVIDER)) as connection:
        found, _ = read_whole(SoFar("provider-a"), connection, whole.job)
    assert found["within"] is False
    assert all("not granted to a" in line["outside"][0] for line in found["lines"])


def test_of_a_job_that_is_not_there_nothing_is_said(whole: Recorded) -> None:
    with reading(whole.party(BUSINESS)) as connection:
        assert SoFar("business-a").read(connection, "nothing") == {}
