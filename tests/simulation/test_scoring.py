"""Scoring jobs under everything that befalls training jobs."""

import numpy as np
import polars as pl
import pytest

from services.store.crash import CRASH_POINTS
from tests.simulation.judging import judge, undisturbed
from tests.simulation.played import LOOKUPS, SCORED, SCORING
from tests.simulation.schedule import PARTIES, Schedule, Strike, draw
from tests.simulation.town import play

BATCH = 5


def test_an_undisturbed_job_scores_what_both_have_and_names_the_rest():
    outcome = undisturbed(SCORING.job)
    assert outcome.broken == []
    assert {name: (end.outcome, end.phase) for name, end in outcome.ends.items()} == dict.fromkeys(
        PARTIES, ("done", "done")
    )
    scores, rest = (pl.read_csv(data) for data in outcome.ends["bank"].results)
    assert rest["id"].to_list() == ["stranger-1", "stranger-2"]
    assert scores.height == SCORED - 2
    own = np.linspace(-2.0, 2.0, SCORED)[: SCORED - 2]
    partial = scores["score"].to_numpy() - own
    assert np.allclose(partial, np.round(partial, 3))
    assert partial.std() > 0.1
    assert outcome.ends["bureau"].results == ()


def test_a_job_that_answers_lookups_sends_no_score_and_ends_when_its_contract_does():
    outcome = undisturbed(LOOKUPS.job)
    assert outcome.broken == []
    assert {end.outcome for end in outcome.ends.values()} == {"expired"}
    assert not any("score.partial" in kind for end in outcome.ends.values() for kind in end.sent)


@pytest.mark.parametrize("first", range(0, 10, BATCH))
def test_no_seed_ends_elsewhere_or_breaks_an_invariant(first):
    verdicts = [judge(draw(seed), job=SCORING) for seed in range(first, first + BATCH)]
    assert [(v.schedule.seed, v.broken, v.differing) for v in verdicts if not v.good] == []


def test_a_job_that_answers_lookups_breaks_no_invariant_and_ends_by_its_expiry_whatever_happens():
    for seed in range(10):
        outcome = play(draw(seed), LOOKUPS)
        assert outcome.broken == [], seed
        # The later of both hears of it from the other.
        assert {end.reason_code for end in outcome.ends.values()} == {"expired"}, seed


@pytest.mark.parametrize("who", PARTIES)
@pytest.mark.parametrize("point", sorted(set(CRASH_POINTS) - {point for point in CRASH_POINTS if "submit." in point}))
def test_a_party_that_dies_at_any_point_ends_where_it_would_have(point, who):
    nth = 1 if point.startswith("finish.") else 3
    verdict = judge(Schedule(seed=1, points=(Strike(who, point, nth),)), job=SCORING)
    assert verdict.good, (verdict.broken, verdict.differing)
