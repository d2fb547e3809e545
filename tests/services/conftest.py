"""What several files of this room begin with."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services import house


@pytest.fixture
def town(tmp_path: Path) -> Callable[..., house.Town]:
    """Makes a town in a fresh directory, on the virtual time of `house.run`."""
    return lambda **fields: house.Town(tmp_path, fields={"surroundings": house.on_virtual_time(), **fields})


@pytest.fixture
def threaded_town(tmp_path: Path) -> Callable[..., house.Town]:
    """Makes a town whose daemons have their journal and their tasks on threads, for `asyncio.run`."""
    return lambda **fields: house.Town(tmp_path, fields={"workers": 0, **fields})
