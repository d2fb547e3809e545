"""What a daemon reads back from its own disk: blobs in segment files, and the snapshot of a table.

An input is where a blob is said to lie (two numbers of 8 bytes, signed), whether its digest is right, and the
segment's content.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Final

import msgpack
import msgspec
import numpy as np

from learning.columns.preparation import Impute, OneHot, declare
from services.store.segments import BlobDamaged, Location, read
from services.tables.snapshot import SnapshotDamaged, pack_snapshot, unpack_snapshot
from services.tables.table import Table
from tests.fuzz.oracle import bounded_memory, check_text, temporary_folder
from tests.fuzz.values import NUMBERS, changed_map

MODULES: Final = ("services/store/segments.py", "services/tables/snapshot.py")
HELD: Final = False  # a read that the system cuts short is no matter of the input
INPUT_BYTES_MAX: Final = 4096

_FOLDER: Final = temporary_folder("fuzz-stored-")


def head(offset: int, size: int, right: bool = True) -> bytes:
    return offset.to_bytes(8, "big", signed=True) + size.to_bytes(8, "big", signed=True) + bytes([right])


def seeds() -> Iterator[bytes]:
    table = Table(
        identifiers=["u", "v"],
        columns=("a", "b"),
        values=np.array([[1.0, 2.0], [3.0, 4.0]]),
        label=np.array([0.0, 1.0]),
    )
    prepared = Table(
        identifiers=["u", "v"],
        columns=("a", "b"),
        values=np.array([[1.0, 0.0], [np.nan, 1.0]]),
        preparation=declare({"a": (Impute(by="mean"),), "b": (OneHot(categories=("p", "q")),)}, ("a", "b")),
        categories=(None, ("p", "q")),
    )
    for changed in (table, prepared, Table(identifiers=["u"], columns=("a",), values=np.array([[1.0]]))):
        data = pack_snapshot(changed)
        yield head(0, len(data)) + data
        yield head(7, len(data)) + bytes(7) + data
        yield head(0, len(data), right=False) + data
        yield head(0, len(data) + 1) + data
    for offset, size in ((-1, 5), (0, -1), (0, 2**62), (2**62, 5), (0, 2**40), (3, 0)):
        yield head(offset, size) + b"segment"
    yield head(0, 1)
    yield bytes(5)


def mutate(data: bytes, size_max: int, chance: Random, plain: Callable[[bytes, int], bytes]) -> bytes:
    pick = chance.randrange(4)
    if pick == 0:
        return plain(data, size_max)
    if pick == 1:
        numbers = [min(chance.choice(NUMBERS), 2**63 - 1) for _ in range(2)]
        return head(*numbers, chance.randrange(2) == 0) + data[17:]
    with suppress(ValueError, TypeError, OverflowError, AssertionError, msgpack.UnpackException):
        fields: Any = msgpack.unpackb(data[17:])
        assert isinstance(fields, dict)
        body = msgpack.packb(changed_map(fields, chance))
        return head(0, len(body)) + body
    body = plain(data[17:], max(1, size_max - 17))
    return head(0, len(body)) + body


def fuzz_one(data: bytes) -> None:
    offset, size = (int.from_bytes(data[at : at + 8], "big", signed=True) for at in (0, 8))
    right, content = bool(data[16:17] and data[16] & 1), data[17:]
    path = Path(_FOLDER.name) / "segment"
    path.unlink(missing_ok=True)
    if content:
        path.write_bytes(content)
    there = 0 <= offset <= offset + size <= len(content) and size >= 0
    found = content[offset : offset + size] if there else b"another blob"
    location = Location(str(path), offset, size, hashlib.sha256(found).digest() if right else bytes(32))
    with bounded_memory():
        try:
            blob = read(location)
        except BlobDamaged as error:
            assert not (there and right and content)
            check_text(str(error), modules=MODULES, names=(str(path), str(offset)), chars_max=300)
            return
        assert blob == found
        assert right
        _snapshot(blob)


def _snapshot(blob: bytes) -> None:
    try:
        snapshot = unpack_snapshot(blob)
        values = snapshot.matrix()
        labels = None if snapshot.label is None else snapshot.labels()
    except SnapshotDamaged as error:
        check_text(str(error), modules=MODULES, chars_max=300)
        return
    assert values.shape == (len(snapshot.identifiers), len(snapshot.columns))
    assert labels is None or labels.shape == (len(snapshot.identifiers),)
    table = Table(
        identifiers=snapshot.identifiers,
        columns=tuple(snapshot.columns),
        values=values,
        label=labels,
        preparation=snapshot.preparation,
        categories=snapshot.source().categories if snapshot.categories else (),
    )
    assert msgspec.structs.asdict(unpack_snapshot(pack_snapshot(table))) == msgspec.structs.asdict(snapshot)
