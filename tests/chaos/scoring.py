"""Scoring jobs in the storm: whatever dies meanwhile, the scores are those of a quiet job."""

import random
from pathlib import Path

from services.daemon.local import BUSINESS, NAMES, wait_for
from tests.chaos.stages import release
from tests.endurance.town import Town
from tests.parties import PATIENCE_S, within

DEATHS = 2


def _scores(town: Town, job: str) -> bytes:
    with town.console(BUSINESS) as console:
        view = wait_for(console, job)
    assert view["outcome"] == "done", (view["reason_code"], view["reason"])
    return (Path(view["results"]) / "scores.csv").read_bytes()


def _ask(town: Town, model: str) -> str:
    with town.console(BUSINESS) as console:
        job: str = console.ask("predict", model=model)["job"]
    return job


def quiet_and_stormy(town: Town, model: str, chance: random.Random) -> tuple[bytes, bytes]:
    """The scores of a job that nothing befalls, and of one in which daemons are killed and lines are cut."""
    release(town)
    quiet = _scores(town, _ask(town, model))
    town.job = _ask(town, model)
    for _ in range(DEATHS):
        role = chance.choice(list(NAMES))
        seen = town.applied(role)
        within(PATIENCE_S, lambda role=role, seen=seen: town.applied(role) > seen or town.over(role))
        town.kill(role)
        town.start(role)
        town.uplinks[role].cut()
    within(PATIENCE_S, lambda: town.over(BUSINESS))
    return quiet, _scores(town, town.job)
