"""For every test: without a kernel its tests are taken out of the run, not skipped; logging stays as it was.

Hypothesis gives an example 200 ms by default: on a busy machine tests fail by that, and say nothing of the code.
"""

from collections.abc import Generator, Iterator
from typing import Final

import pytest
import structlog
from hypothesis import settings

from kernel import library

LOG_CHARACTERS: Final = 8_000
"""So much of the end of a daemon's log is shown with a test that failed."""

settings.register_profile("busy", deadline=None)
settings.load_profile("busy")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked `kernel` without one; tests/kernel says when there should have been one."""
    if library.paths():
        return
    absent = [
        item for item in items if item.get_closest_marker("kernel") and "tests/kernel" not in item.path.as_posix()
    ]
    if absent:
        config.hook.pytest_deselected(items=absent)
        items[:] = [item for item in items if item not in set(absent)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With a test that failed, show what the daemons that it ran as processes have logged."""
    report = yield
    place = getattr(item, "funcargs", {}).get("tmp_path")
    if report.failed and place is not None:
        for path in sorted(place.rglob("log")):
            if path.is_file():
                report.sections.append((str(path), path.read_text(errors="replace")[-LOG_CHARACTERS:]))
    return report


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Commands choose what is logged for their whole process, which here is every other test's as well."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)
