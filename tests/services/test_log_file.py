"""The log in a file: moved away by whoever rotates it, it goes on in a new one, and the daemon goes on as well."""

import json
import signal
import stat
from pathlib import Path

from services.daemon.local import BUSINESS, serve
from services.party.configuration import load_party
from services.party.log_file import LogFile
from tests.parties import example_tables, make_parties, until


def test_a_file_that_was_moved_or_removed_is_made_anew_for_its_owner_only(tmp_path):
    path = tmp_path / "log" / "warren.log"
    log = LogFile(path)
    log.write("one\n")
    path.rename(tmp_path / "old")
    log.write("two\n")
    assert (tmp_path / "old").read_text() == "one\n"
    assert path.read_text() == "two\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
    path.parent.rmdir()
    log.write("three\n")
    assert path.read_text() == "three\n"


def test_two_processes_on_one_file_lose_no_line_when_it_is_moved(tmp_path):
    path = tmp_path / "warren.log"
    first, second = LogFile(path), LogFile(path)
    first.write("one\n")
    path.rename(tmp_path / "old")
    second.write("two\n")
    first.write("three\n")
    assert (tmp_path / "old").read_text() + path.read_text() == "one\ntwo\nthree\n"


def events(path: Path) -> list[str]:
    return [json.loads(line)["event"] for line in path.read_text().splitlines()] if path.exists() else []


def test_a_daemon_whose_log_was_moved_goes_on_in_a_new_one_with_a_signal_or_without(tmp_path):
    party = make_parties(tmp_path, example_tables(tmp_path, 60), marks=())[BUSINESS]
    party.write_text('log_file = "log/warren.log"\n' + party.read_text())
    assert load_party(party).settings["log_file"] == str(party.parent / "log" / "warren.log")
    log, old = party.parent / "log" / "warren.log", party.parent / "log" / "warren.log.1"
    with (tmp_path / "rest").open("wb") as rest:
        daemon = serve(party, rest)
        try:
            until(lambda: "recovered" in events(log), "the daemon starts")
            log.rename(old)
            daemon.send_signal(signal.SIGHUP)
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(30) == 0
        finally:
            daemon.kill()
            daemon.wait()
    assert events(log)[-1] == "stopped"
    assert "stopped" not in events(old)
    assert '"event"' not in (tmp_path / "rest").read_text()
