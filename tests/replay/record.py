"""Adds golden logs: `python -m tests.replay.record NAME [SCENARIO]`. What is there is never written again.

A scenario is run by whole daemons; what each of them exports, for a partner and for an auditor, is kept.
Record a new NAME when jobs of a new kind can be run, or when a rule changes and with it `logic_version`.
"""

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from services.audit.exporting import reading
from services.daemon.control import ControlClient
from services.daemon.local import connect, embedded, wait_for
from services.engine import jobs
from services.party.configuration import load_party
from tests.audit.recorded import AUDITOR, BUSINESS, OVER_FOLDS, PARTNER, PROVIDER, Recorded, record, record_three
from tests.models.handing import train_whole
from tests.parties import until

LOGS: Final = Path(__file__).parent / "logs"
SUMS: Final = Path(__file__).parent / "SHA256SUMS"


def cancel(console: ControlClient, job: str) -> None:
    """The operator of the business ends the job when training has begun."""

    def training() -> bool:
        view = console.ask("job", id=job)
        return bool((view["progress"] or {}).get("iteration", 0) >= 2)

    until(training, "the second iteration")
    console.ask("cancel", id=job, reason="no longer needed")


def statistics(at: Path) -> Recorded:
    """Standard errors and figures of all parts after training."""
    shares = {"validation": 0.25, "test": 0.25, "evaluate": ["training", "validation", "test"]}
    return record(at, "logistic", 90, inference=True, max_iterations=2, **shares)


def stopped(at: Path, retention: str = "digests") -> Recorded:
    """Training stops early by the metric of the validation rows, and the figures of the model kept are told."""
    stops = {"stop_metric": "log_loss", "patience": 1, "stop_evaluations_max": 2, "max_iterations": 4}
    return record(at, "logistic", 90, retention=retention, validation=0.3, evaluate=["validation"], **stops)


def scored(at: Path, mode: str = "batch", retention: str = "digests", task: str = "logistic") -> Recorded:
    """A scoring job by a small model; one that answers lookups is cancelled after an answer."""
    trained = record(at, task, 60, max_iterations=1)
    paths = trained.paths
    with (
        embedded((paths[BUSINESS], paths[PROVIDER])),
        connect(load_party(paths[BUSINESS])) as business,
        connect(load_party(paths[PROVIDER])) as provider,
    ):
        job = business.ask("predict", model=trained.job, mode=mode, retention=retention)["job"]
        if mode == "lookup":
            wait_for(business, job, until_stage="serve")
            business.ask("lookup", model=trained.job, id="customer-000000-qz")
            business.ask("cancel", id=job, reason="no longer needed")
        wait_for(business, job)
        until(lambda: provider.ask("job", id=job)["status"] != "running", "the provider's end")
    return Recorded(job, paths)


def scored_by_three(at: Path) -> Recorded:
    """A scoring job of two providers, whose scores are told under masks bound to the people of the rows."""
    trained = record_three(at, 60, max_iterations=1)
    paths = trained.paths
    with embedded(list(paths.values())), connect(load_party(paths[BUSINESS])) as business:
        job = business.ask("predict", model=trained.job)["job"]
        wait_for(business, job)
        for role in sorted(set(paths) - {BUSINESS}):
            with connect(load_party(paths[role])) as provider:
                until(lambda asked=provider: asked.ask("job", id=job)["status"] != "running", "the provider's end")
    return Recorded(job, paths)


def steward(at: Path, answer: Callable[[ControlClient, str], None]) -> Recorded:
    """The provider's policy asks its steward, who does something about the job."""

    def answered(provider: ControlClient, job: str) -> None:
        until(lambda: any(one["job"] == job for one in provider.ask("pending")), "the steward's turn")
        answer(provider, job)

    return record(at, "logistic", 60, max_iterations=1, policy='approval = "ask"\n', steward=answered)


def approve(provider: ControlClient, job: str) -> None:
    """The steward says yes."""
    provider.ask("approve", id=job)


def decline(provider: ControlClient, job: str) -> None:
    """The steward says no."""
    provider.ask("decline", id=job, reason="not this quarter")


def revoke(provider: ControlClient, job: str) -> None:
    """The provider takes its consent back when training has begun."""
    provider.ask("approve", id=job)

    def training() -> bool:
        view = provider.ask("job", id=job)
        return bool((view["progress"] or {}).get("stage") == "encrypt_features")

    until(training, "encrypted features")
    provider.ask("revoke", id=job, reason="the agreement has ended")


SCENARIOS: Final[dict[str, tuple[str, Callable[[Path], Recorded]]]] = {
    "logistic": ("done", lambda at: record(at, "logistic", 90)),
    "linear": ("done", lambda at: record(at, "linear", 90)),
    "poisson": ("done", lambda at: record(at, "poisson", 90)),
    "gamma": ("done", lambda at: record(at, "gamma", 90)),
    "elastic": ("done", lambda at: record(at, "linear", 90, l1=0.05)),
    "classes": ("done", lambda at: record(at, "multiclass", 90, max_iterations=2)),
    "full": ("done", lambda at: record(at, "logistic", 60, retention="full", max_iterations=1)),
    "prepared": ("done", lambda at: record(at, "logistic", 90, max_iterations=2, prepared=True)),
    "statistics": ("done", statistics),
    "three-parties": ("done", record_three),
    "three-validated": ("done", lambda at: record_three(at, **OVER_FOLDS)),
    "three-blocks": ("done", lambda at: record_three(at, solver="block", block_share=0.4, max_iterations=4)),
    "three-classes": (
        "done",
        lambda at: record_three(at, task="multiclass", validation=0.3, evaluate=["validation"]),
    ),
    "three-scoring": ("done", scored_by_three),
    "growing": ("done", lambda at: record(at, "logistic", 90, sample_set="growing", batches=2, max_iterations=4)),
    "block": ("done", lambda at: record(at, "logistic", 90, solver="block", max_iterations=5)),
    "stopped": ("done", stopped),
    "validated": ("done", lambda at: record(at, "linear", 90, folds=2, penalties=[0.1, 0.03], max_iterations=4)),
    "cancelled": ("cancelled", lambda at: record(at, "logistic", 120, max_iterations=20, meddle=cancel)),
    "declined": ("declined", lambda at: record(at, "logistic", 60, retention="full", allowed=("digests",))),
    "failed": ("failed", lambda at: record(at, "logistic", 90, marks=["insecure"])),
    "scoring": ("done", scored),
    "scoring-full": ("done", lambda at: scored(at, retention="full")),
    "scoring-classes": ("done", lambda at: scored(at, task="multiclass")),
    "lookups": ("cancelled", lambda at: scored(at, mode="lookup")),
    "lookups-classes": ("cancelled", lambda at: scored(at, mode="lookup", task="multiclass")),
    "whole-model": ("done", lambda at: train_whole(at, allowed=True)[0]),
    "approved": ("done", lambda at: steward(at, approve)),
    "steward-declined": ("declined", lambda at: steward(at, decline)),
    "revoked": ("failed", lambda at: steward(at, revoke)),
}
"""Name -> (outcome, what is run in an empty directory)."""


AUDIENCES: Final[tuple[Any, Any]] = (PARTNER, AUDITOR)


def golden(name: str, roles: Sequence[str] = ()) -> list[Path]:
    """The files of a name: for a partner and for an auditor, of these roles, or of all that are there."""
    further = {path.name.split(".")[1] for path in LOGS.glob(f"{name}.provider-*.*")}
    roles = roles or (BUSINESS, PROVIDER, *sorted(further))
    return [LOGS / f"{name}.{role}.{audience}" for role in roles for audience in AUDIENCES]


def add(name: str, scenario: str) -> list[Path]:
    """Run a scenario and keep what both parties export. Raises FileExistsError, and changes nothing then."""
    for path in golden(name):
        if path.exists():
            raise FileExistsError(f"{path} is there already: a golden log is never written again; choose another name")
    outcome, run = SCENARIOS[scenario]
    LOGS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        recorded = run(Path(directory))
        views = {role: ended(recorded, role) for role in recorded.paths}
        if set(views.values()) != {outcome}:
            raise RuntimeError(f"the job was to be {outcome} at all parties, it is {views}")
        paths = golden(name, tuple(recorded.paths))
        kinds = [(role, audience) for role in recorded.paths for audience in AUDIENCES]
        for path, (role, audience) in zip(paths, kinds, strict=True):
            recorded.export(role, audience, path)
    _list(paths)
    return paths


def _list(paths: list[Path]) -> None:
    """Note the sums of new files, in the form of `sha256sum`."""
    with SUMS.open("a") as file:
        for path in paths:
            file.write(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")


def ended(recorded: Recorded, role: str) -> str:
    """The outcome at one party."""
    with reading(recorded.party(role)) as connection:
        found = jobs.load(connection, recorded.job)
    assert found is not None
    return found.outcome


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.replay.record", description=__doc__)
    parser.add_argument("name", help="the new logs' name")
    parser.add_argument("scenario", nargs="?", choices=sorted(SCENARIOS), help="what to run; by default NAME")
    arguments = parser.parse_args()
    scenario = arguments.scenario or arguments.name
    if scenario not in SCENARIOS:
        parser.error(f"{scenario} is no scenario: name one of {', '.join(sorted(SCENARIOS))}")
    try:
        for path in add(arguments.name, scenario):
            print(f"{path.name}  {path.stat().st_size:,} bytes")
    except FileExistsError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
