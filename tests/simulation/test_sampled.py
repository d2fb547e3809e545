"""Jobs over some rows or columns in each iteration, under everything that befalls training jobs."""

import json

import pytest

from tests.simulation.judging import judge, undisturbed
from tests.simulation.played import BLOCKS, GROWING, STOPPED, VALIDATED
from tests.simulation.schedule import Schedule, Strike, draw
from tests.simulation.town import End


def test_an_undisturbed_cross_validation_ends_with_the_same_table_at_both_parties():
    outcome = undisturbed(VALIDATED.job)
    assert outcome.broken == []
    tables = [json.loads(end.results[1])["validation"] for end in outcome.ends.values()]
    assert tables[0] == tables[1]
    assert [len(fold) for fold in tables[0]["deviances"]] == [2, 2]
    assert {name: sent(end, "parts.seed") for name, end in outcome.ends.items()} == {"bank": 1, "bureau": 1}


def test_an_undisturbed_job_in_blocks_owes_no_cross_term_for_columns_that_it_does_not_update():
    outcome = undisturbed(BLOCKS.job)
    assert outcome.broken == []
    # Seven codes in blocks of two: 0 and 1, 2 and 3, 4 and 5, 6 alone; the bank's are 0 to 3.
    assert {name: sent(end, "cross.term") for name, end in outcome.ends.items()} == {"bank": 2, "bureau": 2}
    assert {name: sent(end, "step.products") for name, end in outcome.ends.items()} == {"bank": 4, "bureau": 4}


def test_an_undisturbed_job_that_stops_early_keeps_the_same_iteration_at_both_parties():
    outcome = undisturbed(STOPPED.job)
    assert outcome.broken == []
    bank, bureau = (json.loads(end.results[1])["stopping"] for end in outcome.ends.values())
    assert bank["best"] == bureau["best"] in (2, 4)
    assert {name: sent(end, "stop.decision") for name, end in outcome.ends.items()} == {"bank": 2, "bureau": 0}
    # Two evaluations on the way, and the figures of the model that is kept.
    assert {name: sent(end, "score.partial") for name, end in outcome.ends.items()} == {"bank": 0, "bureau": 3}


def sent(end: End, kind: str) -> int:
    """How many messages of a kind a party sent."""
    return sum(len(messages) for name, messages in end.sent.items() if name.startswith(f"{kind} "))


@pytest.mark.parametrize(
    "job", [VALIDATED, BLOCKS, GROWING, STOPPED], ids=["validated", "blocks", "growing", "stopped"]
)
@pytest.mark.parametrize("seed", range(2))
def test_no_seed_ends_elsewhere_or_breaks_an_invariant(seed, job):
    verdict = judge(draw(seed), job=job)
    assert verdict.good, (verdict.broken, verdict.differing)


@pytest.mark.parametrize(
    ("who", "point", "nth"), [("bank", "task.computed", 45), ("bureau", "receive.after_commit", 25)]
)
def test_a_party_that_dies_between_evaluations_ends_where_it_would_have(who, point, nth):
    verdict = judge(Schedule(seed=1, points=(Strike(who, point, nth),)), job=STOPPED)
    assert verdict.good, (verdict.broken, verdict.differing)
    assert verdict.crashes == 1


def test_a_party_that_dies_between_the_folds_ends_where_it_would_have():
    verdict = judge(Schedule(seed=1, points=(Strike("bank", "receive.after_commit", 60),)), job=VALIDATED)
    assert verdict.good, (verdict.broken, verdict.differing)
    assert verdict.crashes == 1
