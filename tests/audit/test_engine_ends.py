"""Jobs that an engine ended for what no event says still verify and replay, with a note of whose word it is."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from protocol.state import Phase
from services.audit.export_file import AUDITOR
from services.audit.exporting import export, reading
from services.audit.replaying import Replay, replay
from services.audit.verifying import verify
from services.daemon.local import BUSINESS, NAMES, PROVIDER
from services.store import chain
from tests.services import gates, house
from tests.services.bureau import Bureau


def told(place: Bureau, role: str) -> Replay:
    """The replay of a party's own file, which must hold."""
    path = place.directory / f"{role}.export"
    with reading(place.parties[role]) as connection:
        export(connection, place.parties[role], place.job, AUDITOR, path)
    assert verify(path).holds, verify(path).findings
    return replay(path)


def in_the_middle(directory: Path, end: Callable[[Bureau], None]) -> Bureau:
    """A job that both daemons left in mid-iteration, and that the provider cannot go on with after `end`."""
    place = Bureau(directory)

    async def story() -> None:
        with gates.shut((NAMES[PROVIDER], "link.evaluate")):
            async with place.both() as daemons:
                await place.submit(daemons[BUSINESS])
                await place.reached(daemons[PROVIDER], Phase.LINKING)
                gates.release()
        end(place)
        async with place.both() as daemons:
            for daemon in daemons.values():
                assert (await house.ended(daemon, place.job)).outcome in ("failed", "")

    asyncio.run(story())
    return place


def test_a_job_whose_secret_was_lost_replays_at_both(tmp_path: Path) -> None:
    place = in_the_middle(
        tmp_path, lambda place: (place.parties[PROVIDER].data_directory / "secrets" / place.job).unlink()
    )
    mine, theirs = told(place, PROVIDER), told(place, BUSINESS)
    assert (mine.difference, mine.outcome) == ("", "failed")
    assert any(chain.SECRET_MISSING in note for note in mine.notes)
    assert (theirs.difference, theirs.outcome) == ("", "failed")


def test_a_job_that_the_partner_has_frozen_replays(tmp_path: Path) -> None:
    def put_old_mark(place: Bureau) -> None:
        # The data directory is older than its journal: the operator starts it all the same.
        (place.parties[PROVIDER].data_directory / "journal.mark").unlink()
        place.accept_restored = True

    place = in_the_middle(tmp_path, put_old_mark)
    mine, theirs = told(place, BUSINESS), told(place, PROVIDER)
    assert (mine.difference, mine.outcome) == ("", "failed")
    assert any(chain.PARTNER_FROZEN in note for note in mine.notes)
    assert theirs.difference == ""
    assert any("journal_restored" in note for note in theirs.notes)
