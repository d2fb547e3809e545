"""Killed at the worst moment the journal knows of, the job ends with the very bytes of an undisturbed run."""

import functools
import tempfile
from pathlib import Path

import pytest

from services.daemon.local import BUSINESS, PROVIDER, embedded
from services.daemon.local_job import run_job
from tests.endurance.town import JOB, Town, nothing_left, place_parties
from tests.parties import PARTNER, PATIENCE_S, until, within


@functools.cache
def undisturbed() -> dict[str, bytes]:
    """Both parties' parameters of a run that nothing happened to: within one process, so that nothing can."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        paths = place_parties(directory)
        with embedded((paths[BUSINESS], paths[PROVIDER])):
            return run_job((paths[BUSINESS], paths[PROVIDER]), JOB).parameters


def applies_and_works(town: Town, role: str, before: int) -> bool:
    """Whether a party's journal has a message more than `before`, and a task begun."""
    return town.applied(role) > before and town.works(role)


def hold_in_the_middle(town: Town, role: str) -> None:
    """Stop a party in mid-iteration, with a task begun, and a message applied that it cannot acknowledge.

    Where results of the stopped workers were still on their way to the journal, the iteration may turn out to be
    so far that the partner has nothing more to say before this party speaks: then it is another moment's turn, and
    at once, for a line that is held is lost in the end.
    """
    while True:
        town.stop_in_the_middle(role)
        town.uplinks[role].hold()
        caught = functools.partial(applies_and_works, town, role, town.applied(role))
        town.thaw(PARTNER[role])
        within(PATIENCE_S, lambda caught=caught: caught() or town.waits(PARTNER[role]))
        if caught():
            return
        town.uplinks[role].flow()
        town.thaw(role)


@pytest.mark.parametrize("role", [BUSINESS, PROVIDER])
def test_a_daemon_killed_between_two_chunks_ends_its_job_with_the_same_parameters(role: str, town: Town) -> None:
    town.submit()
    hold_in_the_middle(town, role)
    own = town.kill(role)
    until(lambda: nothing_left(own), f"no process of the killed {role} is left")
    town.uplinks[role].flow()
    town.start(role)
    assert town.result() == undisturbed()
    counted = town.statistics()
    assert counted.get("duplicates", 0) >= 1, counted
    assert counted.get("tasks_run_again", 0) >= 1, counted


def test_a_broker_killed_between_two_chunks_costs_time_and_nothing_else(town: Town) -> None:
    town.submit()
    hold_in_the_middle(town, BUSINESS)
    town.broker.kill()
    town.uplinks[BUSINESS].flow()
    town.thaw(BUSINESS)
    town.broker.start()
    assert town.result() == undisturbed()
    counted = town.statistics()
    assert counted.get("duplicates", 0) >= 1, counted
