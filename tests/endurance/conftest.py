"""One town for all stories that two parties over AMQP can live through one after the other."""

from collections.abc import Iterator

import pytest

from services.daemon.local import NAMES
from tests.endurance.town import Town


@pytest.fixture(scope="session")
def one_town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with Town(tmp_path_factory.mktemp("town")) as place:
        yield place


@pytest.fixture
def town(one_town: Town) -> Town:
    """Everybody there, and nothing of what the story before has broken."""
    if not one_town.broker.running:
        one_town.broker.start()
    for role in NAMES:
        one_town.uplinks[role].flow()
        one_town.thaw(role)
    one_town.run_only(*NAMES)
    return one_town
