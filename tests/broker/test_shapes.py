"""A whole training job over TLS in both shapes: real daemons and brokers, and the model of a quiet run."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from broker.applying import apply_blocking
from services.daemon.local import BUSINESS, NAMES, PROVIDER, connect, embedded, processes, wait_for
from services.daemon.local_job import run_job
from services.daemon.verbs import read_results
from services.party.configuration import load_party
from tests.linked import linked_brokers
from tests.parties import NOWHERE, example_tables, make_parties, until
from tests.rabbitmq import certificates, running_broker

ROWS = 150
MARKS = ("small_sample", "insecure")
JOB: dict[str, Any] = {
    "task": "logistic",
    "dataset": "labels",
    "partner": f"{NAMES[PROVIDER]}/features",
    "l2": 1e-2,
    "max_iterations": 2,
    "release_noise": 0.0,
    "key_bits": 512,
    "marks": list(MARKS),
    "chunk_rows_max": 27,
}


def parties(directory: Path, urls: Mapping[str, str] = NOWHERE) -> tuple[Path, Path]:
    directory.mkdir()
    paths = make_parties(directory, example_tables(directory, ROWS), marks=MARKS, urls=urls)
    return paths[BUSINESS], paths[PROVIDER]


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Both parties' parameters when nothing travels at all."""
    pair = parties(tmp_path_factory.mktemp("quiet") / "parties")
    with embedded(pair):
        return run_job(pair, JOB).parameters


def test_a_job_over_a_shared_broker_with_tls_ends_at_the_model_of_a_quiet_run(
    tmp_path: Path, quiet: dict[str, bytes]
) -> None:
    apply_blocking(running_broker().admin_url, list(NAMES.values()))
    # As docs/broker.md has it: the files lie beside party.toml, wherever the daemon was started.
    place = f"amqps://localhost:{running_broker().tls_port}/warren?auth=EXTERNAL"
    urls = {role: f"{place}&cafile=ca.pem&certfile={name}.pem&keyfile={name}.key" for role, name in NAMES.items()}
    pair = parties(tmp_path / "parties", urls)
    for name, path in zip(NAMES.values(), pair, strict=True):
        for file in ("ca.pem", f"{name}.pem", f"{name}.key"):
            shutil.copy(certificates() / file, path.parent)
    with processes(pair):
        assert run_job(pair, JOB).parameters == quiet


def test_a_job_over_linked_brokers_outlives_cut_links_and_a_broker_that_loses_all_and_ends_at_the_model_of_a_quiet_run(
    tmp_path: Path, quiet: dict[str, bytes]
) -> None:
    link = linked_brokers()
    link.purge()
    pair = parties(tmp_path / "parties", {role: link.url(name) for role, name in NAMES.items()})
    business = load_party(pair[0])
    with processes(pair), connect(business) as client:
        job = str(client.ask("submit", job=JOB)["job"])

        def messages() -> int:
            return int(client.ask("job", id=job)["applied"])

        for count in (3, 8):
            until(lambda count=count: messages() >= count, f"{count} messages of the provider are applied")
            for line in link.lines.values():
                line.cut()
        assert client.ask("job", id=job)["status"] == "running"
        # It comes back from its definitions, link and all, without a message of what it held.
        link.brokers[NAMES[PROVIDER]].wipe()
        link.brokers[NAMES[PROVIDER]].start()
        found = {}
        for role, path in zip(NAMES, pair, strict=True):
            with connect(load_party(path)) as at:
                view = wait_for(at, job)
                assert view["outcome"] == "done", (role, view["reason_code"], view["reason"])
                found[role] = read_results(Path(view["results"]))[0]
    assert found == quiet
