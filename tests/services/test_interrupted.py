"""Ctrl-C in a command that waits."""

import json
import signal
import subprocess
import sys
from pathlib import Path

from services.daemon.local import BUSINESS, NAMES, PROVIDER, connect, embedded
from services.party.configuration import load_party
from tests.parties import example_tables, make_parties
from tests.services.bureau import JOB, MARKS, ROWS


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
