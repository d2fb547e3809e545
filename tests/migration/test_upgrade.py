"""Whole daemons on the files of the version before: what ran goes on, what ended is proved as before."""

import json
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from services.audit.executing import execute
from services.audit.exporting import reading
from services.audit.purging import purge_stopped
from services.audit.reconciling import reconcile
from services.audit.verifying import verify
from services.daemon.control import ControlClient
from services.daemon.local import BUSINESS, PROVIDER, connect, embedded, wait_for
from services.engine.records import AuditError
from services.models.store import ModelStore
from services.party.configuration import load_party
from services.store.journal_schema import SCHEMA_VERSION
from services.store.migrations import copies_of
from tests.audit.recorded import AUDITOR, PARTNER, Recorded
from tests.migration.former import Former, unpack


@pytest.fixture(scope="module", params=range(1, SCHEMA_VERSION))
def upgraded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Former:
    """Both parties after they have run with this version until the job that was running had ended."""
    former = unpack(request.param, tmp_path_factory.mktemp("former"))
    job = former.jobs["running"]
    parties = {role: load_party(path) for role, path in former.paths.items()}
    with pytest.raises(AuditError, match=f"schema {request.param}, .*`warren serve`"), reading(parties[BUSINESS]):
        pass
    with embedded(tuple(former.paths.values())):
        for party in parties.values():
            with connect(party) as client:
                assert wait_for(client, job)["outcome"] == "done"
                kept_at_home(client, party.data_directory, job)
    return former


def kept_at_home(client: ControlClient, data: Path, job: str) -> None:
    """Wait until the daemon has written model and results."""
    while not client.ask("job", id=job)["results"] or not ModelStore(data).has(job):
        pass


def test_a_job_that_was_interrupted_by_the_upgrade_ends_with_the_model_of_one_that_was_not(upgraded):
    jobs = upgraded.jobs
    for role, path in upgraded.paths.items():
        results = path.parent / "data" / "results"
        made, expected = (
            json.loads((results / jobs[kind] / "parameters.json").read_bytes()) for kind in ("running", "done")
        )
        assert made == expected, role


def test_jobs_that_had_ended_are_proved_and_run_again_as_before(upgraded, tmp_path):
    jobs = upgraded.jobs
    for kind in ("done", "running"):
        recorded = Recorded(jobs[kind], upgraded.paths)
        files = [recorded.export(role, PARTNER, tmp_path / f"{kind}.{role}") for role in upgraded.paths]
        assert reconcile(*files).holds
    recorded = Recorded(jobs["whole"], upgraded.paths)
    for role in upgraded.paths:
        file = recorded.export(role, AUDITOR, tmp_path / f"whole.{role}")
        assert verify(file).holds
        with reading(recorded.party(role)) as connection:
            done = execute(file, recorded.party(role), connection, lambda *_: None)
        assert done.same
        assert done.tasks > 10


def test_the_journal_as_it_was_lies_beside_the_new_one_for_its_owner_only(upgraded, tmp_path):
    before = unpack(upgraded.schema, tmp_path)
    for role in (BUSINESS, PROVIDER):
        (copy,) = copies_of(upgraded.journal(role))
        assert copy.name == f"journal.sqlite.schema-{upgraded.schema}"
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        assert dumped(copy) == dumped(before.journal(role))


def dumped(journal: Path) -> list[str]:
    with closing(sqlite3.connect(journal)) as connection:
        return list(connection.iterdump())


def test_who_purges_is_told_of_the_copy(upgraded):
    party = load_party(upgraded.paths[PROVIDER])
    (copy,) = copies_of(upgraded.journal(PROVIDER))
    (said,) = [each for each in purge_stopped(party, upgraded.jobs["done"]).sentences() if str(copy) in each]
    assert "remove" in said
