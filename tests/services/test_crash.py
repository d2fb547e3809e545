"""The daemon is killed at every named point, at either party, and the job ends as if nothing had happened."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest
from broker.embedded import Faults
from sqlalchemy import select

from services.crash import CRASH_POINTS, Crash
from services.daemon import Daemon
from services.jobs import JobView
from services.journal_schema import blobs, held, outbox, tasks
from tests.services import house, toy

PLAN = toy.Plan(seed=7, iterations=2, chunks=3, size=1500)
JOB = "job-1"


@dataclass
class CrashAt:
    """Crashes at the `nth` passage of `point`, once."""

    point: str
    nth: int = 1
    happened: bool = False
    dead: bool = False

    def __call__(self, point: str) -> None:
        if self.dead:
            # The process is gone: whatever thread still runs comes no further than the next point.
            raise Crash(point)
        if point == self.point and not self.happened:
            self.nth -= 1
            if self.nth == 0:
                self.happened = self.dead = True
                raise Crash(point)


async def _keep_running(town: house.Town, name: str, crash: CrashAt, daemons: dict[str, Daemon]) -> None:
    """Start a daemon, and again after its crash, on the same directory, until it is told to stop."""
    while True:
        crash.dead = False
        daemon = daemons[name] = town.daemon(name, crash)
        try:
            await daemon.run()
        except BaseException as error:
            if not house.is_crash(error):
                raise
        else:
            # A hook that fired in an operator's command has killed the process all the same.
            if not crash.dead:
                return


async def _submit_until_there(daemons: dict[str, Daemon]) -> None:
    """What an operator does whose command was cut off: look, and submit again if the job is not there."""
    while True:
        daemon = daemons["shop"]
        try:
            await daemon.started()
            if any(view.job == JOB for view in await daemon.jobs()):
                return
            await daemon.submit(JOB, "bank", contract=toy.contract(**toy.msgspec.structs.asdict(PLAN)))
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                raise
            if house.is_crash(error):
                daemon.stop()
            await asyncio.sleep(0.01)


async def _ended(daemons: dict[str, Daemon], name: str) -> JobView:
    while True:
        try:
            for view in await daemons[name].jobs():
                if view.status != "running":
                    return view
        except Exception:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)


async def _leftovers(daemon: Daemon) -> int:
    """Rows that a job at rest has no use for: outbox, tasks, held messages, blobs that are no results."""
    def rows(connection):
        return sum(
            len(connection.execute(select(table.c.job)).all()) for table in (outbox, tasks, held)
        ) + max(0, len(connection.execute(select(blobs.c.job)).all()) - 1)

    return await daemon.journal.read(rows)


async def _story(directory: Path, who: str, crash: CrashAt, faults: Faults | None = None) -> None:
    town = house.Town(directory, faults=faults, fields={"workers": 0})
    daemons: dict[str, Daemon] = {}
    hooks = {"shop": CrashAt("never"), "bank": CrashAt("never"), who: crash}
    async with asyncio.TaskGroup() as group:
        for name in ("shop", "bank"):
            group.create_task(_keep_running(town, name, hooks[name], daemons))
        await asyncio.sleep(0)
        await _submit_until_there(daemons)
        shop, bank = await _ended(daemons, "shop"), await _ended(daemons, "bank")
        assert (shop.outcome, bank.outcome) == ("done", "done")
        result = await daemons["shop"].result(JOB, shop.results[0])
        assert result == repr(list(toy.expected(PLAN))).encode()
        for name in ("shop", "bank"):
            await house.until(lambda name=name: _rested(daemons, name))
            assert sorted(path.name for path in (directory / name / "secrets").iterdir()) == []
            daemons[name].stop()


async def _rested(daemons: dict[str, Daemon], name: str) -> bool:
    try:
        return await _leftovers(daemons[name]) == 0
    except Exception:
        return False


@pytest.mark.parametrize("who", ["shop", "bank"])
@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_daemon_killed_at_any_point_goes_on_to_the_same_result(tmp_path, point, who):
    if point.startswith("submit.") and who == "bank":
        who = "shop"
    crash = CrashAt(point, nth=1 if point.startswith(("submit.", "finish.")) else 3)
    asyncio.run(_story(tmp_path, who, crash))
    assert crash.happened
