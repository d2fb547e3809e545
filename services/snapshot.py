"""The snapshot of an input table: what a job works on, whatever happens to the file afterwards."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.tables import Table


class SnapshotDamaged(ValueError):
    """Bytes that are no snapshot. The text shows none of them."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A table as bytes: `values` and `label` are little-endian float64, row-major."""

    identifiers: list[str]
    columns: list[str]
    values: bytes
    label: bytes | None = None

    def matrix(self) -> NDArray[np.float64]:
        """Values, shape (rows, columns)."""
        flat = np.frombuffer(self.values, dtype="<f8")
        return flat.reshape(len(self.identifiers), len(self.columns))

    def labels(self) -> NDArray[np.float64]:
        """Labels, shape (rows,)."""
        assert self.label is not None
        return np.frombuffer(self.label, dtype="<f8")


def pack_snapshot(table: Table) -> bytes:
    """The snapshot's bytes."""
    return msgspec.msgpack.encode(
        Snapshot(
            identifiers=list(table.identifiers),
            columns=list(table.columns),
            values=np.ascontiguousarray(table.values, dtype="<f8").tobytes(),
            label=None if table.label is None else np.ascontiguousarray(table.label, dtype="<f8").tobytes(),
        )
    )


def unpack_snapshot(data: bytes) -> Snapshot:
    """The inverse of `pack_snapshot`. Raises SnapshotDamaged."""
    try:
        snapshot = msgspec.msgpack.decode(data, type=Snapshot)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise SnapshotDamaged("the snapshot of the table cannot be read: submit the job again") from None
    rows, columns = len(snapshot.identifiers), len(snapshot.columns)
    if len(snapshot.values) != 8 * rows * columns or (snapshot.label is not None and len(snapshot.label) != 8 * rows):
        raise SnapshotDamaged("the snapshot of the table has another size than its rows and columns: submit it again")
    return snapshot
