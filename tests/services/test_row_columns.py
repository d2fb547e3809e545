"""Weights, exposures and offsets of rows: read, refused with the line, and never taken for features."""

from pathlib import Path

import numpy as np
import pytest

from services.daemon.job_file import with_class_weights
from services.party.configuration import ConfigError
from services.tables.row_columns import RowColumns, class_weights
from services.tables.snapshot import pack_snapshot, unpack_snapshot
from services.tables.table import Table, TableError, data_digest, read_table

HEAD = "id,y,w,e,o,x"
ROWS = ("a,0,1,0.5,0.1,3", "b,1,2,1,-0.2,4", "c,3,0,2,0,5")


def read(directory: Path, beside: RowColumns, *, rows: tuple[str, ...] = ROWS, task: str = "poisson") -> Table:
    path = directory / "table.csv"
    path.write_text("\n".join([HEAD, *rows]) + "\n")
    return read_table(path, identifier="id", label="y", task=task, beside=beside)


ALL = RowColumns(weight="w", exposure="e", offset="o")


def test_columns_beside_are_read_and_are_no_features(tmp_path: Path) -> None:
    table = read(tmp_path, ALL)
    assert table.columns == ("x",)
    assert table.weight is not None
    assert table.weight.tolist() == [1.0, 2.0, 0.0]
    assert np.allclose(table.offset, np.add(np.log([0.5, 1.0, 2.0]), [0.1, -0.2, 0.0]))
    targets = unpack_snapshot(pack_snapshot(table)).targets()
    assert targets.weights.tolist() == table.weight.tolist()
    assert targets.offsets.tolist() == table.offset.tolist()  # type: ignore[union-attr]
    assert data_digest(table) != data_digest(read(tmp_path, RowColumns(weight="w", exposure="e")))


def test_a_table_without_them_keeps_the_bytes_of_its_snapshot(tmp_path: Path) -> None:
    packed = pack_snapshot(read(tmp_path, RowColumns()))
    assert b"weight" not in packed
    assert unpack_snapshot(packed).targets().weight is None


@pytest.mark.parametrize(
    ("beside", "cell", "code"),
    [
        (RowColumns(weight="w"), ("a,0,-1,1,0,3",), "row_column_unfit"),
        (RowColumns(weight="w"), ("a,0,0,1,0,3",), "row_column_unfit"),
        (RowColumns(exposure="e"), ("a,0,1,0,0,3",), "row_column_unfit"),
        (RowColumns(offset="o"), ("a,0,1,1,,3",), "value_missing"),
        (RowColumns(weight="nowhere"), (), "row_column_missing"),
        (RowColumns(weight="y"), (), "column_reserved"),
        (RowColumns(weight="w", offset="w"), (), "column_reserved"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, beside: RowColumns, cell: tuple[str, ...], code: str) -> None:
    rest = ROWS[1:] if "a,0,0,1,0,3" not in cell else ("b,1,0,2,1,4", "c,2,0,3,2,5")
    with pytest.raises(TableError) as caught:
        read(tmp_path, beside, rows=(*cell, *rest) if cell else ROWS)
    assert caught.value.code == code


def test_an_exposure_belongs_to_a_log_link(tmp_path: Path) -> None:
    with pytest.raises(TableError) as caught:
        read(tmp_path, RowColumns(exposure="e"), task="linear")
    assert caught.value.code == "row_column_unfit"


def test_balanced_classes_weigh_alike_and_named_ones_as_said() -> None:
    label = np.array([0.0, 0.0, 0.0, 1.0])
    weights = class_weights(label, "balanced")
    assert weights is not None
    assert weights[label == 0].sum() == pytest.approx(weights[label == 1].sum())
    assert weights.sum() == pytest.approx(4.0)
    named = class_weights(label, {"0": 1.0, "1": 2.5})
    assert named is not None
    assert named.tolist() == [1.0, 1.0, 1.0, 2.5]
    with pytest.raises(TableError):
        class_weights(label, {"0": 1.0})
    assert class_weights(label, "") is None


def test_class_weights_are_for_tasks_with_classes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        with_class_weights(read(tmp_path, RowColumns()), "poisson", "balanced")
