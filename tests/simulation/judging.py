"""One run against the undisturbed one."""

import functools
from dataclasses import dataclass, fields

from tests.simulation.chained import (
    SEVERAL_BLOCKS,
    SEVERAL_CLASSES,
    SEVERAL_STOPPED,
    SEVERAL_VALIDATED,
    SEVERAL_WEIGHTED,
    THREE_PROVIDERS,
    TWO_PROVIDERS,
)
from tests.simulation.consents import APPROVED, DECLINED
from tests.simulation.meshes import CHAIN, MESH
from tests.simulation.played import (
    BLOCKS,
    GROWING,
    LOOKUPS,
    RETAINED,
    SCORING,
    STATISTICS,
    STOPPED,
    TRAINING,
    VALIDATED,
    WHOLE,
    Story,
)
from tests.simulation.schedule import UNDISTURBED, Schedule
from tests.simulation.town import End, Outcome, play

JOBS = {
    "training": TRAINING,
    "statistics": STATISTICS,
    "validated": VALIDATED,
    "blocks": BLOCKS,
    "growing": GROWING,
    "stopped": STOPPED,
    "retained": RETAINED,
    "whole": WHOLE,
    "scoring": SCORING,
    "lookups": LOOKUPS,
    "approved": APPROVED,
    "declined": DECLINED,
    "mesh": MESH,
    "chain": CHAIN,
    "two-providers": TWO_PROVIDERS,
    "three-providers": THREE_PROVIDERS,
    "several-validated": SEVERAL_VALIDATED,
    "several-blocks": SEVERAL_BLOCKS,
    "several-stopped": SEVERAL_STOPPED,
    "several-classes": SEVERAL_CLASSES,
    "several-weighted": SEVERAL_WEIGHTED,
}
_BY_IDENTIFIER = {job.job: job for job in JOBS.values()}


@dataclass(frozen=True)
class Verdict:
    """What a schedule has done: broken invariants, and where the end differs from the undisturbed run's."""

    schedule: Schedule
    broken: tuple[str, ...]
    differing: tuple[str, ...]
    virtual_s: float
    crashes: int

    @property
    def good(self) -> bool:
        """Whether nothing happened but time."""
        return not self.broken and not self.differing


@functools.cache
def undisturbed(job: str = TRAINING.job) -> Outcome:
    """The run of a job that nothing befell."""
    return play(UNDISTURBED, _BY_IDENTIFIER[job])


def judge(schedule: Schedule, expected: Outcome | None = None, job: Story = TRAINING) -> Verdict:
    """Play a schedule and compare."""
    outcome, expected = play(schedule, job), expected or undisturbed(job.job)
    return Verdict(
        schedule=schedule,
        broken=tuple([*expected.broken, *outcome.broken]),
        differing=tuple(_differences(expected, outcome)),
        virtual_s=outcome.virtual_s,
        crashes=outcome.crashes,
    )


def _differences(expected: Outcome, outcome: Outcome) -> list[str]:
    found = []
    for name, wanted in expected.ends.items():
        end = outcome.ends.get(name)
        if end is None:
            found.append(f"{name}: the job did not end")
        else:
            found += [f"{name}: {what}" for what in _fields(wanted, end)]
    return found


def _fields(wanted: End, end: End) -> list[str]:
    found = []
    for item in fields(End):
        one, other = getattr(wanted, item.name), getattr(end, item.name)
        if one == other:
            continue
        if isinstance(one, dict):
            kinds = [kind for kind in sorted({*one, *other}) if one.get(kind) != other.get(kind)]
            found.append(f"{item.name} differs in {', '.join(kinds)}")
        elif isinstance(one, tuple):
            found.append(f"{item.name} differ")
        else:
            found.append(f"{item.name} is {other!r}, not {one!r}")
    return found
