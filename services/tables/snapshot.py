"""The snapshot of an input table: what a job works on, whatever happens to the file afterwards."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgpack
import msgspec
import numpy as np
from numpy.typing import NDArray

from learning.columns.preparation import Preparation
from learning.columns.preparing import SourceTable
from learning.links.targets import Targets
from learning.solvers.warm import Start
from services.tables.row_columns import NOTHING_BESIDE, RowColumns
from services.tables.table import Table


class SnapshotDamaged(ValueError):
    """Bytes that are no snapshot. The text shows none of them."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A table as bytes: `values` and `label` are little-endian float64, row-major.

    With a `preparation`, `columns` and `values` are the source's, and `categories` has the texts that values are
    places in, as in `services.tables.Table`. `beside`: names of the columns that offsets are made of. `start`: where
    training begins, of several classes `starts`.
    """

    identifiers: list[str]
    columns: list[str]
    values: bytes
    label: bytes | None = None
    preparation: Preparation | None = None
    categories: list[list[str] | None] = []
    weight: bytes = b""
    offset: bytes = b""
    start: Start | None = None
    classes: list[str] = []
    beside: RowColumns = NOTHING_BESIDE
    starts: list[Start] = []

    def source(self) -> SourceTable:
        """The rows as a preparation takes them."""
        texts = self.categories or [None] * len(self.columns)
        return SourceTable(
            columns=tuple(self.columns),
            values=self.matrix(),
            categories=tuple(None if column is None else tuple(column) for column in texts),
        )

    def matrix(self) -> NDArray[np.float64]:
        """Values, shape (rows, columns)."""
        flat = np.frombuffer(self.values, dtype="<f8")
        return flat.reshape(len(self.identifiers), len(self.columns))

    def labels(self) -> NDArray[np.float64]:
        """Labels, shape (rows,)."""
        assert self.label is not None
        return np.frombuffer(self.label, dtype="<f8")

    def weights(self) -> NDArray[np.float64] | None:
        """Weights of the rows, shape (rows,), if they have any."""
        return np.frombuffer(self.weight, dtype="<f8") if self.weight else None

    def targets(self) -> Targets:
        """Labels with weights and offsets of all rows."""
        offset = np.frombuffer(self.offset, dtype="<f8") if self.offset else None
        return Targets(np.array(self.labels()), self.weights(), offset)


LATER_FIELDS: Final = frozenset(
    {"preparation", "categories", "weight", "offset", "start", "classes", "beside", "starts"}
)
"""Fields that came after the first snapshots: left out at their default, so that a snapshot without them keeps its
bytes."""


def pack_snapshot(table: Table, starts: Sequence[Start] = ()) -> bytes:
    """The snapshot's bytes; `starts`: the own parameters that training begins with, of several classes each one's."""
    snapshot = Snapshot(
        identifiers=list(table.identifiers),
        columns=list(table.columns),
        values=np.ascontiguousarray(table.values, dtype="<f8").tobytes(),
        label=None if table.label is None else np.ascontiguousarray(table.label, dtype="<f8").tobytes(),
        preparation=table.preparation,
        categories=[None if texts is None else list(texts) for texts in table.categories],
        weight=_bytes_of(table.weight),
        offset=_bytes_of(table.offset),
        start=starts[0] if len(starts) == 1 else None,
        starts=list(starts) if len(starts) > 1 else [],
        classes=list(table.classes),
        beside=table.beside.shifts,
    )
    said = {name: getattr(snapshot, name) for name in snapshot.__struct_fields__}
    nothing: tuple[object, ...] = (None, b"", [], NOTHING_BESIDE)
    return msgspec.msgpack.encode(
        {name: value for name, value in said.items() if value not in nothing or name not in LATER_FIELDS}
    )


def pack_identifiers(identifiers: list[str]) -> bytes:
    """A snapshot that has identifiers only: scoring needs no more once own scores are computed."""
    return msgspec.msgpack.encode(Snapshot(identifiers=identifiers, columns=[], values=b""))


def _bytes_of(values: NDArray[np.float64] | None) -> bytes:
    return b"" if values is None else np.ascontiguousarray(values, dtype="<f8").tobytes()


def unpack_snapshot(data: bytes) -> Snapshot:
    """The inverse of `pack_snapshot`. Raises SnapshotDamaged."""
    with _reading():
        snapshot = msgspec.msgpack.decode(data, type=Snapshot)
    rows, columns = len(snapshot.identifiers), len(snapshot.columns)
    if len(snapshot.values) != 8 * rows * columns or (snapshot.label is not None and len(snapshot.label) != 8 * rows):
        raise SnapshotDamaged("the snapshot of the table has another size than its rows and columns: submit it again")
    if any(part and len(part) != 8 * rows for part in (snapshot.weight, snapshot.offset)):
        raise SnapshotDamaged("the snapshot of the table has other weights than rows: submit the job again")
    if not _places_fit(snapshot):
        raise SnapshotDamaged("the snapshot of the table has categories that it does not name: submit the job again")
    return snapshot


class _IdentifiersOnly(msgspec.Struct, frozen=True):
    identifiers: msgspec.Raw


class IdentifierChunks:
    """The identifiers of a snapshot, `items` at a time: where each chunk begins is found once, and no more is kept.

    Raises SnapshotDamaged, as `chunk` does.
    """

    def __init__(self, data: bytes, items: int) -> None:
        self._items = items
        with _reading():
            raw = memoryview(msgspec.msgpack.decode(data, type=_IdentifiersOnly).identifiers)
            walk = msgpack.Unpacker(max_buffer_size=0, max_str_len=len(raw))
            walk.feed(raw)
            self._rows = walk.read_array_header()
            self._begins = []
            for row in range(self._rows):
                if row % items == 0:
                    self._begins.append(walk.tell())
                walk.skip()
            self._begins.append(walk.tell())

    def chunk(self, data: bytes, number: int) -> list[str]:
        """The identifiers of a chunk, from 0, of the snapshot that this was made of."""
        count = min(self._items, self._rows - number * self._items)
        if count <= 0:
            return []
        with _reading():
            raw = memoryview(msgspec.msgpack.decode(data, type=_IdentifiersOnly).identifiers)
            part = b"\xdd" + count.to_bytes(4, "big") + raw[self._begins[number] : self._begins[number + 1]]
            return msgspec.msgpack.decode(part, type=list[str])


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (msgspec.MsgspecError, ValueError, RecursionError, msgpack.UnpackException):
        raise SnapshotDamaged("the snapshot of the table cannot be read: submit the job again") from None


def _places_fit(snapshot: Snapshot) -> bool:
    """Whether every place of a category is one of its column's."""
    if not snapshot.categories:
        return True
    if len(snapshot.categories) != len(snapshot.columns):
        return False
    values = snapshot.matrix()
    for place, texts in enumerate(snapshot.categories):
        if texts is not None:
            known = values[~np.isnan(values[:, place]), place]
            if not bool(np.isin(known, np.arange(len(texts))).all()):
                return False
    return True
