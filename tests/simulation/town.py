"""The parties of a job on virtual time, and what is left of them at the end."""

import asyncio
import contextlib
import functools
import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, Final

from sqlalchemy import Connection, select

from broker.embedded import EmbeddedBroker, EmbeddedTransport
from broker.transport import Receiver
from learning.links.family import Family
from paillier.budget import bit_budget
from protocol.machines import answering_role
from services.daemon.daemon import Daemon, DaemonConfig
from services.engine import archiving, jobs
from services.engine.jobs import JobView
from services.engine.surroundings import Surroundings
from services.store.crash import Crash
from services.store.journal_schema import blobs, held, outbox, tasks
from services.store.limits import Timing
from services.store.transactions import Transactions, sqlite_url
from tests.simulation.agreement import BEGAN, KEY_BITS, MARKS, ROWS, identity
from tests.simulation.invariants import Spoken, Watcher
from tests.simulation.places import MEMORY, InlineJournal, InlineSlot
from tests.simulation.played import TRAINING, Operator, Story
from tests.simulation.schedule import Disaster, Schedule

SLOTS: Final = 2
TIMING: Final = Timing(watch=60.0, lag=60.0, silence_last=120.0)
VIRTUAL_S_MAX: Final = 6 * 3600.0
OPERATOR_S: Final = 1.0
REST_S: Final = 2.0
REST_S_MAX: Final = 600.0
SAID_AGAIN_S: Final = 60.0


@dataclass(frozen=True)
class End:
    """How a job ended at one party: all of it is the same whatever happened on the way.

    `sent` and `received`: see `invariants.Spoken`. `said`: SHA-256 of every plaintext body that left, by kind.
    """

    status: str
    outcome: str
    reason_code: str
    phase: str
    results: tuple[bytes, ...]
    sent: Spoken
    received: Spoken
    said: dict[str, list[bytes]]


BROKEN: Final = End("broken", "", "", "", (), {}, {}, {})


@dataclass
class Outcome:
    """One seed: how it ended at both parties and which invariants were broken. `kinds`: of all that was published."""

    ends: dict[str, End] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    virtual_s: float = 0.0
    crashes: int = 0
    trace: str = ""
    kinds: frozenset[str] = frozenset()


class _WatchedTransport(EmbeddedTransport):
    """Says when a delivery is acknowledged."""

    def __init__(self, broker: EmbeddedBroker, party: str, partners: Sequence[str], watcher: Watcher) -> None:
        super().__init__(broker, party, partners)
        self._watcher, self._name = watcher, party

    async def run(self, receiver: Receiver) -> None:
        async def watched(delivery: Any) -> None:
            await receiver(self._watcher.delivery(self._name, delivery))

        await super().run(watched)


class _Party:
    """A daemon that is started again whenever it dies."""

    def __init__(self, town: "Town", name: str) -> None:
        self.town, self.name = town, name
        self.dead = False
        self.crashes = 0
        self.daemon: Daemon | None = None
        self.task: asyncio.Task[None] | None = None
        self.passed: dict[str, int] = {}
        self.chance = Random(f"{town.schedule.seed}/{name}")

    def hook(self, point: str) -> None:
        """Every named point passes here: a dead daemon comes no further."""
        if self.dead:
            raise Crash(point)
        self.passed[point] = self.passed.get(point, 0) + 1
        if self.town.schedule.strikes(self.name, point, self.passed[point]):
            self.dead = True
            self.crashes += 1
            raise Crash(point)

    def kill(self) -> None:
        """Between two points, wherever it is."""
        if self.task is not None and not self.dead:
            self.dead = True
            self.crashes += 1
            self.task.cancel()

    def _make(self) -> Daemon:
        town, name = self.town, self.name
        watch = functools.partial(town.watcher.committed, name)
        surroundings = Surroundings(
            clock=lambda: BEGAN + asyncio.get_running_loop().time(),
            entropy=lambda count: hashlib.shake_256(f"entropy of {name}".encode()).digest(count),
            chance=self.chance,
            journal=functools.partial(InlineJournal, chance=self.chance, watch=watch),
            slots=lambda setup, _: [InlineSlot(setup, name, self.chance) for _ in range(SLOTS)],
        )
        story, partners = town.story, town.story.partners_of(name)
        config = DaemonConfig(
            identity=identity(name),
            peers={partner: identity(partner).public for partner in partners},
            data_directory=town.directory / name,
            roles=story.machines,
            functions=story.functions,
            settings=town.settings(name),
            expiry_of=story.expiry_of,
            parties_of=story.parties_of,
            answering_role=answering_role,
            timing=TIMING,
            surroundings=surroundings,
            crash=self.hook,
        )
        return Daemon(config, _WatchedTransport(town.broker, name, partners, town.watcher))

    async def live(self) -> None:
        """Run, die, come back, until cancelled."""
        while True:
            self.dead = False
            self.daemon = self._make()
            self.task = asyncio.ensure_future(self.daemon.run())
            try:
                await asyncio.wait([self.task])
            except asyncio.CancelledError:
                self.daemon.stop()
                await asyncio.wait([self.task])
                raise
            if not self.dead:
                error = None if self.task.cancelled() else self.task.exception()
                self.town.watcher.broke(f"{self.name}'s daemon ended by itself: {error!r}")
                return
            await asyncio.sleep(self.chance.uniform(0.01, self.town.schedule.down_s))


class Town:
    """The parties of one seed, the broker between them, and the schedule of their misfortunes."""

    def __init__(self, directory: Path, schedule: Schedule, story: Story = TRAINING) -> None:
        self.directory, self.schedule, self.story = directory, schedule, story
        grants = {name: story.grants[role] for name, role in story.roles.items()}
        self.watcher = Watcher({name: identity(name) for name in story.parties}, story.job, grants)
        self.broker = EmbeddedBroker(story.parties, faults=schedule.faults, observer=self.watcher.published)
        self.parties = {name: _Party(self, name) for name in story.parties}
        self._noted = {name: asyncio.Event() for name in story.parties}

    def settings(self, name: str) -> dict[str, Any]:
        """What a party's tasks are told."""
        source = self.directory / f"{name}.csv"
        policy = {"marks": list(MARKS), "key_bits_min": 512, "score_quota": 1000, "inference": True}
        policy |= self.story.policy
        datasets = {"people": {"source": str(source), "id": "id"}}
        return {"policy": policy, "datasets": datasets, "noise_seed": "", "threads": 1}

    def furnish(self) -> None:
        """The providers' data sets, which their first tasks read, and journals in which nothing stands yet."""
        for name, table in self.story.tables().items():
            lines = [",".join(["id", *table.columns])]
            for who, row in zip(table.identifiers, table.values.tolist(), strict=True):
                lines.append(",".join([who, *map(repr, row)]))
            (self.directory / f"{name}.csv").write_text("\n".join(lines) + "\n")
        for name in self.parties:
            (self.directory / name).mkdir()
            (self.directory / name / "journal.sqlite").write_bytes(_fresh_journal(name))
            self.story.before(name, self.directory / name)

    async def tell(self) -> Outcome:
        """The whole story of the job."""
        self.furnish()
        loop = asyncio.get_running_loop()
        lives = [asyncio.ensure_future(party.live()) for party in self.parties.values()]
        lives += [asyncio.ensure_future(self._befall(disaster)) for disaster in self.schedule.disasters]
        lives += [asyncio.ensure_future(self._operate(operator)) for operator in self.story.operators]
        lives += [asyncio.ensure_future(self._retain(name)) for name in self.parties]
        outcome = Outcome()
        try:
            async with asyncio.timeout(VIRTUAL_S_MAX):
                await self._submit()
                ends = await asyncio.gather(*(self._ending(name) for name in self.parties))
                outcome.ends.update(zip(self.parties, ends, strict=True))
                await self._rest()
                await self._say_again()
        except TimeoutError:
            self.watcher.broke(f"the job is not over after {VIRTUAL_S_MAX:.0f} virtual seconds")
        outcome.virtual_s = loop.time()
        outcome.crashes = sum(party.crashes for party in self.parties.values())
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)
        for name, end in outcome.ends.items():
            outcome.ends[name] = self._opened(name, end)
        outcome.broken, outcome.trace = self.watcher.broken, self.watcher.trace()
        outcome.kinds = frozenset(self.watcher.kinds)
        return outcome

    def _opened(self, name: str, end: End) -> End:
        plain = self.watcher.plaintexts(name)
        owner = MEMORY.caches.get("bank", {}).get(self.story.job, {}).get("owner")
        if name == "bureau" and owner is not None:
            budget = bit_budget(ROWS, KEY_BITS, Family(task="logistic").residual_bound)
            packed = (budget.rows_per_ciphertext - 1) * budget.row_slot + budget.share_bits + 2
            self.watcher.check_masks(plain.get("residual.share for bank", ()), owner, packed)
        digests = {kind: [hashlib.sha256(body).digest() for body in bodies] for kind, bodies in plain.items()}
        return replace(end, said=digests)

    async def _befall(self, disaster: Disaster) -> None:
        await asyncio.sleep(disaster.at)
        match disaster.what:
            case "kill":
                self.parties[disaster.who].kill()
            case "partition":
                self.broker.block(disaster.who)
                await asyncio.sleep(disaster.seconds)
                self.broker.unblock(disaster.who)
            case "cut":
                self.broker.drop(disaster.who)
            case "restart":
                self.broker.stop()
                await asyncio.sleep(disaster.seconds)
                self.broker.start()
            case "forget":
                self.broker.stop()
                self.broker.forget()
                await asyncio.sleep(disaster.seconds)
                self.broker.start()

    async def _submit(self) -> None:
        """What an operator does whose command was cut off: look, and submit again if the job is not there."""
        story = self.story
        business, partner = story.parties[:2]
        while True:
            daemon = self.parties[business].daemon
            try:
                assert daemon is not None
                await daemon.started()
                if any(view.job == story.job for view in await daemon.jobs()):
                    return
                await daemon.submit(
                    story.job,
                    partner,
                    contract=story.contract,
                    blobs=story.blobs(),
                    facts=story.facts,
                    role=story.roles[business],
                )
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                if isinstance(error, Crash) and self.parties["bank"].task is not None:
                    self.parties["bank"].task.cancel()
                await asyncio.sleep(0.1)

    async def _operate(self, operator: Operator) -> None:
        """Look every second, and act when it is time; a command that was cut off is given again."""
        job, party, acted = self.story.job, self.parties[operator.who], 0
        while acted < operator.times:
            await asyncio.sleep(OPERATOR_S)
            view = await self._look(operator.who, lambda connection: jobs.view(connection, job))
            if view is None or view.progress is None or operator.stage not in (view.progress.stage, ""):
                continue
            if view.status != "running":
                return
            try:
                assert party.daemon is not None
                await operator.act(party.daemon, job)
                acted += 1
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                if isinstance(error, Crash) and party.task is not None:
                    party.task.cancel()

    async def _look(self, name: str, look: Any) -> Any:
        """What a read of a party's journal gives, or None while it is away."""
        daemon = self.parties[name].daemon
        try:
            assert daemon is not None
            return await daemon.journal.read(look)
        except Exception:
            return None

    async def _ending(self, name: str) -> End:
        await self.watcher.over(name)
        while True:
            view = await self._look(name, lambda connection: jobs.view(connection, self.story.job))
            if view is not None and view.status != "running":
                end = await self._look(name, functools.partial(self._end, name, view))
                if end is not None:
                    self._noted[name].set()
                    return end
            if self.watcher.broken:
                return BROKEN
            await asyncio.sleep(REST_S)

    def _end(self, name: str, view: JobView, connection: Connection) -> End:
        record = jobs.load(connection, self.story.job)
        daemon = self.parties[name].daemon
        assert record is not None
        assert daemon is not None
        results = tuple(daemon.blob(connection, self.story.job, ref) for ref in view.results)
        sent, received = self.watcher.spoken(name)
        phase = self.story.machines[record.role].decode(record.state).phase
        return End(view.status, view.outcome, view.reason_code, phase, results, sent, received, {})

    async def _rest(self) -> None:
        """Until nothing is left but results, tombstones and chains."""
        until = max(asyncio.get_running_loop().time(), self.schedule.quiet_from) + REST_S_MAX
        for name in self.parties:
            while not self.watcher.broken:
                if asyncio.get_running_loop().time() > until:
                    self.watcher.broke(f"{name} is not at rest {REST_S_MAX:.0f} virtual seconds after its job")
                    return
                left = await self._look(name, functools.partial(_leftovers, self.story.results))
                secrets = self.directory / name / "secrets"
                leaves = self.story.retained_s is not None and not self.watcher.archived(name)
                if left == 0 and not list(secrets.iterdir()) and not leaves:
                    break
                await asyncio.sleep(REST_S)

    async def _retain(self, name: str) -> None:
        """What `services.daemon.retaining` does with a job whose days are over, once it is noted how it ended."""
        job, party, retained_s = self.story.job, self.parties[name], self.story.retained_s
        if retained_s is None:
            return
        await self._noted[name].wait()
        while not self.watcher.archived(name):
            await asyncio.sleep(OPERATOR_S)
            before = BEGAN + asyncio.get_running_loop().time() - retained_s
            due = functools.partial(archiving.due, before=before, whole_before=before, at_once=1)
            if not await self._look(name, due):
                continue
            try:
                assert party.daemon is not None
                head = (await party.daemon.purge(job)).head
                archive = functools.partial(archiving.archive, job=job, head=head)
                await party.daemon.journal.write(lambda connection, archive=archive: archive(connection))
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                if isinstance(error, Crash) and party.task is not None:
                    party.task.cancel()

    async def _say_again(self) -> None:
        """All messages of an archived job come again, the proposal first: see `Watcher` for what must not begin."""
        if self.story.retained_s is None:
            return
        await asyncio.sleep(max(0.0, self.schedule.quiet_from - asyncio.get_running_loop().time()))
        for key, body in self.watcher.said_again():
            self.broker._publish(key, body, mandatory=False)
        until = asyncio.get_running_loop().time() + SAID_AGAIN_S
        while asyncio.get_running_loop().time() < until and not self.watcher.broken:
            await asyncio.sleep(OPERATOR_S)


def _leftovers(results: int, connection: Connection) -> int:
    """Rows that a job at rest has no use for: outbox, tasks, held messages, blobs that are no results."""
    rows = sum(len(connection.execute(select(table.c.job)).all()) for table in (outbox, tasks, held))
    return rows + max(0, len(connection.execute(select(blobs.c.job)).all()) - results)


@functools.cache
def _fresh_journal(name: str) -> bytes:
    """The file of a journal that has just been made: its tables cost as much as half a job of this size."""
    with scratch() as directory:
        path = directory / "journal.sqlite"
        made = Transactions(sqlite_url(path), name, before_commit=lambda: None, after_commit=lambda _: None)
        writing, reading = made.prepare()
        with reading, writing as connection:
            connection.connection.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        made.dispose()
        return path.read_bytes()


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory in memory where there is such a place: nothing here has to survive a power cut."""
    memory = Path("/dev/shm")
    name = tempfile.mkdtemp(prefix="warren-sim-", dir=memory if memory.is_dir() else None)
    try:
        yield Path(name)
    finally:
        shutil.rmtree(name, ignore_errors=True)


def play(schedule: Schedule, job: Story = TRAINING) -> Outcome:
    """One seed of a job from beginning to end."""
    from tests.simulation.virtual import Stalled, run

    with scratch() as directory:
        town: list[Town] = []

        async def story() -> Outcome:
            town.append(Town(directory, schedule, job))
            return await town[0].tell()

        try:
            outcome: Outcome = run(story)
        except Stalled as error:
            return Outcome(broken=[*town[0].watcher.broken, str(error)])
        return outcome
