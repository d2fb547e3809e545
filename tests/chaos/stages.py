"""The stages of a job that faults are struck into, read from a party's journal, and a way to stop a job in one."""

import time
from enum import StrEnum
from typing import Any, Final

from protocol.state import JobState, Phase
from services.daemon.local import NAMES
from tests.endurance.town import Town
from tests.parties import PATIENCE_S, POLL_S

HOLD_TIMEOUT_S: Final = PATIENCE_S


class Stage(StrEnum):
    """In the order of a job; the last three come in every iteration, the last only in jobs that may stop early."""

    ALIGN = "align"
    FEATURES = "features"
    TERMS = "terms in flight"
    CROSS = "cross terms"
    EVALUATE = "evaluation"


STOPPING: Final[dict[str, Any]] = {
    "validation": 0.25,
    "stop_metric": "log_loss",
    "stop_every": 1,
    "patience": 2,
    "stop_evaluations_max": 3,
    "retention": "full",
}
"""What a job says besides that is to come to the last stage, and to be judged by `proofs`."""

_ONCE: Final = (Stage.ALIGN, Stage.FEATURES)
RECURRING: Final = (Stage.TERMS, Stage.CROSS, Stage.EVALUATE)
_BEFORE_TRAINING: Final = frozenset(
    {Phase.NEW, Phase.PROPOSED, Phase.ADMITTING, Phase.ALIGNING, Phase.CODING, Phase.ENCRYPTING}
)


def stage_of(state: JobState) -> Stage | None:
    """The stage of a job's state, if it is one of them."""
    match state.phase:
        case Phase.ALIGNING:
            return Stage.ALIGN
        case Phase.CODING | Phase.ENCRYPTING:
            return Stage.FEATURES
        case Phase.LINKING:
            part = state.round
            begun = part.evaluated > 0 or part.chunks_computed > 0
            return Stage.TERMS if begun and part.evaluated < part.chunks else None
        case Phase.CROSSING | Phase.STEPPING:
            return Stage.CROSS
        case Phase.EVALUATING:
            return Stage.EVALUATE
        case _:
            return None


def stage_at(town: Town, role: str) -> Stage | None:
    """The stage of the town's job in a party's journal."""
    found = town.state(role)
    return None if found is None else stage_of(found[0])


def _gone_by(town: Town, role: str, stage: Stage) -> bool:
    found = town.state(role)
    if found is None:
        return False
    return town.over(role) or (stage in _ONCE and found[0].phase not in _BEFORE_TRAINING)


def hold(town: Town, role: str, stage: Stage, iteration: int) -> bool:
    """Stop both parties' workers with `role` in `stage` (of iteration `iteration` or later).

    For terms in flight the partner has work left in the same iteration: see `Town.in_the_middle`.
    False when the job had passed it: then nothing is stopped.
    """

    def there() -> bool:
        found = town.state(role)
        if found is None or stage_of(found[0]) is not stage or found[0].iteration < iteration:
            return False
        return stage is not Stage.TERMS or town.in_the_middle(role)

    deadline = time.monotonic() + HOLD_TIMEOUT_S
    while time.monotonic() < deadline:
        if there():
            for each in NAMES:
                town.freeze(each)
            if there():
                return True
            release(town)
        elif _gone_by(town, role, stage):
            return False
        else:
            time.sleep(POLL_S)
    raise TimeoutError(f"{role} did not reach the stage {stage} within {HOLD_TIMEOUT_S:.0f} s")


def release(town: Town) -> None:
    """Let both parties' workers go on."""
    for each in NAMES:
        town.thaw(each)
