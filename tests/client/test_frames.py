"""Frames in: pandas comes out as polars would have it."""

import stat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from services.client import BusinessClient, JointEstimator
from services.client.frames import FrameError, polars_frame, written
from services.daemon.control import ControlError

FRAME = pl.DataFrame({"id": ["007", "7", "x"], "a": [1.5, None, -2.0], "n": [1, 2, 3], "c": ["u", None, "v"]})


def test_polars_stays_as_it_is() -> None:
    assert polars_frame(FRAME, "id") is FRAME
    assert_frame_equal(polars_frame(FRAME.lazy(), "id"), FRAME)


@pytest.mark.parametrize("dtype", [None, "string", "category"])
def test_pandas_comes_as_polars_would_have_it(dtype: str | None) -> None:
    frame = pd.DataFrame({"id": ["007", "7", "x"], "a": [1.5, np.nan, -2.0], "n": [1, 2, 3], "c": ["u", None, "v"]})
    if dtype:
        frame["c"] = frame["c"].astype(dtype)
    assert_frame_equal(polars_frame(frame, "id"), FRAME)
    assert_frame_equal(polars_frame(frame.set_index("id"), "id"), FRAME)


def test_pandas_numbers_that_may_be_missing_are_numbers() -> None:
    frame = pd.DataFrame({"id": ["u", "v"], "k": pd.array([1, None], dtype="Int64"), "b": [True, False]})
    found = polars_frame(frame, "id")
    assert found["k"].to_list() == [1, None]
    assert found["b"].to_list() == [True, False]


def test_whole_and_other_numbers_in_one_column_are_numbers() -> None:
    frame = pd.DataFrame({"id": ["u", "v", "w"], "k": pd.Series([1, 2.5, None], dtype=object)})
    assert polars_frame(frame, "id")["k"].to_list() == [1.0, 2.5, None]


def test_columns_of_one_name_are_refused_and_none_is_lost() -> None:
    with pytest.raises(FrameError, match="two columns 'a'"):
        polars_frame(pd.DataFrame([["u", 1, 2]], columns=["id", "a", "a"]), "id")
    with pytest.raises(FrameError, match="two columns '0'"):
        polars_frame({"id": ["u"], 0: [1], "0": [2]}, "id")


def test_columns_of_other_lengths_are_refused_by_name() -> None:
    with pytest.raises(FrameError, match="column 'y' has 3 rows, column 'id' 2"):
        polars_frame({"id": ["u", "v"], "y": [0, 1, 1]}, "id")


@pytest.mark.parametrize("cell", [object(), 1j])
def test_a_column_of_objects_is_refused_by_name(cell: object, tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="column 'k'"):
        polars_frame({"id": ["u"], "k": [cell]}, "id")
    with (
        pytest.raises(FrameError, match="column 'k'"),
        written(FRAME.with_columns(pl.Series("k", [cell] * 3, dtype=pl.Object)), tmp_path),
    ):
        pass


def test_what_the_daemon_says_of_the_file_it_says_of_the_frame(tmp_path: Path) -> None:
    with (
        pytest.raises(ControlError, match=r"^the frame, column 'k': has the type Date"),
        written(FRAME, tmp_path) as path,
    ):
        raise ControlError("column_type", f"{path}, column 'k': has the type Date")


def test_columns_by_name_are_a_frame() -> None:
    found = polars_frame({"id": ["u", "v"], "a": np.array([1.0, np.nan])}, "id")
    assert found["a"].to_list() == [1.0, None]


@pytest.mark.parametrize("wrong", [[1, 2], "text", None, np.zeros((2, 2)), pd.Series([1.0]), pl.Series([1.0])])
def test_what_is_no_frame_is_refused(wrong: Any) -> None:
    with pytest.raises(FrameError, match="polars or pandas frame"):
        polars_frame(wrong, "id")


def test_a_column_of_several_kinds_is_refused_by_name() -> None:
    with pytest.raises(FrameError, match="column 'a'") as caught:
        polars_frame(pd.DataFrame({"id": ["u", "v"], "a": ["secret", 2.5]}), "id")
    assert "secret" not in str(caught.value)


def test_a_written_frame_is_its_owner_s_and_goes_away(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), written(FRAME, tmp_path) as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert_frame_equal(pl.read_parquet(path), FRAME)
        raise RuntimeError
    assert not path.exists()


def test_an_estimator_names_what_its_rows_lack_before_it_asks_anybody(tmp_path: Path) -> None:
    """There is no daemon in `tmp_path`."""
    estimator = JointEstimator(BusinessClient(tmp_path))
    with pytest.raises(FrameError, match="2 labels for 3 rows"):
        estimator.fit(FRAME, [0, 1])
    estimator.feature_names_in_ = np.array(["a", "gone"], dtype=object)
    estimator.model_ = None  # type: ignore[assignment]
    with pytest.raises(FrameError, match="column 'gone'"):
        estimator.predict(FRAME)
