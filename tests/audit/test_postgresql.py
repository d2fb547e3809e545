"""A journal at PostgreSQL proves what one in a file does, and forgets what is purged, in its files too."""

from pathlib import Path

import pytest
from sqlalchemy import select

from services.audit.executing import execute
from services.audit.exporting import reading
from services.audit.purging import purge_stopped
from services.audit.reconciling import reconcile
from services.audit.replaying import replay
from services.audit.verifying import verify
from services.daemon.local import BUSINESS, NAMES, PROVIDER, connect, embedded
from services.engine.records import AuditError
from services.party.configuration import load_party
from services.store.journal_schema import events
from tests import postgres
from tests.audit.recorded import AUDITOR, PARTNER, Recorded, record


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A job with retention `full` whose parties both have their journals at PostgreSQL."""
    journals = {role: postgres.url(postgres.fresh_database()) for role in NAMES}
    place = tmp_path_factory.mktemp("postgresql")
    return record(place, rows=60, retention="full", journals=journals, max_iterations=2)


def test_both_parties_exports_verify_replay_and_reconcile(whole: Recorded, tmp_path: Path) -> None:
    files = {
        (role, audience): whole.export(role, audience, tmp_path / f"{role}.{audience}")
        for role in NAMES
        for audience in (PARTNER, AUDITOR)
    }
    for path in files.values():
        assert verify(path).holds
    for role in NAMES:
        assert replay(files[role, AUDITOR]).same
    assert reconcile(files[BUSINESS, PARTNER], files[PROVIDER, PARTNER]).holds
    assert reconcile(files[PROVIDER, AUDITOR], files[BUSINESS, PARTNER]).holds


def test_every_task_runs_again_with_the_same_result(whole: Recorded, tmp_path: Path) -> None:
    path = whole.export(PROVIDER, AUDITOR, tmp_path / "provider.auditor")
    party = whole.party(PROVIDER)
    with reading(party) as connection:
        found = execute(path, party, connection, lambda *_: None)
    assert found.same
    assert found.tasks > 10


def on_the_server_s_disk(pieces: list[bytes]) -> list[bytes]:
    """Which of the pieces are in a file of a table or index, of any database."""
    postgres.do("CHECKPOINT")
    data = b"".join(path.read_bytes() for path in (Path(postgres.running_server()) / "data" / "base").glob("*/*"))
    return [piece for piece in pieces if piece in data]


def private_pieces(whole: Recorded, role: str) -> list[bytes]:
    """Salts, each of which is in one event alone."""
    with reading(whole.party(role)) as connection:
        return list(connection.scalars(select(events.c.salt).where(events.c.event != b"")))


def test_what_is_purged_is_gone_from_the_server_s_files_and_the_rest_is_proved_as_before(
    whole: Recorded, tmp_path: Path
) -> None:
    before = verify(whole.export(BUSINESS, PARTNER, tmp_path / "before")).ending
    pieces = private_pieces(whole, BUSINESS)
    assert len(pieces) > 50
    assert on_the_server_s_disk(pieces) == pieces
    done = purge_stopped(whole.party(BUSINESS), whole.job)
    assert done.events > 50
    assert on_the_server_s_disk(pieces) == []
    after = whole.export(BUSINESS, PARTNER, tmp_path / "after")
    assert verify(after).ending == before
    assert reconcile(after, whole.export(PROVIDER, PARTNER, tmp_path / "theirs")).holds
    with pytest.raises(AuditError, match="was purged"):
        whole.export(BUSINESS, AUDITOR, tmp_path / "auditor")


def test_a_running_daemon_purges_there_and_goes_on(whole: Recorded) -> None:
    pieces = private_pieces(whole, PROVIDER)
    assert on_the_server_s_disk(pieces) == pieces
    paths = [whole.paths[role] for role in NAMES]
    with embedded(paths), connect(load_party(whole.paths[PROVIDER])) as console:
        assert console.ask("purge", id=whole.job)["events"] > 50
        assert on_the_server_s_disk(pieces) == []
        assert console.ask("job", id=whole.job)["outcome"] == "done"
