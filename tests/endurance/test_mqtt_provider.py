"""A provider that speaks MQTT only takes part in a whole job, whatever dies in the middle of it."""

import json
import subprocess
import sys
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
            path = place.paths[role]
            path.write_text(path.read_text().replace("declare = false", "declare = false\nstatus = true", 1))
            place.start(role)
        yield place


def test_a_provider_over_mqtt_killed_between_two_chunks_ends_its_job_with_the_same_parameters(town: Town) -> None:
    town.submit()
    hold_in_the_middle(town, PROVIDER)
    own = town.kill(PROVIDER)
    until(lambda: nothing_left(own), "no process of the killed provider is left")
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


def test_a_party_that_comes_back_tells_at_once_where_its_jobs_stand(town: Town) -> None:
    secret = town.broker.directory / "watcher"
    secret.write_text("secret")
    command = [sys.executable, "-m", "services.cli"]
    made = [*command, "broker", "watcher", town.broker.admin_url, "dashboard", "--password-file", str(secret)]
    subprocess.run(made, check=True, capture_output=True)
    job = town.job or town.submit()
    town.result()
    url = f"mqtt://dashboard:secret@127.0.0.1:{town.broker.mqtt_port}/warren"
    with subprocess.Popen([*command, "watch", url, "--json"], stdout=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        town.kill(PROVIDER)
        town.start(PROVIDER)
        statuses = (json.loads(line) for line in watching.stdout)
        seen = next(each for each in statuses if (each["party"], each["job"]) == (NAMES[PROVIDER], job))
        assert seen["outcome"] == "done"
        watching.terminate()
