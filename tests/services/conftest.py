"""What several files of this room begin with."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services import house


@pytest.fixture
def town(tmp_path: Path) -> Callable[..., house.Town]:
    """Makes a town in a fresh directory; its daemons run their tasks on a thread unless told otherwise."""
    return lambda **fields: house.Town(tmp_path, fields={"workers": 0, **fields})
