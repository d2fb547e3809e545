"""Jobs of three and four parties under everything that befalls two."""

import msgspec
import pytest

from protocol.state import Phase
from tests.services import mesh
from tests.simulation.chained import THREE_PROVIDERS
from tests.simulation.judging import judge, undisturbed
from tests.simulation.meshes import CHAIN, MESH
from tests.simulation.schedule import draw

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
