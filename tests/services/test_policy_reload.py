"""A changed policy, taken by a running daemon: what is decided later is decided by it; a bad file changes nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli import app, policies
from services.cli.failures import BAD_INPUT, DONE, guarded
from services.daemon.control import ControlClient
from services.daemon.local import BUSINESS, NAMES, PROVIDER, connect, embedded, wait_for
from services.party.configuration import ConfigError, load_party, read_policy_file
from tests.parties import example_tables, make_parties
from tests.services.bureau import JOB, MARKS, ROWS


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two parties."""
    directory = tmp_path_factory.mktemp("policy")
    return make_parties(directory, example_tables(directory, ROWS), marks=MARKS)


@pytest.fixture(scope="module")
def business(paths: dict[str, Path]) -> Iterator[ControlClient]:
    """The business's console, with both daemons running."""
    with embedded((paths[BUSINESS], paths[PROVIDER])), connect(load_party(paths[BUSINESS])) as client:
        yield client


@pytest.fixture
def policy(paths: dict[str, Path], business: ControlClient) -> Iterator[Path]:
    """The provider's policy file, put back and taken back at the end."""
    file = paths[PROVIDER].parent / "policy.toml"
    former = file.read_text()
    yield file
    file.write_text(former)
    with connect(load_party(paths[PROVIDER])) as client:
        client.ask("policy-reload")


def reload(paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of `warren policy reload` at the provider."""
    monkeypatch.setattr("sys.argv", ["warren", "policy", "reload", "--party", str(paths[PROVIDER])])
    monkeypatch.setattr(policies.out, "width", 200)
    return guarded(app)


def ended(client: ControlClient) -> tuple[str, str]:
    """Outcome and reason code of a job that is submitted now."""
    view = wait_for(client, client.ask("submit", job=JOB)["job"])
    return view["outcome"], view["reason_code"]


def test_proposals_are_judged_by_the_new_policy_as_soon_as_it_is_read_and_not_before(
    paths: dict[str, Path], business: ControlClient, policy: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    assert ended(business) == ("done", "")
    policy.write_text(f'tasks = ["linear"]\n{policy.read_text()}')
    assert ended(business) == ("done", "")
    assert reload(paths, monkeypatch) == DONE
    assert "tasks: not set -> ['linear']" in capsys.readouterr().out
    assert ended(business) == ("declined", "task_refused")
    policy.write_text(policy.read_text().replace("linear", "logistic"))
    assert reload(paths, monkeypatch) == DONE
    assert ended(business) == ("done", "")
    assert reload(paths, monkeypatch) == DONE
    assert "nothing has changed" in capsys.readouterr().out


def test_quotas_over_jobs_are_those_of_the_new_policy(
    paths: dict[str, Path], business: ControlClient, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy.write_text(f"jobs_max = 0\n{policy.read_text()}")
    assert reload(paths, monkeypatch) == DONE
    assert ended(business) == ("declined", "jobs_max")


def test_a_job_that_was_agreed_to_goes_on_under_its_contract(
    paths: dict[str, Path], business: ControlClient, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = policy.read_text()
    policy.write_text(f'ask_for = ["marks"]\n{former}')
    assert reload(paths, monkeypatch) == DONE
    job = business.ask("submit", job=JOB)["job"]
    wait_for(business, job, until_stage="approval")
    policy.write_text(f"accept = false\n{former}")
    assert reload(paths, monkeypatch) == DONE
    with connect(load_party(paths[PROVIDER])) as provider:
        provider.ask("approve", id=job)
    assert wait_for(business, job)["outcome"] == "done"
    assert ended(business) == ("declined", "partner_refused")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('marks = []\nmax_iterations = "many"\n', "line 2: policy: Expected `int`"),
        ("\n\nmax_iteration = 3\n", "line 3: policy: Object contains unknown field `max_iteration`"),
        ("marks = [\naccept = true\n", "at line 2"),
        ('quiet_hours = "22:00-06:00 Nowhere/Here"\n', "Nowhere/Here"),
        ("[partner]\nbusiness-a = 3\n", "policy: "),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_place_and_the_former_policy_stays(
    text: str,
    said: str,
    paths: dict[str, Path],
    business: ControlClient,
    policy: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    policy.write_text(text)
    assert reload(paths, monkeypatch) == BAD_INPUT
    complaint = capsys.readouterr().err
    assert said in complaint
    assert f"{policy}" in complaint
    assert "the former policy stays in force" in complaint
    answer = business.ask("check", job={**JOB, "partner": f"{NAMES[PROVIDER]}/features"})
    assert answer["partner"]["acceptable"]


def test_a_key_that_stands_in_several_places_gets_no_line_that_may_be_wrong(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("psi_quota = 5\n[partner.bank]\npsi_quota = true\n")
    with pytest.raises(ConfigError, match=r"policy\.toml: policy: .*psi_quota"):
        read_policy_file(path)
