"""Killed at the worst moment the journal knows of, the job ends with the very bytes of an undisturbed run."""

import functools
import tempfile
from pathlib import Path

import pytest

from services.local import BUSINESS, NAMES, PROVIDER, embedded, run_job
from tests.endurance.town import JOB, PARTNER, Town, make_parties, nothing_left, until


@functools.cache
def undisturbed() -> dict[str, bytes]:
    """Both parties' parameters of a run that nothing happened to: within one process, so that nothing can."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        paths = make_parties(directory, dict.fromkeys(NAMES, "amqp://localhost/warren"))
        with embedded((paths[BUSINESS], paths[PROVIDER])):
            return run_job((paths[BUSINESS], paths[PROVIDER]), JOB).parameters


def hold_in_the_middle(town: Town, role: str) -> None:
    """Stop a party in mid-iteration, with a task begun, and a message applied that it cannot acknowledge."""
    town.stop_in_the_middle(role)
    town.uplinks[role].hold()
    before = town.applied(role)
    town.thaw(PARTNER[role])
    until(lambda: town.applied(role) > before, f"{role} applies one message more")
    until(lambda: town.works(role), f"{role} has begun a task")


@pytest.mark.parametrize("role", [BUSINESS, PROVIDER])
def test_a_daemon_killed_between_two_chunks_ends_its_job_with_the_same_parameters(role: str, tmp_path: Path) -> None:
    expected = undisturbed()
    with Town(tmp_path) as town:
        for each in NAMES:
            town.start(each)
        town.submit()
        hold_in_the_middle(town, role)
        own = town.kill(role)
        until(lambda: nothing_left(own), f"no process of the killed {role} is left", timeout_s=5)
        town.uplinks[role].flow()
        town.start(role)
        assert town.result() == expected
        counted = town.statistics()
        assert counted.get("duplicates", 0) >= 1, counted
        assert counted.get("tasks_run_again", 0) >= 1, counted


def test_a_broker_killed_between_two_chunks_costs_time_and_nothing_else(tmp_path: Path) -> None:
    expected = undisturbed()
    with Town(tmp_path) as town:
        for each in NAMES:
            town.start(each)
        town.submit()
        hold_in_the_middle(town, BUSINESS)
        town.broker.kill()
        town.uplinks[BUSINESS].flow()
        town.thaw(BUSINESS)
        town.broker.start()
        assert town.result() == expected
        counted = town.statistics()
        assert counted.get("duplicates", 0) >= 1, counted
