"""Every kind of message is in a golden log, in a story of the simulation, and among faults; a new one has to be."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from messages.codec import MESSAGES, kind_of
from messages.envelope import read_header
from messages.unsequenced import UNSEQUENCED
from protocol.state import BUSINESS, PROVIDER, Phase
from protocol.table import row_of
from tests.audit.forging import frames_of
from tests.chaos.stages import stage_of
from tests.replay.record import LOGS
from tests.simulation.chained import SEVERAL_STOPPED, THREE_PROVIDERS
from tests.simulation.consents import APPROVED, DECLINED, PAUSED, REVOKED, WITHDRAWN
from tests.simulation.judging import undisturbed
from tests.simulation.played import LOOKUPS, STATISTICS, STOPPED, TRAINING, WHOLE
from tests.simulation.schedule import UNDISTURBED, draw
from tests.simulation.town import play

KINDS: Final = frozenset(map(kind_of, MESSAGES))
OF_A_JOB: Final = KINDS - UNSEQUENCED
"""Those that are events of a journal: the only ones that a log has."""

NO_STORY: Final = {
    "peer.probe": ("services/test_relay.py", "test_a_probe_is_answered_by_the_partner"),
    "peer.answer": ("services/test_relay.py", "test_a_probe_is_answered_by_the_partner"),
    "score.ask": (
        "models/test_lookups.py",
        "test_every_common_row_is_looked_up_to_the_score_of_both_halves_without_an_entry",
    ),
    "score.answer": ("models/test_lookups.py", "test_both_daemons_go_on_answering_after_a_restart"),
    "job.frozen": (
        "services/test_journal_guards.py",
        "test_a_job_ends_here_with_the_reason_when_the_partner_has_frozen_it",
    ),
}
"""Kinds that no story has: no event of a journal depends on them. Where they are said instead."""

NO_STAGE: Final = {
    "job.propose": ("simulation/test_seeds.py", "test_a_party_that_dies_at_any_point_ends_where_it_would_have"),
    "job.accept": ("simulation/test_seeds.py", "test_a_party_that_dies_at_any_point_ends_where_it_would_have"),
    "job.pending": (
        "simulation/test_consent.py",
        "test_a_provider_that_dies_while_its_steward_is_asked_is_asked_again_and_goes_on",
    ),
    "job.decline": (
        "simulation/test_consent.py",
        "test_a_decision_is_taken_once_and_ends_where_it_would_have_whatever_happens",
    ),
    "job.cancel": ("simulation/test_consent.py", "test_a_business_that_no_longer_wants_to_wait_ends_the_job_at_both"),
    "job.failed": (
        "simulation/test_consent.py",
        "test_a_provider_that_dies_around_a_revocation_of_a_partner_still_ends_its_jobs",
    ),
    "curvature.block": (
        "simulation/test_statistics.py",
        "test_a_party_that_dies_in_the_stages_after_training_ends_where_it_would_have",
    ),
    "model.part": (
        "simulation/test_statistics.py",
        "test_a_party_that_dies_when_the_whole_model_is_handed_over_ends_where_it_would_have",
    ),
    "score.ready": (
        "simulation/test_scoring.py",
        "test_a_job_that_answers_lookups_breaks_no_invariant_and_ends_by_its_expiry_whatever_happens",
    ),
}
"""Kinds that are said outside all stages of `make chaos`, or in none of its jobs: where parties die around them."""

STORIES: Final = (TRAINING, STATISTICS, SEVERAL_STOPPED, WHOLE, LOOKUPS, DECLINED, APPROVED)
MEDDLED: Final = (WITHDRAWN, REVOKED, PAUSED)
STORMY: Final = (TRAINING, STOPPED, THREE_PROVIDERS)
"""Stories of the jobs of `make chaos`: two parties, a loop that may stop early, several providers."""


def struck() -> set[str]:
    """Kinds of the jobs of `make chaos` that a party takes in a stage in which faults are struck."""
    spoken = {kind for story in STORMY for kind in undisturbed(story.job).kinds}
    begun = SimpleNamespace(evaluated=1, chunks_computed=1, chunks=2)
    found = set()
    for role in (BUSINESS, PROVIDER):
        for phase in Phase:
            state: Any = SimpleNamespace(phase=phase, round=begun)
            if stage_of(state) is not None:
                labels = (label.partition(":") for label in row_of(role, phase))
                found |= {kind for source, _, kind in labels if source in ("control", "bulk")}
    return found & spoken


def test_every_kind_of_a_job_is_in_a_golden_log() -> None:
    recorded = {
        read_header(entry.header).kind
        for path in LOGS.glob("*.partner")
        for entry in frames_of(path)[1]
        if entry.header
    }
    assert OF_A_JOB - recorded == set()


def test_every_kind_is_in_a_story_of_the_simulation() -> None:
    told = set(play(draw(0)).kinds)
    for story in STORIES:
        told |= undisturbed(story.job).kinds
    for story in MEDDLED:
        told |= play(UNDISTURBED, story).kinds
    assert KINDS - told == set(NO_STORY)


def test_every_kind_of_a_job_is_taken_in_a_stage_in_which_processes_are_killed() -> None:
    assert OF_A_JOB - struck() == set(NO_STAGE)


@pytest.mark.parametrize(("file", "name"), sorted({*NO_STORY.values(), *NO_STAGE.values()}))
def test_where_another_test_stands_in_there_is_one(file: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (Path(__file__).parents[1] / file).read_text(), re.MULTILINE)
