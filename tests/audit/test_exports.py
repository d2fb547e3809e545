"""What is in an export, and above all what is not."""

import json
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from learning.solvers import history as histories
from services.audit.export_file import FRAME_BYTES_MAX, MAGIC, Entry, ExportError, ExportReader, encode_frame
from services.audit.exporting import export, reading
from services.daemon.local import connect, embedded
from services.engine.records import AuditError
from services.party.configuration import load_party
from services.store.journal_schema import blobs, events
from services.store.segments import Location, read
from tests.audit.forging import frames_of
from tests.audit.recorded import AUDITOR, BUSINESS, COLUMNS, PARTNER, PROVIDER, Recorded
from tests.privacy.search import doubles, find


def singles(values: Sequence[float]) -> set[bytes]:
    """Three neighbours as float32: one alone is so short that chance finds it in any file."""
    return {struct.pack(f"{order}3f", *values[at : at + 3]) for order in "<>" for at in range(0, len(values) - 2, 3)}


def stored(recorded: Recorded, role: str) -> list[bytes]:
    """Every blob that a party keeps of the job."""
    party = recorded.party(role)
    with reading(party) as connection:
        rows = connection.execute(select(blobs)).all()
    root = party.data_directory / "blobs"
    return [read(Location(str(root / row.segment), row.offset, row.bytes, row.sha256)) for row in rows]


def gradients(data: bytes) -> list[list[float]]:
    """Whitened gradients, weights and scales, if the blob is a local history."""
    try:
        found = histories.decode(data)
    except Exception:
        return []
    arrays = (found.whitened, found.preconditioned, found.weights, found.scales, found.centres)
    return [np.ravel(array).tolist() for array in arrays]


def telling(values: Sequence[float]) -> list[float]:
    """Numbers with so many digits that they are nobody else's."""
    return [value for value in values if len(repr(value)) > 12]


def private_values(recorded: Recorded) -> dict[str, set[bytes]]:
    """What must be in no partner's file."""
    canaries: dict[str, set[bytes]] = {"label name": {b"label_qz"}}
    for role in (BUSINESS, PROVIDER):
        party = recorded.party(role)
        table = (recorded.paths[role].parent.parent / f"{role}.csv").read_text().splitlines()[1:40]
        canaries |= {f"identifier {row}": {row.split(",")[0].encode()} for row in table}
        values = [float(row.split(",")[-1]) for row in table]
        canaries |= {f"{role} value {value}": doubles(value) for value in telling(values)}
        canaries[f"{role} column"] = singles(values)
        canaries |= {f"column {name}": {name.encode()} for name in COLUMNS[role]}
        canaries[f"path of {role}"] = {str(party.data_directory).encode(), str(recorded.paths[role].parent).encode()}
        results = party.data_directory / "results" / recorded.job / "parameters.json"
        parameters = json.loads(results.read_text())
        canaries |= {f"coefficient {name}": doubles(value) for name, value in parameters["coefficients"].items()}
        canaries["coefficient float32"] = singles(list(parameters["coefficients"].values()))
        canaries[f"parameters of {role}"] = {results.read_bytes()[:200]}
        arrays = [array for data in stored(recorded, role) for array in gradients(data)]
        numbers = {value for array in arrays for value in telling(array)}
        assert len(numbers) > 20
        canaries |= {f"{role} gradient or weight {value}": doubles(value) for value in numbers}
        canaries[f"{role} gradients"] = {one for array in arrays if telling(array) == array for one in singles(array)}
        secret = (party.data_directory / "secrets" / recorded.job).read_bytes()
        canaries[f"job secret of {role}"] = {secret}
        with reading(party) as connection:
            salts = connection.scalars(select(events.c.salt).where(events.c.event != b"")).all()
            bodies = connection.scalars(select(events.c.event).where(events.c.kind != "received")).all()
        canaries |= {f"salt {at}": {salt} for at, salt in enumerate(salts)}
        canaries |= {f"event {at}": {event[-24:]} for at, event in enumerate(bodies) if len(event) > 60}
    return canaries


def test_a_partners_file_holds_nothing_private_in_any_spelling(
    whole: Recorded, files: dict[tuple[str, str], Path]
) -> None:
    canaries = private_values(whole)
    assert len(canaries) > 300
    assert find(canaries, [files[role, PARTNER].read_bytes() for role in (BUSINESS, PROVIDER)]) == set()


def test_the_search_finds_in_an_auditors_file_what_it_does_not_find_in_a_partners(
    whole: Recorded, files: dict[tuple[str, str], Path]
) -> None:
    found = find(private_values(whole), [files[BUSINESS, AUDITOR].read_bytes()])
    assert any(name.startswith("salt") for name in found)
    assert any(name.startswith("event") for name in found)
    # Coefficients, identifiers and the job secret are in no file at all.
    assert not [name for name in found if name.startswith(("coefficient", "identifier", "job secret", "column"))]


def test_a_partners_entries_have_neither_event_nor_salt_nor_time(files: dict[tuple[str, str], Path]) -> None:
    for role in (BUSINESS, PROVIDER):
        _, entries, ending = frames_of(files[role, PARTNER])
        assert not any(entry.salt or entry.event or entry.at for entry in entries)
        assert (ending.outcome, ending.reason, ending.results) == ("", "", b"")


def test_an_export_can_be_written_while_the_daemon_runs_and_is_the_same(
    whole: Recorded, files: dict[tuple[str, str], Path], tmp_path: Path, copied
) -> None:
    place = copied()
    with embedded((place.paths[BUSINESS], place.paths[PROVIDER])), connect(load_party(place.paths[BUSINESS])):
        running = place.export(BUSINESS, AUDITOR, tmp_path / "running")
    before, after = frames_of(files[BUSINESS, AUDITOR]), frames_of(running)
    assert before[1:] == after[1:]


def test_a_file_is_for_its_owner_only_and_never_overwritten(whole: Recorded, tmp_path: Path) -> None:
    out = whole.export(PROVIDER, PARTNER, tmp_path / "out")
    before = out.read_bytes()
    assert out.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        whole.export(PROVIDER, PARTNER, out)
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_job_that_is_not_there_is_named(whole: Recorded, tmp_path: Path) -> None:
    party = whole.party(BUSINESS)
    with reading(party) as connection, pytest.raises(AuditError, match="there is no job job-7"):
        export(connection, party, "job-7", "partner", tmp_path / "out")
    assert not list(tmp_path.iterdir())


# -- hostile files -----------------------------------------------------------------------------------------------


def entries_read(path: Path) -> int:
    with ExportReader(path) as reader:
        return sum(1 for _ in reader.entries())


@given(st.binary(max_size=400))
def test_random_bytes_are_no_export(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("random") / "file"
    for content in (data, MAGIC + data):
        path.write_bytes(content)
        with pytest.raises(ExportError):
            entries_read(path)


def test_a_frame_that_claims_to_be_huge_is_not_read(files: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(MAGIC + (FRAME_BYTES_MAX + 1).to_bytes(4, "big") + bytes(100))
    with pytest.raises(ExportError, match="at most"):
        entries_read(path)


def test_a_frame_in_a_second_spelling_is_refused(files: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    opening, entries, _ = frames_of(files[BUSINESS, PARTNER])
    plain = encode_frame(entries[0])
    # The same map with its default fields written out, which the writer never does.
    import msgspec

    from messages.codec import pack

    fields = msgspec.to_builtins(entries[0], builtin_types=(bytes,)) | {"salt": b"", "event": b"", "at": 0.0}
    other = pack(fields)
    path = tmp_path / "file"
    path.write_bytes(MAGIC + encode_frame(opening) + len(other).to_bytes(4, "big") + other)
    assert isinstance(entries[0], Entry)
    assert plain[4:] != other
    with pytest.raises(ExportError, match="spelling"):
        entries_read(path)
