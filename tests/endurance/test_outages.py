"""A partner that comes late and a broker that goes away: the job waits, holds little, and ends the same."""

import time

from services.daemon.local import BUSINESS, NAMES, PROVIDER
from services.store.limits import BULK_WINDOW_BYTES
from tests.endurance.test_kills import undisturbed
from tests.endurance.town import Town
from tests.parties import until

LATE_S = 6.0


def come_late(town: Town, seconds: float) -> dict[str, bytes]:
    """Submit a job, start the provider `seconds` later, and give the result."""
    town.run_only(BUSINESS)
    town.submit()
    watch(town, seconds)
    with town.console(BUSINESS) as client:
        view = client.ask("job", id=town.job)
        assert view["status"] == "running"
        assert view["progress"]["waits_for"] == NAMES[PROVIDER]
    town.start(PROVIDER)
    return town.result()


def lose_the_broker(town: Town, seconds: float) -> dict[str, bytes]:
    """Stop the broker for `seconds` in the middle of an iteration, and give the result."""
    town.run_only(*NAMES)
    town.submit()
    town.stop_in_the_middle(BUSINESS)
    town.broker.stop()
    for role in NAMES:
        town.thaw(role)
    watch(town, seconds)
    for role in NAMES:
        with town.console(role) as client:
            until(lambda client=client: not client.ask("status")["transport"]["up"], "the line is known to be lost")
    town.broker.start()
    return town.result()


def watch(town: Town, seconds: float) -> None:
    """Let `seconds` pass; all the while less than three windows are held."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert town.held_bytes() < 3 * BULK_WINDOW_BYTES
        time.sleep(0.2)


def test_a_provider_that_comes_late_finds_the_job_waiting(town: Town) -> None:
    assert come_late(town, LATE_S) == undisturbed()


def test_a_broker_that_stops_in_mid_iteration_changes_nothing(town: Town) -> None:
    assert lose_the_broker(town, LATE_S) == undisturbed()
