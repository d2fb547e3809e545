"""Every task of a recorded job, run again on the party's own data: the same to the bit, or named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.audit.executing import Execution, execute
from services.audit.export_file import Entry
from services.audit.exporting import reading
from services.engine.records import AuditError
from services.store import chain
from tests.audit.forging import forge, frames_of
from tests.audit.recorded import AUDITOR, BUSINESS, PROVIDER, Recorded, record
from tests.audit.test_replay import other_output, other_range

Files = dict[tuple[str, str], Path]


def run_again(recorded: Recorded, role: str, path: Path, watch: Callable[..., Any] = lambda *_: None) -> Execution:
    party = recorded.party(role)
    with reading(party) as connection:
        return execute(path, party, connection, watch)


def tree(directory: Path) -> dict[str, bytes]:
    """Every file below a directory; SQLite's own scratch files come and go."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


@pytest.mark.parametrize("role", [BUSINESS, PROVIDER])
def test_every_task_body_and_integer_comes_out_again_and_nothing_is_changed(
    whole: Recorded, files: Files, role: str
) -> None:
    seen: list[tuple[int, int, str]] = []
    before = tree(whole.party(role).data_directory)
    done = run_again(whole, role, files[role, AUDITOR], lambda *step: seen.append(step))
    assert done.same, (done.differences, done.replay.difference)
    _, entries, _ = frames_of(files[role, AUDITOR])
    assert done.tasks == sum(entry.kind == chain.COMPUTED for entry in entries) == len(seen) == seen[0][1]
    assert done.bodies == done.replay.bulk > 20
    assert done.arrivals == sum(entry.kind == chain.RECEIVED for entry in entries)
    assert done.blobs > 20
    assert tree(whole.party(role).data_directory) == before


def test_a_job_on_prepared_columns_comes_out_again_as_well(tmp_path: Path) -> None:
    raw = record(tmp_path / "raw", rows=60, retention="full", max_iterations=1, prepared=True)
    for role in (BUSINESS, PROVIDER):
        done = run_again(raw, role, raw.export(role, AUDITOR, tmp_path / role))
        assert done.same, (done.differences, done.replay.difference)
        document = json.loads((raw.party(role).data_directory / "results" / raw.job / "parameters.json").read_text())
        assert len(document["coefficients"]) == 4
        assert document["preparation"]["columns"][0]["steps"][0]["step"] == "filled"


@pytest.mark.parametrize(
    ("role", "change", "named"),
    [
        (BUSINESS, other_range, "the recorded content of score.range"),
        (BUSINESS, other_output("link.plan", stretch=9.0), "task link.plan/1 gives other values: stretch"),
        (PROVIDER, other_output("score", bound=64.0), "task score/1 gives other values: bound"),
        (PROVIDER, other_output("link.evaluate", terms=2), "task link.evaluate/1/0 gives other values: terms"),
        (PROVIDER, other_output("results", constant=0.125), "task results gives other values: constant"),
    ],
)
def test_a_changed_value_in_the_journal_names_the_first_task_that_differs(
    whole: Recorded,
    files: Files,
    tmp_path: Path,
    role: str,
    change: Callable[[list[Entry]], list[Entry]],
    named: str,
) -> None:
    path = forge(files[role, AUDITOR], tmp_path / "forged", whole.party(role).identity, change)
    done = run_again(whole, role, path)
    assert not done.same
    assert named in done.differences[0]


def test_one_byte_of_the_snapshot_names_the_first_task_that_reads_it(
    copied: Callable[[], Recorded], files: Files
) -> None:
    place = copied()
    for role, stream, named in (
        (BUSINESS, "started-*", "the snapshot of the own table is not what was stored"),
        (PROVIDER, "admit-*", "task admit: blob 1 is not what was stored"),
    ):
        (segment,) = (place.party(role).data_directory / "blobs" / place.job).glob(stream)
        data = bytearray(segment.read_bytes())
        data[len(data) // 2] ^= 1
        segment.write_bytes(data)
        done = run_again(place, role, files[role, AUDITOR])
        assert named in done.differences[0]
        assert any(text.startswith("task align.mask/0: input 1 is not what was stored") for text in done.differences)


def test_one_byte_of_the_data_file_names_the_task_that_read_it(copied: Callable[[], Recorded], files: Files) -> None:
    place = copied()
    party_file = place.paths[PROVIDER]
    source = party_file.parent / "copy.csv"
    original = Path(place.party(PROVIDER).datasets["features"]["source"])
    text = original.read_text()
    party_file.write_text(party_file.read_text().replace(str(original), str(source)))
    source.write_text(text)
    assert run_again(place, PROVIDER, files[PROVIDER, AUDITOR]).same
    at = text.index("\n", len(text) // 2) - 1
    source.write_text(text[:at] + ("1" if text[at] != "1" else "2") + text[at + 1 :])
    done = run_again(place, PROVIDER, files[PROVIDER, AUDITOR])
    assert done.differences[0].startswith("task admit gives other values: data_digest; is ")
    assert str(source) in done.differences[0]
    # The tasks after it work on the snapshot that was kept, and come out as they did.
    assert len(done.differences) == 1


def test_another_secret_names_the_first_task_that_used_it(copied: Callable[[], Recorded], files: Files) -> None:
    place = copied()
    secret = place.party(BUSINESS).data_directory / "secrets" / place.job
    secret.write_bytes(bytes(32))
    assert run_again(place, BUSINESS, files[BUSINESS, AUDITOR]).differences[0].startswith("task align.mask/0: blob 1")


def test_a_body_that_the_partner_did_not_seal_is_named(copied: Callable[[], Recorded], files: Files) -> None:
    place = copied()
    for segment in (place.party(BUSINESS).data_directory / "blobs" / place.job).glob("residual.share-*"):
        segment.unlink()
    done = run_again(place, BUSINESS, files[BUSINESS, AUDITOR])
    assert "the sealed body of residual.share sequence" in done.differences[0]
    assert "missing" in done.differences[0]


def test_another_partys_file_is_refused(whole: Recorded, files: Files) -> None:
    with pytest.raises(AuditError, match="is the export of provider-a"):
        run_again(whole, BUSINESS, files[PROVIDER, AUDITOR])


def test_a_job_of_digests_cannot_be_run_again_and_says_so(tmp_path: Path) -> None:
    plain = record(tmp_path, rows=60, max_iterations=1)
    path = plain.export(BUSINESS, AUDITOR, tmp_path / "file")
    with pytest.raises(AuditError, match="needs a contract with retention full"):
        run_again(plain, BUSINESS, path)
    for role in (BUSINESS, PROVIDER):
        directory = plain.party(role).data_directory
        assert not list((directory / "secrets").iterdir())
        assert {path.name.rsplit("-", 1)[0] for path in (directory / "blobs").glob("*/*")} == {"results"}


def test_a_former_release_does_not_change_what_the_match_decided(copied: Callable[[], Recorded], files: Files) -> None:
    place = copied()
    ledger = place.party(BUSINESS).data_directory / "ledger" / "provider-a"
    (booked,) = ledger.glob("*.npz")
    # A later job on the same rows: it was not there when the match was decided.
    (ledger / "later-job.npz").write_bytes(booked.read_bytes())
    assert run_again(place, BUSINESS, files[BUSINESS, AUDITOR]).same
