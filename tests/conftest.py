"""Where no kernel was built, its tests are not there: taken out of the run, not skipped in it."""

import pytest

from kernel import library


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
