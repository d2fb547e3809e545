"""Several providers in the storm: who passes link terms on dies with the business, and who scores for others dies."""

from pathlib import Path
from typing import Any, Final

from services.daemon.local import BUSINESS, connect, embedded, wait_for
from services.daemon.local_job import run_job
from services.daemon.verbs import read_results
from services.party.configuration import load_party
from tests.chaos.stages import Stage, stage_of
from tests.endurance.test_three_parties import JOB, Daemons, is_at, parties, private_broker
from tests.parties import until

PROVIDERS: Final = 3
PARTNERS: Final = [f"provider-{letter}/features" for letter in "abc"]
CHAIN: Final[dict[str, Any]] = {**JOB, "partners": PARTNERS, "max_iterations": 3, "chunk_rows_max": 10}


def passes_on(daemons: Daemons, role: str, job: str) -> bool:
    """Whether a party has evaluated some of the terms of the one before it, and not all."""
    state = daemons.state(role, job)
    return state is not None and stage_of(state) is Stage.TERMS and 0 < state.round.evaluated < state.round.chunks


def submit(daemons: Daemons) -> str:
    with connect(daemons.parties[BUSINESS]) as client:
        return str(client.ask("submit", job=CHAIN)["job"])


def kill_while_it_passes_on(daemons: Daemons, role: str) -> str:
    """Submit, and kill a party in the middle of the chain that has terms to pass on; the job."""
    job = submit(daemons)
    while True:
        until(
            lambda job=job: passes_on(daemons, role, job) or daemons.view(BUSINESS, job)["status"] != "running",
            f"{role} passes terms on, or the job is over",
        )
        daemons.kill(role)
        if passes_on(daemons, role, job):
            return job
        daemons.start(role)
        if daemons.view(BUSINESS, job)["status"] != "running":
            job = submit(daemons)


def results(daemons: Daemons, role: str, job: str) -> Path:
    with connect(daemons.parties[role]) as client:
        view = wait_for(client, job)
    assert view["outcome"] == "done", (role, view["reason_code"], view["reason"])
    return Path(view["results"])


def test_a_provider_in_the_middle_of_a_chain_and_the_business_die_together_and_model_and_scores_are_the_same(
    tmp_path: Path,
) -> None:
    quiet = parties(tmp_path / "quiet", {}, PROVIDERS)
    with embedded(list(quiet.values())):
        expected = run_job(list(quiet.values()), CHAIN).parameters
    names = {role: load_party(path).file.name for role, path in quiet.items()}
    middle = next(role for role, name in names.items() if name == "provider-b")
    with private_broker(tmp_path / "rabbitmq", list(names.values())) as broker:
        urls = {role: broker.amqp_url(name) for role, name in names.items()}
        daemons = Daemons(parties(tmp_path / "loud", urls, PROVIDERS))
        try:
            for role in names:
                daemons.start(role)
            job = kill_while_it_passes_on(daemons, middle)
            daemons.kill(BUSINESS)
            for role in (middle, BUSINESS):
                daemons.start(role)
            assert {role: read_results(results(daemons, role, job))[0] for role in names} == expected
            scores = []
            for deaths in (0, 1):
                with connect(daemons.parties[BUSINESS]) as client:
                    scoring = str(client.ask("predict", model=job)["job"])
                if deaths:
                    until(lambda scoring=scoring: is_at(daemons, middle, scoring, 3), "the provider scores")
                    daemons.kill(middle)
                    daemons.start(middle)
                scores.append((results(daemons, BUSINESS, scoring) / "scores.csv").read_bytes())
            assert scores[0].count(b"\n") > 50
            assert scores[1] == scores[0]
        finally:
            daemons.end()
