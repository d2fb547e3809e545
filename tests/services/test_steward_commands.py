"""The commands of a steward and of an operator, against running daemons."""

import json
from pathlib import Path

import pytest

from services.cli import app, consent
from services.cli.failures import BAD_INPUT, DONE, guarded
from services.daemon.control import ControlClient
from services.daemon.local import BUSINESS, NAMES, PROVIDER, connect, embedded, wait_for
from services.engine.waiting import Why
from services.party.configuration import load_party
from tests.parties import example_tables, make_parties, until
from tests.services.bureau import JOB, MARKS

POLICY = 'approval = "ask"\njobs_per_period = 2\n'


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    """Two parties, of which the provider's policy asks."""
    found = make_parties(tmp_path, example_tables(tmp_path, 60), marks=MARKS)
    policy = found[PROVIDER].parent / "policy.toml"
    policy.write_text(POLICY + policy.read_text())
    return found


def waits(client: ControlClient, job: str, why: Why) -> None:
    def there() -> bool:
        return any(view["job"] == job and (view["waiting"] or {}).get("why") == why for view in client.ask("jobs"))

    until(there, f"{job} waits: {why}")


def test_a_steward_reads_decides_revokes_and_pauses_by_commands(
    paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def steward(*words: str, code: int = DONE) -> str:
        monkeypatch.setattr("sys.argv", ["warren", *words, "--party", str(paths[PROVIDER])])
        monkeypatch.setattr(consent.out, "width", 200)
        assert guarded(app) == code
        said = capsys.readouterr()
        return said.out + said.err

    with (
        embedded((paths[BUSINESS], paths[PROVIDER])),
        connect(load_party(paths[BUSINESS])) as business,
        connect(load_party(paths[PROVIDER])) as provider,
    ):
        first = business.ask("submit", job=JOB)["job"]
        waits(provider, first, Why.STEWARD)
        text = steward("pending")
        assert first in text
        assert f"{NAMES[BUSINESS]} asks {NAMES[PROVIDER]} to train" in text
        assert 'approval = "ask"' in text
        (pending,) = json.loads(steward("pending", "--json"))
        assert pending["job"] == first
        assert first in steward("pause", first)
        waits(provider, first, Why.PAUSED)
        assert "paused" in steward("orders")
        assert "is not paused" in steward("resume", "--partner", NAMES[BUSINESS], code=BAD_INPUT)
        assert first in steward("resume", first)
        assert "approved" in steward("approve", first)
        assert wait_for(business, first)["outcome"] == "done"
        assert "is over already: done" in steward("approve", first, code=BAD_INPUT)
        second = business.ask("submit", job=JOB)["job"]
        waits(provider, second, Why.STEWARD)
        steward("decline", second, "--reason", "once is enough")
        assert wait_for(business, second)["reason"] == "once is enough"
        # What the partner asks beforehand it is told like what it submits.
        answer = business.ask("check", job=JOB)["partner"]
        assert answer["acceptable"]
        assert answer["reason"].startswith(f"{NAMES[PROVIDER]} asks its steward: the policy asks about every contract")
        third = business.ask("submit", job=JOB)["job"]
        waits(provider, third, Why.STEWARD)
        assert third in steward("revoke", third, "--reason", "under review")
        assert wait_for(business, third)["reason_code"] == "revoked"
        steward("revoke", "--partner", NAMES[BUSINESS], "--reason", "under review")
        refused = business.ask("check", job=JOB)["partner"]
        assert (refused["acceptable"], refused["reason_code"]) == (False, "revoked")
        assert "under review" in steward("orders")
        assert "may propose jobs again" in steward("allow", "--partner", NAMES[BUSINESS])
        assert json.loads(steward("orders", "--json"))["revoked"] == []
