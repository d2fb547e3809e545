"""For every test: without a kernel its tests are taken out of the run, not skipped; logging stays as it was.

Hypothesis gives an example 200 ms by default: on a busy machine tests fail by that, and say nothing of the code.
"""

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from kernel import library

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


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Commands choose what is logged for their whole process, which here is every other test's as well."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)
