"""Rounds of faults: which fault meets which stage, what came of it, and whether the model is the undisturbed one."""

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from broker.installation import PrivateBrokerError
from services.daemon.control import ControlError
from services.daemon.local import NAMES
from services.daemon.verbs import read_results
from services.store import chain
from tests.chaos.disk import Disks
from tests.chaos.faults import FAULTS, Fault, Scene
from tests.chaos.proofs import contradictions
from tests.chaos.scoring import quiet_and_stormy
from tests.chaos.stages import RECURRING, STOPPING, Stage, hold, release, stage_at
from tests.endurance.town import JOB, Town
from tests.parties import within

IDENTICAL, DIFFERENT, LOST = "identical", "different", "lost"
JOB_TIMEOUT_S: Final = 300.0
RECOVERY_TIMEOUT_S: Final = 240.0
WRITTEN_TIMEOUT_S: Final = 60.0
JOBS_PER_ROUND_MAX: Final = 12


@dataclass(frozen=True, slots=True)
class Cell:
    """A fault in a stage."""

    fault: Fault
    stage: Stage


@dataclass(slots=True)
class Incident:
    """A fault that happened.

    Attributes:
        stage: that of the party it was about, read from its journal once the fault had begun.
        waiting: messages that the broker had, or was about to get, when it went.
        event_s: from the end of the fault to the next event that either party committed.
        message_s: the same to the next message of the partner that either party committed.
        outcome: IDENTICAL, DIFFERENT or LOST, once the job is over.

    """

    round: int
    fault: str
    stage: str
    role: str
    job: str
    iteration: int
    note: str
    waiting: int
    event_s: float
    message_s: float
    outcome: str = ""


@dataclass(slots=True)
class Results:
    """Everything that happened."""

    incidents: list[Incident] = field(default_factory=list)
    rounds: int = 0
    jobs: int = 0
    lost: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)

    def count(self, fault: str, stage: str) -> int:
        """How often a fault happened in a stage."""
        return sum((each.fault, each.stage) == (fault, stage) for each in self.incidents)

    @property
    def empty_cells(self) -> list[str]:
        """Faults and stages that never came together."""
        return [f"{fault.name} in {stage}" for fault in FAULTS for stage in Stage if not self.count(fault.name, stage)]


Tell = Callable[[str], None]


def plan(rounds: int, chance: random.Random) -> list[list[Cell]]:
    """The cells of each round: every fault in every stage at least once over all rounds, each stage at least once
    in every round."""
    per_stage = math.ceil(len(FAULTS) / rounds)
    wanted: list[list[Cell]] = [[] for _ in range(rounds)]
    for stage in Stage:
        faults = chance.sample(FAULTS, len(FAULTS))
        faults += chance.choices(FAULTS, k=max(0, rounds * per_stage - len(faults)))
        for number, cells in enumerate(wanted):
            cells += [Cell(fault, stage) for fault in faults[number::rounds]]
    return wanted


class Storm:
    """Carries out rounds in a town whose daemons run."""

    def __init__(
        self,
        town: Town,
        disks: Disks,
        expected: Mapping[str, bytes],
        chance: random.Random,
        results: Results,
        tell: Tell,
    ) -> None:
        self.results = results
        self._town = town
        self._disks = disks
        self._expected = expected
        self._chance = chance
        self._tell = tell

    def round(self, cells: Sequence[Cell]) -> None:
        """Jobs, one after another, until every cell has been met; each cell's job to its end."""
        self.results.rounds += 1
        missing = list(cells)
        for _ in range(JOBS_PER_ROUND_MAX):
            if not missing:
                break
            for cell in self._one_job(missing):
                missing.remove(cell)
        if self.results.rounds == 1:
            self._score()

    def _score(self) -> None:
        """Score by the last model, once in peace and once in the storm."""
        self._mend()
        model = self._town.job
        try:
            quiet, stormy = quiet_and_stormy(self._town, model, self._chance)
        except (AssertionError, ControlError, TimeoutError, PrivateBrokerError) as error:
            self._lose(self._town.job, f"{type(error).__name__}: {error}")
            return
        self.results.jobs += 2
        if quiet != stormy:
            self.results.different.append(self._town.job)
        verdict = "are the same" if quiet == stormy else "differ"
        self._tell(f"scored by {model} with two deaths and two lines cut: the scores {verdict}")

    def _one_job(self, missing: Sequence[Cell]) -> list[Cell]:
        """A job with at most one fault in each stage; returns the cells that it met."""
        self._mend()
        stopping = any(cell.stage is Stage.EVALUATE for cell in missing)
        job = self._town.submit(**(STOPPING if stopping else {}))
        self.results.jobs += 1
        incidents: list[Incident] = []
        met = []
        # Not the last: what is missed in one iteration can still be met in the next.
        iteration = self._chance.randint(1, JOB["max_iterations"] - 1)
        try:
            for stage in Stage:
                cell = next((each for each in missing if each.stage is stage), None)
                incident = None if cell is None else self._strike(cell, iteration)
                if cell is not None and incident is not None:
                    incidents.append(incident)
                    met += [cell] if incident.stage == stage else []
            outcome = self._outcome(job, stopping=stopping)
        except (AssertionError, ControlError, TimeoutError, PrivateBrokerError) as error:
            outcome = self._lose(job, f"{type(error).__name__}: {error}")
        for incident in incidents:
            incident.outcome = outcome
        return met

    def _lose(self, job: str, why: str) -> str:
        self.results.lost.append(f"{job}: {why}")
        self._tell(f"job {job} is lost: {why}")
        return LOST

    def _mend(self) -> None:
        """Whatever the job before has left: one failure shall not be counted twice."""
        town = self._town
        for role in NAMES:
            town.uplinks[role].flow()
            self._disks[role].make_room()
            if town.processes[role].poll() is not None:
                self._lose(town.job, f"the daemon of {role} has ended by itself")
                town.start(role)
            town.resume(role)
        release(town)
        if not town.broker.running:
            town.broker.start()

    def _strike(self, cell: Cell, iteration: int) -> Incident | None:
        town, fault = self._town, cell.fault
        scene = Scene(town, self._disks, self._chance, self._chance.choice(fault.roles))
        if not hold(town, scene.role, cell.stage, iteration if cell.stage in RECURRING else 0):
            return None
        fault.begin(scene)
        found = town.state(scene.role)
        stage = stage_at(town, scene.role)
        fault.end(scene)
        ended = time.time()
        event_s, message_s = self._recovery(ended)
        incident = Incident(
            round=self.results.rounds,
            fault=fault.name,
            stage=stage or "between stages",
            role=scene.role,
            job=town.job,
            iteration=found[0].iteration if found else 0,
            note=scene.note,
            waiting=scene.waiting,
            event_s=event_s,
            message_s=message_s,
        )
        self.results.incidents.append(incident)
        self._tell(
            f"{fault.name} ({scene.role}) in {incident.stage}"
            + (f" of iteration {incident.iteration}" if incident.iteration else "")
            + f": next event after {event_s:.2f} s, next message after {message_s:.2f} s"
            + (f" [{scene.note}]" if scene.note else "")
        )
        return incident

    def _recovery(self, ended: float) -> tuple[float, float]:
        """Seconds from `ended` to the next event and the next message that either party committed."""

        def after(kinds: str) -> float | None:
            statement = f"SELECT min(at) FROM events WHERE job = ? AND at >= ? AND {kinds}"
            times = [row[0] for role in NAMES for row in self._town.query(role, statement, self._town.job, ended)]
            found = [at for at in times if at is not None]
            return min(found) - ended if found else None

        received = f"kind = '{chain.RECEIVED}'"
        found = within(RECOVERY_TIMEOUT_S, lambda: after(received))
        return after("1") or math.inf, math.inf if found is None else found

    def _outcome(self, job: str, *, stopping: bool) -> str:
        """Wait for a job's end and judge it."""
        within(JOB_TIMEOUT_S, lambda: all(self._town.over(role) for role in NAMES))
        views = {role: self._view(role, job) for role in NAMES}
        if not all(view and view["outcome"] == "done" and view["results"] for view in views.values()):
            return self._lose(job, f"the parties say {views}")
        if stopping:
            wrong = contradictions(self._town.parties, job)
        else:
            same = {role: read_results(Path(views[role]["results"]))[0] == self._expected[role] for role in NAMES}
            wrong = [f"the model of {role}" for role in NAMES if not same[role]]
        if wrong:
            self.results.different.append(job)
            self._tell(f"job {job} has another model: {'; '.join(wrong)}")
            return DIFFERENT
        return IDENTICAL

    def _view(self, role: str, job: str) -> dict[str, Any]:
        """A job as its party shows it, once its results are written; empty when nobody answers."""
        view: dict[str, Any] = {}

        def written() -> bool:
            nonlocal view
            with self._town.console(role) as console:
                view = console.ask("job", id=job)
            return view["outcome"] != "done" or bool(view["results"])

        with suppress(ControlError):
            within(WRITTEN_TIMEOUT_S, written)
        return view
