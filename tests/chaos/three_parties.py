"""Three parties in the storm: one of two providers is killed again and again, and the others keep what they have."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from broker.installation import PROGRAMS
from services.daemon.local import BUSINESS, connect, embedded, wait_for
from services.daemon.local_job import run_job
from services.daemon.verbs import read_results
from services.party.configuration import load_party
from tests.endurance.test_three_parties import JOB, Daemons, is_at, parties, private_broker
from tests.parties import until

BLOCKS: Final[dict[str, Any]] = {**JOB, "solver": "block", "max_iterations": 5}
"""Iterations in which one party or another has no column to update run ahead of each other the most."""

DEATHS: Final = 4


def provider_killed(
    directory: Path, chance: random.Random, tell: Callable[[str], None], programs: Path = PROGRAMS
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """All parties' parameters of a quiet job, and of one in which one provider is killed at places that chance names.

    Raises AssertionError when the job ends otherwise, or another party's with it; TimeoutError when it stands still.
    """
    quiet = parties(directory / "quiet", {})
    with embedded(list(quiet.values())):
        ended = run_job(list(quiet.values()), BLOCKS)
        with connect(load_party(quiet[BUSINESS])) as client:
            length = int(client.ask("job", id=ended.job)["length"])
    names = {role: load_party(path).file.name for role, path in quiet.items()}
    victim = chance.choice([role for role in names if role != BUSINESS])
    with private_broker(directory / "rabbitmq", list(names.values()), programs) as broker:
        daemons = Daemons(parties(directory / "loud", {role: broker.amqp_url(name) for role, name in names.items()}))
        try:
            for role in names:
                daemons.start(role)
            with connect(daemons.parties[BUSINESS]) as client:
                job = str(client.ask("submit", job=BLOCKS)["job"])
            for place in sorted(chance.sample(range(10, length * 9 // 10), DEATHS)):
                until(lambda place=place: is_at(daemons, BUSINESS, job, place), f"event {place}")
                daemons.kill(victim)
                tell(f"{names[victim]} of three parties is killed at event {place} of some {length} of the business")
                others = [role for role in names if role != victim]
                assert {daemons.view(role, job)["outcome"] for role in others} <= {"", "done"}
                daemons.start(victim)
            found = {}
            for role in names:
                with connect(daemons.parties[role]) as client:
                    view = wait_for(client, job)
                assert view["outcome"] == "done", (role, view["reason_code"], view["reason"])
                found[role] = read_results(Path(view["results"]))[0]
        finally:
            daemons.end()
    return ended.parameters, found
