"""What several files of this room begin with."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.services import house


@pytest.fixture
def town(tmp_path: Path) -> Callable[..., house.Town]:
    """Makes a town in a fresh directory, on the virtual time of `house.run`."""

    def make(
        parties: Sequence[str] = house.PARTIES, observer: Callable[[str, bytes], None] | None = None, **fields: Any
    ) -> house.Town:
        return house.Town(
            tmp_path, parties=parties, observer=observer, fields={"surroundings": house.on_virtual_time(), **fields}
        )

    return make


@pytest.fixture
def threaded_town(tmp_path: Path) -> Callable[..., house.Town]:
    """Makes a town whose daemons have their journal and their tasks on threads, for `asyncio.run`."""
    return lambda **fields: house.Town(tmp_path, fields={"workers": 0, **fields})
