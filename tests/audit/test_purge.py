"""Purging erases what is kept of a job and leaves what can be proved."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from services.audit.exporting import reading
from services.audit.purging import purge_stopped
from services.audit.reconciling import reconcile
from services.audit.verifying import verify
from services.daemon.control import ControlError
from services.daemon.local import BUSINESS, PROVIDER, connect, embedded, wait_for
from services.engine.records import AuditError
from services.models.store import ModelStore
from services.party.configuration import load_party
from services.store.journal_schema import events
from tests.audit.recorded import AUDITOR, MARKS, PARTNER, Recorded, job_of, write_tables
from tests.audit.test_exports import stored
from tests.parties import make_parties

Files = dict[tuple[str, str], Path]


def bytes_of(directory: Path) -> bytes:
    """Everything that a party's data directory holds of the job, but results, model and ledger."""
    return b"".join(
        path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not {"results", "models", "ledger"} & set(path.parts)
    )


def canaries(recorded: Recorded, role: str) -> list[bytes]:
    """Pieces of events, salts, blobs and the secret."""
    party = recorded.party(role)
    with reading(party) as connection:
        rows = connection.execute(select(events.c.event, events.c.salt).where(events.c.event != b"")).all()
    found = [row.event[-30:] for row in rows if len(row.event) > 60] + [row.salt for row in rows]
    found += [data[:48] for data in stored(recorded, role) if len(set(data[:48])) > 8]
    return [*found, (party.data_directory / "secrets" / recorded.job).read_bytes()]


def test_everything_private_is_gone_from_the_disk_and_the_rest_is_proved_as_before(
    copied: Callable[[], Recorded], files: Files, tmp_path: Path
) -> None:
    place = copied()
    party = place.party(BUSINESS)
    # The contract stays, and with it what both parties signed: pieces of it are no canaries.
    kept = verify(files[BUSINESS, PARTNER]).opening
    assert kept is not None
    looked_for = [piece for piece in canaries(place, BUSINESS) if piece not in kept.contract]
    assert len(looked_for) > 300
    before = bytes_of(party.data_directory)
    assert all(piece in before for piece in looked_for)
    done = purge_stopped(party, place.job)
    after = bytes_of(party.data_directory)
    assert [piece for piece in looked_for if piece in after] == []
    assert done.events > 150
    assert done.blobs > 100
    assert any("still provable" in sentence and done.head[:16] in sentence for sentence in done.sentences())
    export = place.export(BUSINESS, PARTNER, tmp_path / "after")
    both = reconcile(export, files[PROVIDER, PARTNER])
    assert both.holds, both
    assert both.files[0].ending == verify(files[BUSINESS, PARTNER]).ending
    with pytest.raises(AuditError, match="was purged"):
        place.export(BUSINESS, AUDITOR, tmp_path / "auditor")
    assert (party.data_directory / "results" / place.job / "parameters.json").exists()
    assert ModelStore(party.data_directory).get(place.job).version.model == place.job


def test_purging_twice_changes_nothing_more(copied: Callable[[], Recorded]) -> None:
    place = copied()
    party = place.party(PROVIDER)
    first = purge_stopped(party, place.job)
    second = purge_stopped(party, place.job)
    assert (second.events, second.blobs, second.head) == (0, 0, first.head)


def test_a_running_daemon_purges_a_job_and_goes_on(copied: Callable[[], Recorded], tmp_path: Path) -> None:
    place = copied()
    party = load_party(place.paths[BUSINESS])
    secret = party.data_directory / "secrets" / place.job
    assert secret.exists()
    with embedded((place.paths[BUSINESS], place.paths[PROVIDER])), connect(party) as console:
        # The secret of a job with retention full outlives a restart.
        assert secret.exists()
        done = console.ask("purge", id=place.job)
        assert done["blobs"] > 100
        assert not secret.exists()
        assert console.ask("job", id=place.job)["outcome"] == "done"
        with pytest.raises(ControlError, match="there is no job"):
            console.ask("purge", id="job-7")
    assert not list((party.data_directory / "blobs").glob("*/*"))
    assert place.export(BUSINESS, PARTNER, tmp_path / "after").exists()


def test_a_job_that_runs_is_not_purged(tmp_path: Path) -> None:
    paths = make_parties(tmp_path, write_tables(tmp_path, 60, "logistic"), marks=MARKS)
    with embedded((paths[BUSINESS], paths[PROVIDER])), connect(load_party(paths[BUSINESS])) as console:
        job = console.ask("submit", job=job_of("logistic", max_iterations=1))["job"]
        refused = False
        try:
            console.ask("purge", id=job)
        except ControlError as error:
            refused = "still runs" in str(error) and "warren cancel" in str(error)
        assert refused
        assert wait_for(console, job)["outcome"] == "done"


def test_an_auditors_file_written_before_still_verifies(copied: Callable[[], Recorded], files: Files) -> None:
    place = copied()
    purge_stopped(place.party(BUSINESS), place.job)
    assert verify(files[BUSINESS, AUDITOR]).holds
