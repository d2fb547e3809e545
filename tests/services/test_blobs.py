"""The blob store: bytes come back or an error does, and files go when nothing refers to them."""

import hashlib
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine

from services.store.blobs import BlobStore
from services.store.journal_schema import metadata
from services.store.segments import BlobDamaged, BlobMissing, read


@pytest.fixture
def connection():
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        metadata.create_all(connection)
        yield connection
    engine.dispose()


def _commit(store: BlobStore, connection: Connection) -> None:
    store.sync()
    connection.commit()
    store.sweep(connection)


def _files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*/*"))


def test_what_is_stored_comes_back(tmp_path, connection):
    store = BlobStore(tmp_path)
    refs = {data: store.put(connection, "job", "link.terms", data, rows=3) for data in (b"one", b"", b"x" * 70000)}
    _commit(store, connection)
    for data, ref in refs.items():
        assert (ref.sha256, ref.rows, ref.bytes) == (hashlib.sha256(data).digest(), 3, len(data))
        assert read(store.locate(connection, "job", ref.sha256)) == data


def test_a_blob_belongs_to_its_job(tmp_path, connection):
    store = BlobStore(tmp_path)
    ref = store.put(connection, "mine", "s", b"data")
    with pytest.raises(BlobMissing):
        store.locate(connection, "yours", ref.sha256)
    with pytest.raises(BlobMissing):
        store.release(connection, "yours", ref.sha256)


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_damage_on_disk_is_noticed_on_reading(tmp_path, connection, harm):
    store = BlobStore(tmp_path)
    ref = store.put(connection, "job", "s", b"precious")
    _commit(store, connection)
    location = store.locate(connection, "job", ref.sha256)
    path = Path(location.path)
    if harm == "flip":
        path.write_bytes(b"Precious")
    elif harm == "cut":
        path.write_bytes(b"prec")
    else:
        path.unlink()
    with pytest.raises(BlobDamaged) as error:
        read(location)
    assert "precious" not in str(error.value).lower()


def test_a_segment_goes_with_its_last_blob_and_not_before(tmp_path, connection):
    store = BlobStore(tmp_path)
    first, second = (store.put(connection, "job", "s", data) for data in (b"one", b"two"))
    store.refer(connection, "job", first.sha256)
    _commit(store, connection)
    for ref, left in ((first, 1), (second, 1), (first, 0)):
        store.release(connection, "job", ref.sha256)
        _commit(store, connection)
        assert len(_files(tmp_path)) == left
    with pytest.raises(BlobMissing):
        store.refer(connection, "job", first.sha256)


def test_the_same_content_is_stored_once(tmp_path, connection):
    store = BlobStore(tmp_path)
    refs = {store.put(connection, "job", "s", b"same" * 100).sha256 for _ in range(5)}
    _commit(store, connection)
    assert len(refs) == 1
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*")) == 400


def test_segments_are_bounded(tmp_path, connection):
    store = BlobStore(tmp_path, segment_bytes_max=1000)
    for number in range(10):
        store.put(connection, "job", "s", bytes([number]) * 400)
    _commit(store, connection)
    assert len(_files(tmp_path)) == 4


def test_a_rollback_leaves_the_store_as_it_was(tmp_path, connection):
    store = BlobStore(tmp_path)
    kept = store.put(connection, "job", "s", b"kept")
    _commit(store, connection)
    lost = store.put(connection, "job", "s", b"lost")
    store.release(connection, "job", kept.sha256)
    connection.rollback()
    store.sweep(connection)
    with pytest.raises(BlobMissing):
        store.locate(connection, "job", lost.sha256)
    after = store.put(connection, "job", "s", b"after")
    _commit(store, connection)
    for ref, data in ((kept, b"kept"), (after, b"after")):
        assert read(store.locate(connection, "job", ref.sha256)) == data


def test_recovery_removes_what_no_commit_names(tmp_path, connection):
    store = BlobStore(tmp_path)
    kept = store.put(connection, "job", "s", b"kept")
    _commit(store, connection)
    store.put(connection, "job", "other", b"lost")
    store.put(connection, "young", "s", b"lost")
    connection.rollback()
    store.close()
    again = BlobStore(tmp_path)
    assert again.recover(connection) == 2
    assert read(again.locate(connection, "job", kept.sha256)) == b"kept"
    assert not (tmp_path / "young").exists()


def test_a_released_job_keeps_only_what_is_named(tmp_path, connection):
    store = BlobStore(tmp_path)
    refs = [store.put(connection, "job", f"s{number}", bytes([number])) for number in range(5)]
    other = store.put(connection, "other", "s", b"\x00")
    _commit(store, connection)
    store.retain(connection, "job", {refs[2].sha256: 2})
    _commit(store, connection)
    assert len(_files(tmp_path)) == 2
    store.release(connection, "job", refs[2].sha256)
    store.release(connection, "job", refs[2].sha256)
    _commit(store, connection)
    assert read(store.locate(connection, "other", other.sha256)) == b"\x00"
    assert len(_files(tmp_path)) == 1


def test_files_are_for_their_owner_only(tmp_path, connection):
    store = BlobStore(tmp_path / "blobs")
    (tmp_path / "blobs").mkdir(mode=0o700)
    store.put(connection, "job", "s", b"data")
    for path in (tmp_path / "blobs").glob("*/*"):
        assert path.stat().st_mode & 0o077 == 0
        assert path.parent.stat().st_mode & 0o077 == 0


_STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "refer", "release", "commit", "rollback", "restart"]), st.integers(0, 4)),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(_STEPS)
def test_any_order_of_stores_releases_rollbacks_and_restarts_keeps_exactly_what_is_referred_to(steps):
    engine = create_engine("sqlite://")
    with tempfile.TemporaryDirectory() as folder, engine.connect() as connection:
        directory = Path(folder)
        metadata.create_all(connection)
        connection.commit()
        store = BlobStore(directory, segment_bytes_max=64)
        committed: Counter[int] = Counter()
        model: Counter[int] = Counter()
        bodies = {number: bytes([number]) * (20 + number * 7) for number in range(5)}
        digests = {number: hashlib.sha256(body).digest() for number, body in bodies.items()}
        for step, number in steps:
            if step == "put":
                store.put(connection, "job", f"s{number % 2}", bodies[number])
                model[number] += 1
            elif step in ("refer", "release"):
                change = store.refer if step == "refer" else store.release
                if model[number]:
                    change(connection, "job", digests[number])
                    model[number] += 1 if step == "refer" else -1
                else:
                    with pytest.raises(BlobMissing):
                        change(connection, "job", digests[number])
            elif step == "commit":
                _commit(store, connection)
                committed = Counter(model)
            else:
                connection.rollback()
                model = Counter(committed)
                if step == "restart":
                    store.close()
                    store = BlobStore(directory, segment_bytes_max=64)
                    store.recover(connection)
            for key, body in bodies.items():
                if model[key]:
                    assert read(store.locate(connection, "job", digests[key])) == body
        connection.rollback()
        store.close()
        store.recover(connection)
        if not +committed:
            assert _files(directory) == []
    engine.dispose()
