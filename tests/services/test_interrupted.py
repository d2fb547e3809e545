"""Ctrl-C in a command that waits."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.failures import UNREACHABLE
from services.daemon.control import socket_path
from services.daemon.local import BUSINESS, NAMES, PROVIDER, connect, embedded, processes
from services.party.configuration import load_party
from tests.parties import example_tables, make_parties
from tests.services.bureau import JOB, MARKS, ROWS


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Children of a run in the background would inherit that it ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_who_stops_waiting_for_a_job_is_told_that_it_goes_on(tmp_path: Path) -> None:
    paths = make_parties(tmp_path, example_tables(tmp_path, ROWS), marks=MARKS)
    policy = paths[PROVIDER].parent / "policy.toml"
    policy.write_text(f'approval = "ask"\n{policy.read_text()}')
    fields = {**JOB, "partner": f"{NAMES[PROVIDER]}/features"}
    job_file = tmp_path / "job.toml"
    job_file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items()))
    command = [sys.executable, "-m", "services.cli", "submit", str(job_file), "--wait", "--party", str(paths[BUSINESS])]
    with embedded((paths[BUSINESS], paths[PROVIDER])), connect(load_party(paths[BUSINESS])) as client:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        shown = process.stderr.readline()  # it waits from here on
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 130, shown + err
        job = out.split()[0]
        assert f"the job goes on: `warren job {job}` shows it" in err
        assert "Traceback" not in err
        assert client.ask("job", id=job)["status"] == "running"
        jobs = [sys.executable, "-m", "services.cli", "jobs", "--party", str(paths[BUSINESS])]
        narrow = subprocess.run(jobs, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "80"})
        assert job in narrow.stdout, "an identifier is never cut: other commands are given it"
        waits = f"{job} is waiting for {NAMES[PROVIDER]}"
        assert "…" not in narrow.stdout
        assert any(line.startswith(waits) for line in narrow.stdout.splitlines()), narrow.stdout


def test_a_command_whose_daemon_does_not_answer_can_be_interrupted(tmp_path: Path) -> None:
    paths = make_parties(tmp_path, example_tables(tmp_path, ROWS), marks=MARKS)
    data = load_party(paths[BUSINESS]).data_directory
    data.mkdir()
    command = [sys.executable, "-m", "services.cli", "jobs", "--party", str(paths[BUSINESS])]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path(data)))
        listener.listen()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        connection, _ = listener.accept()
        with connection:
            assert b"jobs" in connection.recv(1000)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_daemon_that_is_stopped_while_it_is_asked_leaves_no_traceback(tmp_path: Path) -> None:
    paths = make_parties(tmp_path, example_tables(tmp_path, ROWS), marks=MARKS)
    business = load_party(paths[BUSINESS])
    with processes([paths[BUSINESS]]) as [daemon], connect(business):
        asking = [sys.executable, "-m", "services.cli", "check", "--timeout", "500", "--party", str(paths[BUSINESS])]
        job_file = tmp_path / "job.toml"
        fields = {**JOB, "partner": f"{NAMES[PROVIDER]}/features"}
        job_file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items()))
        command = subprocess.Popen([*asking, str(job_file)], stderr=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            command.wait(timeout=8)  # nobody answers the probe
        daemon.terminate()
        _, err = command.communicate(timeout=30)
        assert command.returncode == UNREACHABLE
        daemon.wait(timeout=30)
    said = (paths[BUSINESS].parent / "log").read_text()
    assert "stopped" in said
    assert "Traceback" not in said + err
