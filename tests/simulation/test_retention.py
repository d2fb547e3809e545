"""Jobs that leave the journals but for their names, under everything that befalls the parties."""

import pytest

from tests.simulation.judging import judge, undisturbed
from tests.simulation.mutants import RETENTION_MUTANTS, planted
from tests.simulation.played import RETAINED
from tests.simulation.schedule import PARTIES, UNDISTURBED, Schedule, Strike, draw
from tests.simulation.town import play


def test_an_undisturbed_job_leaves_both_journals_and_nothing_that_is_said_of_it_again_begins_it_anew():
    """That nothing begins is looked at after every commit: see `invariants`."""
    outcome = undisturbed(RETAINED.job)
    assert outcome.broken == []
    assert {name: (end.outcome, len(end.results)) for name, end in outcome.ends.items()} == dict.fromkeys(
        PARTIES, ("done", 2)
    )
    assert RETAINED.retained_s is not None
    assert outcome.virtual_s > RETAINED.retained_s


@pytest.mark.parametrize("seed", range(3))
def test_no_seed_ends_elsewhere_or_begins_an_archived_job_anew(seed):
    verdict = judge(draw(seed), job=RETAINED)
    assert verdict.good, (verdict.broken, verdict.differing)


@pytest.mark.parametrize(
    ("who", "point", "nth"),
    [
        ("bank", "blob.synced", 82),
        ("bank", "blob.synced", 83),
        ("bureau", "blob.synced", 76),
        ("bank", "receive.after_commit", 20),
        ("bureau", "receive.before_commit", 20),
    ],
)
def test_a_party_that_dies_while_its_job_leaves_or_is_spoken_of_again_ends_where_it_would_have(who, point, nth):
    """Before its last commits, which purge and archive; and with deliveries later than any of the job."""
    verdict = judge(Schedule(seed=0, points=(Strike(who, point, nth),)), job=RETAINED)
    assert verdict.good, (verdict.broken, verdict.differing)
    assert verdict.crashes == 1


@pytest.mark.parametrize("name", RETENTION_MUTANTS)
def test_a_planted_bug_of_retention_is_caught(name):
    with planted(RETENTION_MUTANTS[name]):
        expected = play(UNDISTURBED, RETAINED)
        assert any(not judge(draw(seed), expected, RETAINED).good for seed in range(20))
