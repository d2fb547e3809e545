"""A training job whose contract has `whole_model`, at parties whose provider allows it or does not."""

from pathlib import Path

from services.daemon.local import connect, embedded, wait_for
from services.party.configuration import load_party
from tests.audit.recorded import BUSINESS, MARKS, PROVIDER, Recorded, job_of, write_tables
from tests.parties import make_parties


def train_whole(directory: Path, *, allowed: bool) -> tuple[Recorded, str]:
    """The job, ended at both parties, and its reason code at the business."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = make_parties(directory, write_tables(directory, 90, "logistic"), marks=MARKS)
    policy = paths[PROVIDER].parent / "policy.toml"
    policy.write_text(f"whole_model = {str(allowed).lower()}\n" + policy.read_text())
    with (
        embedded((paths[BUSINESS], paths[PROVIDER])),
        connect(load_party(paths[BUSINESS])) as business,
        connect(load_party(paths[PROVIDER])) as provider,
    ):
        job = business.ask("submit", job=job_of("logistic", whole_model=True, max_iterations=2))["job"]
        view = wait_for(business, job)
        wait_for(provider, job)
    return Recorded(job, paths), view["reason_code"]
