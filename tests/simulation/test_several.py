"""Jobs of three and four parties under everything that befalls two."""

import json

import msgspec
import pytest

from protocol.state import Phase
from tests.services import mesh
from tests.simulation.chained import (
    SEVERAL_BLOCKS,
    SEVERAL_CLASSES,
    SEVERAL_STOPPED,
    SEVERAL_VALIDATED,
    SEVERAL_WEIGHTED,
    THREE_PROVIDERS,
)
from tests.simulation.judging import judge, undisturbed
from tests.simulation.meshes import CHAIN, MESH
from tests.simulation.schedule import Schedule, Strike, draw
from tests.simulation.test_sampled import sent

SEEDS = {"mesh": (MESH, 6), "chain": (CHAIN, 4), "three providers": (THREE_PROVIDERS, 4)}


@pytest.mark.parametrize("job", [MESH, CHAIN], ids=["mesh", "chain"])
def test_an_undisturbed_job_gives_every_party_what_was_to_come_of_it(job):
    outcome = undisturbed(job.job)
    assert outcome.broken == []
    expected = mesh.expected(msgspec.msgpack.decode(job.contract, type=mesh.Plan))
    assert {(end.outcome, end.results) for end in outcome.ends.values()} == {("done", (expected,))}


def test_a_real_job_of_three_providers_is_done_at_all_parties_and_each_sees_only_what_it_is_granted():
    """The grants are checked at every commit: see `invariants`."""
    outcome = undisturbed(THREE_PROVIDERS.job)
    assert outcome.broken == []
    assert {(end.outcome, end.phase, len(end.results)) for end in outcome.ends.values()} == {("done", Phase.DONE, 2)}
    assert len(outcome.ends) == 4


@pytest.mark.parametrize("name", SEEDS)
def test_no_seed_ends_elsewhere_or_breaks_an_invariant(name):
    job, count = SEEDS[name]
    verdicts = [judge(draw(seed, job.parties), job=job) for seed in range(count)]
    assert [(v.schedule.seed, v.broken, v.differing) for v in verdicts if not v.good] == []


def test_parts_and_folds_of_several_are_the_same_at_all_and_each_shows_its_seed_to_each():
    outcome = undisturbed(SEVERAL_VALIDATED.job)
    assert outcome.broken == []
    tables = [json.loads(end.results[1])["validation"] for end in outcome.ends.values()]
    assert tables == [tables[0]] * 3
    assert {name: sent(end, "parts.seed") for name, end in outcome.ends.items()} == dict.fromkeys(outcome.ends, 2)
    assert {name: sent(end, "score.partial") for name, end in outcome.ends.items()} == {
        "bank": 0,
        "bureau": 1,
        "carrier": 1,
    }


def test_a_job_of_several_that_stops_early_keeps_the_same_iteration_at_all_parties():
    outcome = undisturbed(SEVERAL_STOPPED.job)
    assert outcome.broken == []
    notes = [json.loads(end.results[1])["stopping"] for end in outcome.ends.values()]
    assert len({note["best"] for note in notes}) == 1
    assert {name: sent(end, "stop.decision") for name, end in outcome.ends.items() if name == "bank"} == {"bank": 3 * 2}
    told = {name: sent(end, "score.partial") for name, end in outcome.ends.items()}
    assert told == {"bank": 0, "bureau": 2, "carrier": 2, "dealer": 2}


def test_classes_of_several_share_their_messages_and_every_class_has_figures_at_the_bank_alone():
    outcome = undisturbed(SEVERAL_CLASSES.job)
    assert outcome.broken == []
    ends = outcome.ends
    assert {name: (end.outcome, len(end.results)) for name, end in ends.items()} == {
        "bank": ("done", 4),
        "bureau": ("done", 2),
        "carrier": ("done", 2),
    }
    assert [len(json.loads(end.results[0])["classes"]) for end in ends.values()] == [3, 3, 3]
    # Two iterations of all three classes: the carrier is the last of the chain, the bureau holds no share.
    assert {name: sent(end, "cross.term") for name, end in ends.items()} == {"bank": 4, "bureau": 0, "carrier": 4}
    assert {name: sent(end, "step.masked") for name, end in ends.items()} == dict.fromkeys(ends, 4)
    assert {name: sent(end, "intercept.part") for name, end in ends.items()} == {"bank": 0, "bureau": 1, "carrier": 1}
    assert {name: sent(end, "score.partial") for name, end in ends.items()} == {"bank": 0, "bureau": 1, "carrier": 1}


@pytest.mark.parametrize(
    ("who", "point", "nth"),
    [
        ("bank", "receive.after_commit", 34),
        ("bank", "finish.committed", 1),
        ("bureau", "task.computed", 21),
        ("carrier", "task.computed", 21),
        ("carrier", "receive.after_commit", 13),
    ],
)
def test_a_party_that_dies_among_classes_ends_where_it_would_have(who, point, nth):
    verdict = judge(Schedule(seed=1, points=(Strike(who, point, nth),)), job=SEVERAL_CLASSES)
    assert verdict.good, (verdict.broken, verdict.differing)
    assert verdict.crashes == 1


@pytest.mark.parametrize("seed", range(3))
def test_no_seed_of_a_job_of_classes_ends_elsewhere_or_breaks_an_invariant(seed):
    verdict = judge(draw(seed, SEVERAL_CLASSES.parties), job=SEVERAL_CLASSES)
    assert verdict.good, (verdict.broken, verdict.differing)


@pytest.mark.parametrize(
    "job",
    [SEVERAL_VALIDATED, SEVERAL_BLOCKS, SEVERAL_STOPPED, SEVERAL_WEIGHTED],
    ids=["validated", "blocks", "stopped", "weighted"],
)
def test_no_seed_of_a_job_over_parts_or_blocks_ends_elsewhere_or_breaks_an_invariant(job):
    verdict = judge(draw(1, job.parties), job=job)
    assert verdict.good, (verdict.broken, verdict.differing)
