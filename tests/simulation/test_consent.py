"""A steward is asked, and decides, under everything that befalls the parties."""

import pytest

from tests.simulation.consents import (
    APPROVED,
    DECLINED,
    FORGOTTEN,
    PAUSED,
    REVOKED,
    REVOKED_OF_PARTNER,
    SCORED_ON_APPROVAL,
    WITHDRAWN,
)
from tests.simulation.judging import judge, undisturbed
from tests.simulation.played import SCORING
from tests.simulation.schedule import UNDISTURBED, Disaster, Schedule, Strike, draw
from tests.simulation.town import play

SEEDS = range(3)


def test_an_approved_job_trains_like_one_that_nobody_was_asked_about():
    outcome = undisturbed(APPROVED.job)
    assert outcome.broken == []
    assert {end.outcome for end in outcome.ends.values()} == {"done"}
    assert "job.pending for bank" in outcome.ends["bureau"].sent


def test_a_declined_job_ends_at_both_and_nothing_but_the_question_and_the_answer_has_left():
    outcome = undisturbed(DECLINED.job)
    assert outcome.broken == []
    assert {(end.outcome, end.reason_code) for end in outcome.ends.values()} == {("declined", "steward_declined")}
    assert set(outcome.ends["bureau"].sent) == {"job.pending for bank", "job.decline for bank"}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("story", [APPROVED, DECLINED], ids=["approved", "declined"])
def test_a_decision_is_taken_once_and_ends_where_it_would_have_whatever_happens(story, seed):
    verdict = judge(draw(seed), job=story)
    assert verdict.good, (verdict.broken, verdict.differing)


@pytest.mark.parametrize("point", ["task.committed", "receive.after_commit", "relay.before_publish"])
def test_a_provider_that_dies_while_its_steward_is_asked_is_asked_again_and_goes_on(point):
    verdict = judge(
        Schedule(seed=1, points=(Strike("bureau", point, 1),), disasters=(Disaster(2.5, "kill", "bureau"),)),
        job=APPROVED,
    )
    assert verdict.good, (verdict.broken, verdict.differing)
    assert verdict.crashes == 2


@pytest.mark.parametrize("seed", SEEDS)
def test_a_contract_that_expires_while_it_waits_is_over_at_both(seed):
    outcome = play(draw(seed) if seed else UNDISTURBED, FORGOTTEN)
    assert outcome.broken == []
    # The later of both hears of it from the other.
    assert {end.reason_code for end in outcome.ends.values()} == {"expired"}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_business_that_no_longer_wants_to_wait_ends_the_job_at_both(seed):
    outcome = play(draw(seed) if seed else UNDISTURBED, WITHDRAWN)
    assert outcome.broken == []
    assert {end.outcome for end in outcome.ends.values()} == {"cancelled"}


def test_a_scoring_job_waits_for_its_approval_and_tells_the_same_scores_then():
    outcome, automatic = play(UNDISTURBED, SCORED_ON_APPROVAL), undisturbed(SCORING.job)
    assert outcome.broken == []
    assert outcome.ends["bank"].results == automatic.ends["bank"].results
    assert "job.pending for bank" in outcome.ends["bureau"].sent


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("story", [REVOKED, REVOKED_OF_PARTNER], ids=["job", "partner"])
def test_a_revoked_job_is_over_at_both_with_that_reason_whatever_happens(story, seed):
    outcome = play(draw(seed) if seed else UNDISTURBED, story)
    assert outcome.broken == []
    assert {(end.outcome, end.reason_code) for end in outcome.ends.values()} == {("failed", "revoked")}


def test_a_provider_that_dies_around_a_revocation_of_a_partner_still_ends_its_jobs():
    outcome = play(
        Schedule(seed=1, disasters=tuple(Disaster(at, "kill", "bureau") for at in (2.0, 3.0, 4.0, 5.0))),
        REVOKED_OF_PARTNER,
    )
    assert outcome.broken == []
    assert {end.reason_code for end in outcome.ends.values()} == {"revoked"}


@pytest.mark.parametrize("seed", range(4))
def test_a_job_that_is_paused_again_and_again_by_either_side_ends_where_it_would_have(seed):
    verdict = judge(draw(seed) if seed else UNDISTURBED, undisturbed(), PAUSED)
    assert verdict.good, (verdict.broken, verdict.differing)
