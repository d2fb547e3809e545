"""A provider that speaks MQTT only takes part in a whole job, whatever dies in the middle of it."""

from collections.abc import Iterator

import pytest

from services.daemon.local import NAMES, PROVIDER
from tests.endurance.test_kills import hold_in_the_middle, undisturbed
from tests.endurance.town import Town, nothing_left
from tests.parties import until


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with Town(tmp_path_factory.mktemp("town"), mqtt=[PROVIDER]) as place:
        for role in NAMES:
            place.start(role)
        yield place


def test_a_provider_over_mqtt_killed_between_two_chunks_ends_its_job_with_the_same_parameters(town: Town) -> None:
    town.submit()
    hold_in_the_middle(town, PROVIDER)
    own = town.kill(PROVIDER)
    until(lambda: nothing_left(own), "no process of the killed provider is left", timeout_s=5)
    town.uplinks[PROVIDER].flow()
    town.start(PROVIDER)
    assert town.result() == undisturbed()
    counted = town.statistics()
    assert counted.get("duplicates", 0) >= 1, counted
    assert counted.get("tasks_run_again", 0) >= 1, counted


def test_a_broker_that_lost_the_sessions_of_a_provider_over_mqtt_costs_time_and_nothing_else(town: Town) -> None:
    town.submit()
    town.stop_in_the_middle(PROVIDER)
    town.broker.wipe()
    town.broker.start()
    for role in NAMES:
        town.thaw(role)
    assert town.result() == undisturbed()
