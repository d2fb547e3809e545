"""Identifiers of a snapshot are read a chunk at a time: the same as in the whole, and no damage is passed over."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tables.snapshot import IdentifierChunks, SnapshotDamaged, pack_identifiers, unpack_snapshot


@given(st.lists(st.text(max_size=300), max_size=40), st.integers(1, 12))
def test_chunks_are_the_identifiers_of_the_whole_snapshot_in_order(names: list[str], items: int) -> None:
    data = pack_identifiers(names)
    chunks = IdentifierChunks(data, items)
    whole = unpack_snapshot(data).identifiers
    found = [chunks.chunk(data, number) for number in range(len(names) // items + 2)]
    assert found == [whole[number * items : (number + 1) * items] for number in range(len(names) // items + 2)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode({"columns": []}),
        msgspec.msgpack.encode({"identifiers": "zoe"}),
        msgspec.msgpack.encode({"identifiers": ["zoe", 7]}),
        msgspec.msgpack.encode({"identifiers": ["zoe", "bob"]}).replace(b"bob", b"b\xff\xff"),
        msgspec.msgpack.encode({"identifiers": ["zoe", "bob"]})[:-1],
    ],
)
def test_a_damaged_snapshot_is_refused_and_shows_nothing_of_itself(data: bytes) -> None:
    with pytest.raises(SnapshotDamaged) as refused:
        IdentifierChunks(data, 2).chunk(data, 0)
    assert "zoe" not in str(refused.value)
