"""Every log line says whose it is, and of which job, message, task and iteration it speaks."""

import asyncio
import json
from pathlib import Path

import pytest

from services.daemon.local import BUSINESS, NAMES, PROVIDER, connect, embedded, wait_for
from services.party.configuration import load_party
from tests.services import house, toy
from tests.services.quick import JOB, parties


def test_lines_of_a_job_name_party_job_iteration_and_the_message_or_task_that_caused_them(tmp_path: Path) -> None:
    paths = parties(tmp_path / "parties")
    with embedded(paths):
        clients = {role: connect(load_party(path)) for role, path in zip(NAMES, paths, strict=True)}
        job = clients[BUSINESS].ask("submit", job={**JOB, "partner": f"{NAMES[PROVIDER]}/features"})["job"]
        for role, client in clients.items():
            assert wait_for(client, job)["outcome"] == "done"
            lines = client.ask("logs", id=job)
            assert {(line["job"], line["party"]) for line in lines} == {(job, NAMES[role])}
            stages = [line for line in lines if line["event"] == "stage"]
            assert [line.get("iteration") for line in stages if line["stage"] == "train"] == [1, 2]
            for line in stages[1:]:
                by_message = line.get("partner") in NAMES.values() and "kind" in line and line["sequence"] > 0
                assert by_message or ("task" in line and "function" in line)
            [end] = [line for line in lines if line["event"] == "job ended"]
            assert end["outcome"] == "done"
            client.close()


def test_a_worker_process_writes_the_same_lines_as_its_daemon(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def story() -> None:
        place = house.Town(tmp_path, fields={"workers": 1})
        async with place.both() as (shop, bank):
            await shop.submit("job-1", "bank", contract=toy.contract(trouble="stumble", times=9))
            assert (await shop.wait("job-1")).outcome == "failed"
            assert (await house.ended(bank, "job-1")).outcome == "failed"

    asyncio.run(story())
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    failures = [line for line in lines if line["event"] == "task failed"]
    assert failures
    for line in failures:
        assert (line["job"], line["level"]) == ("job-1", "error")
        assert line["party"] in house.PARTIES
        assert line["timestamp"]
        assert line["task"]
