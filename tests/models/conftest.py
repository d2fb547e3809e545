"""A trained model that several files of this room look at."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.audit.recorded import BUSINESS, PROVIDER, Recorded, record


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A small logistic model, trained by two daemons."""
    return record(tmp_path_factory.mktemp("trained"), rows=90, max_iterations=2)


@pytest.fixture
def copied(trained: Recorded, tmp_path: Path) -> Callable[[], Recorded]:
    """Makes a copy of the parties for a test that changes something."""

    def copy() -> Recorded:
        paths = {}
        for role, path in trained.paths.items():
            shutil.copytree(path.parent, tmp_path / role)
            paths[role] = tmp_path / role / path.name
        return Recorded(trained.job, paths)

    return copy


@pytest.fixture
def model(copied: Callable[[], Recorded], trained: Recorded, tmp_path: Path) -> Recorded:
    """A copy of the trained model's parties; the tables beside them, where their configuration looks."""
    found = copied()
    for role in (BUSINESS, PROVIDER):
        source = trained.paths[role].parent.parent / f"{role}.csv"
        (tmp_path / f"{role}.csv").write_bytes(source.read_bytes())
        text = found.paths[role].read_text()
        found.paths[role].write_text(text.replace(str(source), str(tmp_path / f"{role}.csv")))
    return found
