"""Jobs that several files of this room look at: run once, copied by who changes them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.audit.recorded import AUDITOR, BUSINESS, PARTNER, PROVIDER, Recorded, record


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A job with retention `full`: 300 rows, 3 iterations."""
    return record(tmp_path_factory.mktemp("whole"), rows=300, retention="full")


@pytest.fixture(scope="session")
def files(whole: Recorded, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Its exports, by role and audience."""
    directory = tmp_path_factory.mktemp("exports")
    return {
        (role, audience): whole.export(role, audience, directory / f"{role}.{audience}")
        for role in (BUSINESS, PROVIDER)
        for audience in (PARTNER, AUDITOR)
    }


@pytest.fixture
def copied(whole: Recorded, tmp_path: Path) -> Callable[[], Recorded]:
    """Makes a copy of the whole job's directories for a test that changes something in them."""

    def copy() -> Recorded:
        paths = {}
        for role, path in whole.paths.items():
            shutil.copytree(path.parent, tmp_path / role)
            paths[role] = tmp_path / role / path.name
        return Recorded(whole.job, paths)

    return copy
