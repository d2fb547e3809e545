"""The model does not depend on what computed it: back end, threads, size of the chunks."""

from pathlib import Path

import pytest

from kernel import library
from tests.services.test_job_machines import ROWS, parameters, stage


def model(directory: Path, path: str | None, threads: int, chunk_rows: int) -> list[bytes]:
    """Both parties' target parameters, every task of the job being run on this back end."""
    directory.mkdir()
    with library.using(path):
        pair = stage(directory, 5, chunk_rows_max=chunk_rows)
        for side in pair.sides:
            side.settings["threads"] = threads
        pair.run()
    return parameters(pair)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return model(tmp_path_factory.mktemp("reference") / "job", None, 1, 30)


@pytest.mark.parametrize("chunk_rows", [1, 30, ROWS])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("path", [None, *library.paths()])
def test_every_back_end_number_of_threads_and_size_of_chunk_gives_the_same_bytes(
    tmp_path: Path, expected: list[bytes], path: str | None, threads: int, chunk_rows: int
) -> None:
    assert model(tmp_path / "job", path, threads, chunk_rows) == expected
