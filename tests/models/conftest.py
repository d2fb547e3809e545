"""A trained model that several files of this room look at."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.audit.recorded import Recorded, record


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
