"""Whole engines under seeded misfortune: messages lost, repeated, reordered, corrupted, daemons killed."""

import asyncio
import os
from dataclasses import replace

import pytest

from broker.embedded import Faults
from tests.services import house, story, toy

EXPECTED = repr(list(toy.expected(story.PLAN))).encode()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    # Patient, so that a slow machine is not taken for a silent partner.
    patient = replace(house.TIMING, silence_first=30.0)
    return asyncio.run(story.tell(tmp_path_factory.mktemp("undisturbed"), {}, timing=patient))


def test_an_undisturbed_run_loses_repeats_and_parks_nothing(undisturbed):
    assert undisturbed.result == EXPECTED
    for counters in undisturbed.statistics.values():
        assert not {"duplicates", "tasks_run_again", "dropped_ahead", "late"} & set(counters)


@pytest.mark.parametrize("seed", range(int(os.environ.get("SEEDS", "4"))))
def test_any_schedule_of_loss_repetition_reordering_corruption_and_crashes_ends_in_the_same_state(
    tmp_path, seed, undisturbed
):
    faults = Faults(seed=seed, loss=0.08, repeat=0.1, reorder=0.2, corrupt=0.05)
    hooks = {
        name: story.CrashSometimes(seed * 2 + place, chance=0.02, most=4) for place, name in enumerate(("shop", "bank"))
    }
    ending = asyncio.run(story.tell(tmp_path, hooks, faults=faults))
    assert ending.result == undisturbed.result
    assert (ending.shop.outcome, ending.bank.outcome) == ("done", "done")
    assert ending.states == undisturbed.states
