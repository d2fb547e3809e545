"""Standard errors and figures at the end of a training job, under everything that befalls training jobs."""

import json

import pytest

from tests.simulation.judging import judge, undisturbed
from tests.simulation.played import STATISTICS, WHOLE
from tests.simulation.schedule import Schedule, Strike, draw


def test_an_undisturbed_job_ends_with_errors_at_both_parties_and_figures_at_the_business():
    outcome = undisturbed(STATISTICS.job)
    assert outcome.broken == []
    assert {name: (end.outcome, end.phase, len(end.results)) for name, end in outcome.ends.items()} == {
        "bank": ("done", "done", 5),
        "bureau": ("done", "done", 3),
    }
    named = {
        name: [one["name"] for one in json.loads(end.results[2])["coefficients"]] for name, end in outcome.ends.items()
    }
    assert named["bank"][1:] == ["income", "age", "balance"]
    assert named["bureau"] == ["limit", "loans", "delays"]
    assert json.loads(outcome.ends["bank"].results[3])["parts"]["training"]["rows"] == 60


@pytest.mark.parametrize("seed", range(3))
def test_no_seed_ends_elsewhere_or_breaks_an_invariant(seed):
    verdict = judge(draw(seed), job=STATISTICS)
    assert verdict.good, (verdict.broken, verdict.differing)


@pytest.mark.parametrize(
    ("who", "point", "nth"), [("bank", "receive.after_commit", 40), ("bureau", "task.computed", 60)]
)
def test_a_party_that_dies_in_the_stages_after_training_ends_where_it_would_have(who, point, nth):
    verdict = judge(Schedule(seed=1, points=(Strike(who, point, nth),)), job=STATISTICS)
    assert verdict.good, (verdict.broken, verdict.differing)
    assert verdict.crashes == 1


@pytest.mark.parametrize(
    ("who", "point", "nth"), [("bank", "receive.after_commit", 15), ("bureau", "relay.before_publish", 15)]
)
def test_a_party_that_dies_when_the_whole_model_is_handed_over_ends_where_it_would_have(who, point, nth):
    verdict = judge(Schedule(seed=1, points=(Strike(who, point, nth),)), job=WHOLE)
    assert verdict.good, (verdict.broken, verdict.differing)
    assert verdict.crashes == 1
