"""A few of the cells of `make chaos`, and that the harness can fail."""

import dataclasses
import random
from collections.abc import Iterator

import pytest

from services.daemon.local import NAMES, PROVIDER
from tests.chaos.disk import Disks
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.rounds import DIFFERENT, IDENTICAL, Cell, Incident, Results, Storm, plan
from tests.chaos.scoring import quiet_and_stormy
from tests.chaos.stages import Stage
from tests.chaos.tables import closing_line
from tests.endurance.test_kills import undisturbed
from tests.endurance.town import Town


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Town, Disks]]:
    """Two running parties, each on a disk of its own where one can be mounted."""
    with Disks() as disks, Town(tmp_path_factory.mktemp("town")) as place:
        for role in NAMES:
            disks.place(place, role)
            place.start(role)
        yield place, disks


def fault(name: str) -> Fault:
    (found,) = (each for each in FAULTS if each.name == name)
    return found


def weather(
    town: Town, disks: Disks, kind: Fault, stage: Stage, expected: dict[str, bytes] | None = None
) -> tuple[Incident, Results]:
    """One fault in one stage of a job; what happened."""
    results = Results()
    Storm(town, disks, expected or undisturbed(), random.Random(1), results, print).round([Cell(kind, stage)])
    return next(each for each in results.incidents if each.stage == stage), results


def test_a_broker_wiped_in_mid_training_costs_time_and_nothing_else(town: tuple[Town, Disks]) -> None:
    wipe = dataclasses.replace(fault("wipe the broker"), roles=(PROVIDER,))
    incident, _ = weather(*town, wipe, Stage.TERMS)
    assert incident.waiting > 0  # what it had confirmed is gone
    assert incident.outcome == IDENTICAL


@pytest.mark.parametrize("limited", [False, True])
def test_a_full_disk_is_explained_and_waited_for(town: tuple[Town, Disks], limited: bool) -> None:
    place, disks = town
    if limited:
        disks = Disks()
        for role in NAMES:
            disks.place(place, role, limited=True)
    incident, _ = weather(place, disks, fault("fill the disk"), Stage.ALIGN)
    assert "make room in" in incident.note
    assert incident.outcome == IDENTICAL


@pytest.mark.parametrize("name", ["stall one line", "kill a worker"])
def test_a_fault_in_mid_training_changes_nothing(town: tuple[Town, Disks], name: str) -> None:
    incident, _ = weather(*town, fault(name), Stage.TERMS)
    assert incident.outcome == IDENTICAL


@pytest.mark.parametrize("name", ["kill business", "kill provider"])
def test_a_party_killed_while_it_is_decided_whether_a_loop_goes_on_changes_nothing(
    town: tuple[Town, Disks], name: str
) -> None:
    incident, _ = weather(*town, fault(name), Stage.EVALUATE)
    assert incident.outcome == IDENTICAL


def test_another_model_is_noticed(town: tuple[Town, Disks]) -> None:
    incident, results = weather(*town, fault("kill a worker"), Stage.CROSS, dict.fromkeys(NAMES, b"another"))
    assert incident.outcome == DIFFERENT
    assert closing_line(results).endswith("1 differing models, 0 lost jobs")


def test_a_job_that_does_not_end_well_is_noticed(town: tuple[Town, Disks]) -> None:
    place, _ = town

    def cancel(_: object) -> None:
        with place.console(PROVIDER) as console:
            console.ask("cancel", id=place.job, reason="a change of mind")

    quitting = dataclasses.replace(fault("kill a worker"), begin=cancel)
    incident, results = weather(*town, quitting, Stage.FEATURES)
    assert incident.outcome == "lost"
    assert "a change of mind" in results.lost[0]


def test_scores_are_the_same_whatever_dies_while_they_are_made(town: tuple[Town, Disks]) -> None:
    place, _ = town
    model = place.submit()
    place.result()
    quiet, stormy = quiet_and_stormy(place, model, random.Random(3))
    assert quiet.count(b"\n") > 50
    assert stormy == quiet


@pytest.mark.parametrize("rounds", [1, 5, 20])
def test_every_fault_meets_every_stage_however_many_rounds_there_are(rounds: int) -> None:
    wanted = plan(rounds, random.Random(7))
    assert len(wanted) == rounds
    assert all({cell.stage for cell in cells} == set(Stage) for cells in wanted)
    met = {(cell.fault.name, cell.stage) for cells in wanted for cell in cells}
    assert met == {(each.name, stage) for each in FAULTS for stage in Stage}


def test_cells_that_were_never_met_are_named() -> None:
    empty = Results().empty_cells
    assert len(empty) == len(FAULTS) * len(Stage)
    assert "wipe the broker in terms in flight" in empty
