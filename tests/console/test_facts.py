"""What only the console says, months over all partners and kinds in words; and what is in the package."""

import os
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from messages import codec
from protocol.grants import GRANTED
from services.console.kinds import KINDS
from services.console.months import Month, month_of
from services.engine.jobs import JobView
from services.party.configuration import ConfigError, PartyFile, check_console
from services.party.listening import address_of
from services.store.grants import Grant, grants
from services.store.ledger import Ledger

HOUSE = Path(__file__).parents[2]
NOVEMBER = Month.named("2026-11")


def view(job: str, at: float, outcome: str = "", *partners: str) -> JobView:
    return JobView(
        job=job,
        role="business",
        partner=partners[0],
        partners=partners,
        status="finished" if outcome else "running",
        outcome=outcome,
        reason_code="",
        reason="",
        results=(),
        head="",
        length=1,
        applied=0,
        sent=0,
        receipted=0,
        created_at=at,
        updated_at=at,
        expires_at=0.0,
        progress=None,
    )


def test_a_month_has_its_days_and_no_other() -> None:
    assert NOVEMBER.end - NOVEMBER.begin == 30 * 86_400
    assert Month.named("2028-02").end - Month.named("2028-02").begin == 29 * 86_400
    assert Month.named("2026-12").end == Month.named("2027-01").begin
    assert NOVEMBER.begin in NOVEMBER
    assert NOVEMBER.end not in NOVEMBER
    assert Month.of(NOVEMBER.end - 1) == NOVEMBER


def test_a_job_counts_in_the_month_in_which_it_began_and_scores_when_they_were_granted() -> None:
    inside, before = NOVEMBER.begin + 5, NOVEMBER.begin - 5
    jobs = [view("a", inside, "done", "bank", "mill"), view("b", before, "done", "bank"), view("c", inside, "", "bank")]
    training = Grant("bank", "a", 100, 7, False, before)
    granted = [
        training,
        replace(training, partner="mill", entries=3),
        replace(training, job="b", entries=1_000, written_at=inside),  # settled later than it began
        replace(training, job="gone", entries=2, rows=10, written_at=inside),  # a job that has left the journal
        Grant("bank", "s", 40, 0, True, inside),
        Grant("bank", "t", 4_000, 0, True, before),
    ]
    found = month_of(NOVEMBER, granted, jobs, now=NOVEMBER.end)
    assert not found["current"]
    assert found["partners"] == [
        {"partner": "bank", "jobs": 2, "done": 1, "entries": 9, "rows": 110, "rows_scored": 40},
        {"partner": "mill", "jobs": 1, "done": 1, "entries": 3, "rows": 100, "rows_scored": 0},
    ]


def test_grants_are_those_of_the_ledger(tmp_path: Path) -> None:
    assert grants(tmp_path) == []
    ledger = Ledger(tmp_path, "bank")
    names = [f"p{row}" for row in range(50)]
    allowed = ledger.admit("job-1", names, own_columns=3, partner_columns=4, max_iterations=3, small_sample=True)
    ledger.settle("job-1", allowed, 4)
    ledger.grant_scores("job-2", "model", 20, quota=100, period_s=60.0, now=5.0)
    ledger.grant_projections("job-3", names[:30], 2, columns=4)
    scores, *written = grants(tmp_path)
    trained, evaluated = sorted(written, key=lambda grant: grant.job)
    assert (evaluated.job, evaluated.rows, evaluated.scores) == ("job-3", 60, True)
    assert scores == Grant("bank", "job-2", 20, 0, True, 5.0)
    assert (trained.partner, trained.job, trained.rows, trained.scores) == ("bank", "job-1", 50, False)
    with np.load(tmp_path / "ledger" / "bank" / "job-1.npz") as record:
        assert trained.entries == int(record["entries"]) > 0


def test_a_damaged_grant_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "ledger" / "bank"
    folder.mkdir(parents=True)
    damaged = {"a.npz": b"PK\x03\x04", "b.npz": b"", "c.scores": b"{", "d.scores": b"\xff", "e.new": b""}
    for name, data in damaged.items():
        (folder / name).write_bytes(data)
    assert grants(tmp_path) == []


def test_every_kind_of_message_that_a_contract_grants_has_words() -> None:
    assert {kind for kinds in GRANTED.values() for kind in kinds} <= KINDS.keys()
    assert KINDS.keys() <= {codec.kind_of(message) for message in codec.MESSAGES}


@pytest.mark.parametrize("text", ["127.0.0.1:8700", "[::1]:8700", "localhost:8700"])
def test_a_console_on_this_machine_needs_no_more(text: str) -> None:
    assert address_of(text).loopback
    check_console(PartyFile(name="bank", broker="amqp://localhost/", console=text), Path("party.toml"))


@pytest.mark.parametrize("text", ["8700", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:70000", "example:80", ":8700", "::1"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="key console"):
        check_console(PartyFile(name="bank", broker="amqp://localhost/", console=text), Path("party.toml"))


def test_a_console_for_others_has_to_name_its_hosts() -> None:
    party = PartyFile(name="bank", broker="amqp://localhost/", console="0.0.0.0:8700")
    with pytest.raises(ConfigError, match="console_hosts"):
        check_console(party, Path("party.toml"))
    check_console(msgspec.structs.replace(party, console_hosts=("127.0.0.1:8700",)), Path("party.toml"))


def test_the_package_has_the_pages(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    environment = os.environ | {"WARREN_NO_COMPILER": "1"}
    subprocess.run(command, cwd=HOUSE, env=environment, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = {name for name in wheel.namelist() if name.startswith("services/console/static/")}
    there = {path.relative_to(HOUSE).as_posix() for path in (HOUSE / "services" / "console" / "static").iterdir()}
    assert packed == there
    assert "services/console/static/index.html" in packed


def test_nothing_in_the_pages_names_another_host() -> None:
    namespace = "http://www.w3.org/2000/svg"
    for path in (HOUSE / "services" / "console" / "static").iterdir():
        text = path.read_text(encoding="utf-8").replace(namespace, "")
        assert not re.search(r"https?:|url\(|@import|[\"']//", text), path.name
