"""The whole story of one job between two daemons that are killed and started again while it runs."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from random import Random

import msgspec
from sqlalchemy import Connection, select

from broker.embedded import Faults
from services.crash import Crash
from services.daemon import Daemon
from services.jobs import JobView
from services.journal_schema import blobs, held, outbox, tasks
from services.limits import Timing
from tests.services import house, toy

PLAN = toy.Plan(seed=7, iterations=2, chunks=2, size=1500)
JOB = "job-1"


class Hook:
    """A crash hook; once it has crashed, whatever thread of the dead daemon still runs comes no further."""

    dead = False
    retired = False
    crashes = 0

    def __call__(self, point: str) -> None:
        if self.dead:
            raise Crash(point)
        if not self.retired and self.strikes(point):
            self.dead = True
            self.crashes += 1
            raise Crash(point)

    def strikes(self, point: str) -> bool:
        return False


class CrashAt(Hook):
    """Crashes once, at the `nth` passage of `point`."""

    def __init__(self, point: str, nth: int = 1) -> None:
        self._point, self._left = point, nth

    def strikes(self, point: str) -> bool:
        self._left -= point == self._point
        return point == self._point and self._left == 0


class CrashSometimes(Hook):
    """Crashes at any point with a probability, `most` times in all."""

    def __init__(self, seed: int, chance: float, most: int) -> None:
        self._random, self._chance, self._most = Random(seed), chance, most

    def strikes(self, point: str) -> bool:
        return self.crashes < self._most and self._random.random() < self._chance


@dataclass
class Ending:
    """What is left of a job when both parties are at rest."""

    shop: JobView
    bank: JobView
    result: bytes
    statistics: dict[str, dict[str, int]]
    states: tuple[bytes, bytes]


async def _keep_running(town: house.Town, name: str, hook: Hook, daemons: dict[str, Daemon]) -> None:
    """Start a daemon, and again after its crash, on the same directory, until it is told to stop."""
    while True:
        hook.dead = False
        daemon = daemons[name] = town.daemon(name, hook)
        try:
            await daemon.run()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            # Where the hook struck in an operator's command, the daemon only sees its journal gone.
            if not hook.dead and not house.is_crash(error):
                raise
        else:
            # A hook that struck in an operator's command has killed the process all the same.
            if not hook.dead:
                return


async def _submit_until_there(daemons: dict[str, Daemon], contract: bytes) -> None:
    """What an operator does whose command was cut off: look, and submit again if the job is not there."""
    while True:
        daemon = daemons["shop"]
        try:
            await daemon.started()
            if any(view.job == JOB for view in await daemon.jobs()):
                return
            await daemon.submit(JOB, "bank", contract=contract)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
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
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)


def _leftovers(connection: Connection) -> int:
    """Rows that a job at rest has no use for: outbox, tasks, held messages, blobs that are no results."""
    rows = sum(len(connection.execute(select(table.c.job)).all()) for table in (outbox, tasks, held))
    return rows + max(0, len(connection.execute(select(blobs.c.job)).all()) - 1)


async def _rested(daemons: dict[str, Daemon], name: str, secrets: Path) -> bool:
    try:
        return await daemons[name].journal.read(_leftovers) == 0 and not list(secrets.iterdir())
    except Exception:
        return False


async def _retire(daemons: dict[str, Daemon], name: str, hook: Hook | None) -> None:
    """No more crashes; a daemon that has just crashed is back before this returns."""
    if hook is not None:
        hook.retired = True
    while True:
        try:
            await daemons[name].statistics(JOB)
        except Exception:
            await asyncio.sleep(0.01)
        else:
            return


async def tell(
    directory: Path,
    hooks: dict[str, Hook],
    *,
    plan: toy.Plan = PLAN,
    faults: Faults | None = None,
    timing: Timing = house.TIMING,
) -> Ending:
    """Run one job to its end and both parties to rest: nothing left but results, tombstones and chains."""
    town = house.Town(directory, faults=faults, fields={"workers": 0, "timing": timing})
    daemons: dict[str, Daemon] = {}
    names = ("shop", "bank")
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(_keep_running(town, name, hooks.get(name, Hook()), daemons))
        await asyncio.sleep(0)
        await _submit_until_there(daemons, msgspec.msgpack.encode(plan))
        views = [await _ended(daemons, name) for name in names]
        for name in names:
            await house.until(lambda name=name: _rested(daemons, name, directory / name / "secrets"))
        for name in names:
            await _retire(daemons, name, hooks.get(name))
        shop, bank = views
        results = [await daemons["shop"].result(JOB, ref) for ref in shop.results]
        ending = Ending(
            shop,
            bank,
            b"".join(results),
            {name: await daemons[name].statistics(JOB) for name in names},
            tuple([await daemons[name].journal.read(_state) for name in names]),
        )
        for name in names:
            daemons[name].stop()
    return ending


def _state(connection: Connection) -> bytes:
    from services.jobs import load

    record = load(connection, JOB)
    assert record is not None
    return record.state
