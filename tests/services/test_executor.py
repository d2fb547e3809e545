"""Worker processes: what dies is started again, what fails ends its job only, and nothing outlives the daemon."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from services.store.limits import JOB_CACHES_MAX, TASK_FAILURES_MAX
from tests.parties import PATIENCE_S
from tests.services import house, toy

JOB = "job-1"


def run(story):
    asyncio.run(story())


async def _outcome(town: house.Town, trouble: str, times: int = 0):
    """A job whose business has one task of trouble."""
    async with house.running(town.daemon("bank", workers=0)), house.running(town.daemon("shop")) as shop:
        await shop.submit(JOB, "bank", contract=toy.contract(trouble=trouble, times=times))
        return await shop.wait(JOB), await shop.statistics(JOB)


def test_a_worker_that_is_killed_is_replaced_and_its_task_run_again(tmp_path):
    async def story():
        view, counters = await _outcome(house.Town(tmp_path), "die", TASK_FAILURES_MAX - 1)
        assert view.outcome == "done"
        assert counters["task_failures"] == counters["tasks_run_again"] == TASK_FAILURES_MAX - 1

    run(story)


def test_a_worker_that_is_killed_while_it_hands_over_its_result_is_replaced_and_its_task_run_again(tmp_path):
    async def story():
        view, counters = await _outcome(house.Town(tmp_path), "die_writing")
        assert view.outcome == "done"
        assert counters["task_failures"] == counters["tasks_run_again"] == 1

    run(story)


def test_a_task_that_kills_its_worker_every_time_ends_its_job(tmp_path):
    async def story():
        view, _ = await _outcome(house.Town(tmp_path), "die", 100)
        assert (view.outcome, view.reason_code) == ("failed", "worker_died")
        assert len((tmp_path / "shop" / "deaths").read_bytes()) == TASK_FAILURES_MAX

    run(story)


def test_a_task_that_raises_is_tried_three_times_and_its_text_stays_inside(tmp_path):
    async def story():
        view, counters = await _outcome(house.Town(tmp_path, fields={"workers": 0}), "stumble")
        assert (view.outcome, view.reason_code) == ("failed", "task_failed")
        assert counters["tasks_run_again"] == TASK_FAILURES_MAX - 1
        assert "secret value" not in repr(view)

    run(story)


def test_a_refused_input_ends_the_job_without_another_try(tmp_path):
    async def story():
        with capture_logs():
            view, counters = await _outcome(house.Town(tmp_path, fields={"workers": 0}), "refuse")
        assert (view.outcome, view.reason_code) == ("failed", "too_odd")
        assert "tasks_run_again" not in counters

    run(story)


def test_jobs_take_turns(tmp_path):
    async def story():
        town = house.Town(tmp_path, fields={"workers": 0})
        async with house.running(town.daemon("shop")) as shop:
            for number in range(3):
                await shop.submit(f"job-{number}", "bank", contract=toy.contract(trouble="note", times=20))
            async with house.running(town.daemon("bank")):
                for number in range(3):
                    assert (await shop.wait(f"job-{number}")).outcome == "done"
        order = [line.split() for line in (tmp_path / "shop" / "order").read_text().splitlines()]
        for number in range(3):
            assert [name for job, name in order if job == f"job-{number}"] == [str(n) for n in range(20)]
        last_starter = max(next(i for i, (job, _) in enumerate(order) if job == f"job-{n}") for n in range(3))
        first_leaver = min(max(i for i, (job, _) in enumerate(order) if job == f"job-{n}") for n in range(3))
        assert first_leaver - last_starter > 20

    run(story)


def test_a_worker_keeps_tables_of_a_job_until_it_ends_and_of_a_few_jobs_only(tmp_path):
    async def story():
        town = house.Town(tmp_path, fields={"workers": 0})
        async with town.both() as (shop, _):
            await shop.submit(JOB, "bank", contract=toy.contract(trouble="cached", times=5))
            ended = await shop.wait(JOB)
            assert await shop.result(JOB, ended.results[0]) == b"[15]"
            worker = shop._executor._slots[0]._worker
            await house.until(lambda: JOB not in worker._caches)
            for number in range(JOB_CACHES_MAX * 2):
                await shop.submit(f"many-{number}", "bank", contract=toy.contract(trouble="cached", times=1))
            for number in range(JOB_CACHES_MAX * 2):
                await shop.wait(f"many-{number}")
                assert len(worker._caches) <= JOB_CACHES_MAX

    run(story)


def test_the_event_loop_is_free_while_a_worker_is_busy(tmp_path):
    async def story():
        town = house.Town(tmp_path)
        async with house.running(town.daemon("bank", workers=0)), house.running(town.daemon("shop")) as shop:
            await shop.submit(JOB, "bank", contract=toy.contract(trouble="spin", times=600))
            await house.until((tmp_path / "shop" / "spinning").exists)
            # A loop that was not free would come here when the ten minutes are over.
            assert [view.status for view in await shop.jobs()] == ["running"]
            (tmp_path / "shop" / "enough").touch()
            assert (await shop.wait(JOB)).outcome == "done"

    run(story)


# -- the end of the daemon -----------------------------------------------------------------------------------

DAEMON = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.services import house, toy

async def main():
    town = house.Town(Path(sys.argv[1]))
    town_bank = town.daemon("bank", workers=0)
    shop = town.daemon("shop", workers=2)
    async with house.running(town_bank):
        task = asyncio.create_task(shop.run(handle_signals=True))
        await shop.started()
        if not await shop.jobs():
            await shop.submit("job-1", "bank", contract=toy.contract(trouble="spin", times=600))
        await task

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.fixture
def daemon_process(tmp_path):
    script = tmp_path / "daemon.py"
    script.write_text(DAEMON)
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path), root], cwd=root, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE_S
    while not (tmp_path / "shop" / "spinning").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    yield process
    process.kill()
    process.wait()


def _family(process: subprocess.Popen) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def _alive(family: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; a zombie runs no more."""
    return [child for child in family if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def test_nothing_of_a_killed_daemon_lives_on(daemon_process):
    family = _family(daemon_process)
    assert family
    os.kill(daemon_process.pid, signal.SIGKILL)
    daemon_process.wait()
    gone, left = psutil.wait_procs(family, timeout=PATIENCE_S)
    assert not _alive(left), gone


def test_sigterm_ends_the_daemon_though_a_task_of_minutes_is_under_way(daemon_process, tmp_path):
    family = _family(daemon_process)
    daemon_process.terminate()
    assert daemon_process.wait(timeout=PATIENCE_S) == 0
    _, left = psutil.wait_procs(family, timeout=PATIENCE_S)
    assert not _alive(left)
    assert (tmp_path / "shop" / "secrets" / JOB).exists()
