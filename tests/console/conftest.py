"""One browser and two daemons for all tests of the console."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.console.browser import running_browser
from tests.console.office import POLICY, Office


@pytest.fixture(scope="package")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with Office(tmp_path_factory.mktemp("office") / "parties", policy=POLICY) as found:
        yield found


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    # Not for the whole session: while it runs, nobody else can run an event loop on this thread.
    with running_browser() as found:
        yield found
