"""Whatever the broker does and whoever dies, both parties end where nothing would have happened."""

import os

import pytest

from services.store.crash import CRASH_POINTS
from tests.simulation.judging import judge, undisturbed
from tests.simulation.mutants import MUTANTS, planted
from tests.simulation.schedule import PARTIES, UNDISTURBED, Schedule, Strike, draw
from tests.simulation.stories import STORIES, load
from tests.simulation.town import play

SEEDS = int(os.environ.get("SEEDS", "200"))
BATCH = 10


def test_an_undisturbed_job_is_done_at_both_parties_and_breaks_nothing():
    outcome = undisturbed()
    assert outcome.broken == []
    assert {name: (end.outcome, end.phase, len(end.results)) for name, end in outcome.ends.items()} == {
        name: ("done", "done", 2) for name in PARTIES
    }


def test_a_seed_is_the_same_story_every_time():
    schedule = draw(0)
    assert schedule.disasters
    assert schedule.points
    first, second = play(schedule), play(schedule)
    assert first.trace == second.trace
    assert (first.ends, first.virtual_s, first.crashes) == (second.ends, second.virtual_s, second.crashes)


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_no_seed_ends_elsewhere_or_breaks_an_invariant(first):
    verdicts = [judge(draw(seed)) for seed in range(first, min(first + BATCH, SEEDS))]
    assert [(v.schedule.seed, v.broken, v.differing) for v in verdicts if not v.good] == []


@pytest.mark.parametrize("who", PARTIES)
@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_party_that_dies_at_any_point_ends_where_it_would_have(point, who):
    nth = 1 if point.startswith(("submit.", "finish.")) else 3
    verdict = judge(Schedule(seed=1, points=(Strike(who, point, nth),)))
    assert verdict.good, (verdict.broken, verdict.differing)
    assert verdict.crashes == (0 if point.startswith("submit.") and who == "bureau" else 1)


@pytest.mark.parametrize("path", sorted(STORIES.glob("*.json")), ids=lambda path: path.stem)
def test_a_kept_story_ends_well(path):
    verdict = judge(load(path))
    assert verdict.good, (verdict.broken, verdict.differing)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_caught_within_200_seeds(name):
    with planted(MUTANTS[name]):
        expected = play(UNDISTURBED)
        # A seed counts only if the bug was not there to be seen without any misfortune, or is seen again in it.
        assert any(not judge(draw(seed), expected).good for seed in range(200))
