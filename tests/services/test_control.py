"""The console: what an operator asks of a running daemon, and what it answers."""

import os
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.daemon.control import ControlClient, ControlError, ControlUnreachable, socket_path
from services.daemon.local import BUSINESS, NAMES, PROVIDER, connect, embedded, wait_for
from services.party.configuration import load_party
from tests.services.test_local import JOB, parties

PROPOSAL = {**JOB, "partner": f"{NAMES[PROVIDER]}/features"}


@pytest.fixture(scope="module")
def consoles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ControlClient]]:
    """Consoles of two running parties."""
    paths = parties(tmp_path_factory.mktemp("consoles") / "parties")
    with embedded(paths):
        found = {role: connect(load_party(path)) for role, path in zip(NAMES, paths, strict=True)}
        yield found
        for client in found.values():
            client.close()


def test_check_says_whether_the_partner_would_accept_and_what_it_costs(consoles: dict[str, ControlClient]) -> None:
    answer = consoles[BUSINESS].ask("check", job=PROPOSAL)
    assert answer["partner"]["acceptable"]
    assert (answer["partner"]["rows"], answer["partner"]["columns"]) == (200, 20)
    assert all(value > 0 for value in answer["estimate"].values())


def test_check_gives_the_partner_s_reason_for_declining(consoles: dict[str, ControlClient]) -> None:
    answer = consoles[BUSINESS].ask("check", job={**PROPOSAL, "partner": f"{NAMES[PROVIDER]}/secrets"})
    assert not answer["partner"]["acceptable"]
    assert answer["partner"]["reason_code"] == "dataset_unknown"


def test_a_declined_job_ends_with_the_reason_at_both(consoles: dict[str, ControlClient]) -> None:
    job = consoles[BUSINESS].ask("submit", job={**PROPOSAL, "partner": f"{NAMES[PROVIDER]}/secrets"})["job"]
    for client in consoles.values():
        view = wait_for(client, job)
        assert (view["outcome"], view["reason_code"]) == ("declined", "dataset_unknown")


def test_a_cancelled_job_ends_at_both(consoles: dict[str, ControlClient]) -> None:
    job = consoles[BUSINESS].ask("submit", job=PROPOSAL)["job"]
    consoles[BUSINESS].ask("cancel", id=job, reason="a mistake")
    view = wait_for(consoles[BUSINESS], job)
    assert view["outcome"] == "cancelled"
    assert "a mistake" in view["reason"]
    assert job in [entry["job"] for entry in consoles[BUSINESS].ask("jobs")]
    assert consoles[BUSINESS].ask("parked")["codes"] == {}


@pytest.mark.parametrize("verb", ["job", "cancel"])
def test_an_unknown_job_is_said_to_be_unknown(consoles: dict[str, ControlClient], verb: str) -> None:
    with pytest.raises(ControlError, match="there is no job") as caught:
        consoles[BUSINESS].ask(verb, id="nothing")
    assert caught.value.code == "unknown_job"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"partner": "stranger/features"}, "stranger"),
        ({"dataset": "nothing"}, "nothing"),
        ({"label": "nothing"}, "nothing"),
        ({"key_bits": 1024}, "2048"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_job_that_cannot_be_is_refused_at_home(
    consoles: dict[str, ControlClient], change: dict[str, object], named: str
) -> None:
    with pytest.raises(ControlError, match=named) as caught:
        consoles[BUSINESS].ask("submit", job={**PROPOSAL, **change})
    assert caught.value.code == "bad_input"


def test_an_unknown_command_is_refused_and_the_console_goes_on(consoles: dict[str, ControlClient]) -> None:
    with pytest.raises(ControlError):
        consoles[BUSINESS].ask("nonsense")
    assert consoles[BUSINESS].ask("status")["transport"]["up"]


def test_only_its_owner_can_talk_to_a_daemon(consoles: dict[str, ControlClient]) -> None:
    path = Path(consoles[BUSINESS]._path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_uid == os.getuid()


def test_a_data_directory_with_a_long_path_still_has_a_console(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90) / ("e" * 90)
    deep.mkdir(parents=True)
    assert len(str(socket_path(deep)).encode()) < 108
    with pytest.raises(ControlUnreachable, match="warren serve"):
        ControlClient(deep)


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data directory too long for a socket, with a temporary directory of its own."""
    deep = tmp_path / ("d" * 90) / ("e" * 90)
    deep.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="w-") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        yield deep


def test_commands_at_the_same_time_find_the_same_console(far: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: socket_path(far), range(400)))
    assert len(found) == 1
    assert found.pop().parent.resolve() == far.resolve()


def test_a_link_that_leads_elsewhere_is_refused(far: Path, tmp_path: Path) -> None:
    link = socket_path(far).parent
    link.unlink()
    link.symlink_to(tmp_path)
    with pytest.raises(ControlError, match="is not your link"):
        socket_path(far)


def test_a_link_of_another_user_is_refused(far: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    socket_path(far)
    monkeypatch.setattr(os, "getuid", lambda: 424_242)
    with pytest.raises(ControlError, match="is not your link"):
        socket_path(far)
