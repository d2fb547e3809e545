"""A job that cannot go on fails with the reason at both parties, and takes neither daemon nor another job with it."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select

from broker.embedded import EmbeddedTransport
from messages import codec, schemas
from protocol.effects import ControlReceived
from services.daemon.daemon import Daemon
from services.daemon.local import BUSINESS, NAMES, PROVIDER
from services.engine import jobs
from services.engine.jobs import JobView
from services.store.journal_schema import events
from tests.services import house, toy
from tests.services.bureau import Bureau
from tests.services.stranger import Stranger, propose

GOOD = ("job-1", "job-2", "job-3")
BAD = {
    "job-faulty": {"trouble": "provider_breaks"},
    "job-deadly": {"trouble": "die", "times": 3},
    "job-large": {"size": 2**20 + 5_000},
}


@pytest.fixture
def town(threaded_town):
    """Threads take their time here as they do in a daemon."""
    return threaded_town


def spoil(folder: Path) -> None:
    """Overwrite every segment of a job with zeros."""
    found = list(folder.iterdir())
    assert found
    for path in found:
        path.write_bytes(bytes(path.stat().st_size))


async def leave_chunks_at_the_bank(town: house.Town, job: str) -> None:
    """A job whose chunks lie at the bank, with nothing done to them yet."""
    idle = "tests.services.idle_tasks"
    async with (
        house.running(town.daemon("shop")) as shop,
        house.running(town.daemon("bank", functions=idle, workers=1)) as bank,
    ):
        await shop.submit(job, "bank", contract=toy.contract())
        await house.applied(bank, 3)


async def malformed(town: house.Town, job: str) -> None:
    """The business proposes a job, and then says what cannot be opened, signed all the same."""
    shop = Stranger(town.broker, "shop")
    shop.transport = EmbeddedTransport(town.broker, "shop", [])
    async with shop:
        await shop.say(job, propose(), 1)
        await shop.publish(job, "job.cancel", shop.envelope(job, "job.cancel", bytes(2_000), 2))


async def views(shop: Daemon, bank: Daemon, job: str) -> tuple[JobView, JobView]:
    return await house.ended(shop, job), await house.ended(bank, job)


def test_jobs_that_fail_in_every_way_take_no_other_job_and_no_daemon_with_them(town, tmp_path):
    async def story():
        place = town()
        await leave_chunks_at_the_bank(place, "job-damaged")
        spoil(tmp_path / "bank" / "blobs" / "job-damaged")
        async with place.both(workers=1) as (shop, bank):
            for name in (*GOOD[:2], *BAD):
                await shop.submit(name, "bank", contract=toy.contract(seed=len(name), **BAD.get(name, {})))
            await malformed(place, "job-malformed")

            mine, theirs = await views(shop, bank, "job-faulty")
            assert (mine.reason_code, theirs.reason_code) == ("machine_fault", "machine_fault")
            assert "ValueError at" in theirs.reason
            assert "toy.py" in theirs.reason
            assert "secret value" not in theirs.reason

            mine, theirs = await views(shop, bank, "job-deadly")
            assert (mine.reason_code, theirs.reason_code) == ("worker_died", "worker_died")
            assert (await shop.statistics("job-deadly"))["task_failures"] == 2

            mine, theirs = await views(shop, bank, "job-large")
            assert (mine.reason_code, theirs.reason_code) == ("effect_impossible", "effect_impossible")
            assert f"has {2**20 + 5_000} bytes, {2**20} at most" in mine.reason

            mine, theirs = await views(shop, bank, "job-damaged")
            assert (mine.reason_code, theirs.reason_code) == ("blob_damaged", "blob_damaged")

            assert (await house.ended(bank, "job-malformed")).reason_code == "seal_broken"

            await shop.submit(GOOD[2], "bank", contract=toy.contract())
            for name in GOOD:
                assert [view.outcome for view in await views(shop, bank, name)] == ["done", "done"]

    asyncio.run(story())


def test_the_partner_is_told_a_code_and_no_place_path_or_type(town):
    async def story():
        async with town().both() as (shop, bank):
            heard: list[str] = []
            for number, trouble in enumerate(("provider_breaks", "")):
                job = f"job-{number}"
                size = 1000 if trouble else 2**20 + 5_000
                await shop.submit(job, "bank", contract=toy.contract(trouble=trouble, size=size))
                await views(shop, bank, job)
                for daemon in (shop, bank):
                    heard += await told(daemon, job)
        assert len(heard) == 2
        assert all(text == "this party's software refused its own step; its log says more" for text in heard)

    asyncio.run(story())


async def told(daemon: Daemon, job: str) -> list[str]:
    """The reasons of the job.failed that a party received."""
    rows = await daemon.journal.read(
        lambda connection: connection.scalars(
            select(events.c.event).where(events.c.job == job, events.c.kind == "received")
        ).all()
    )
    found = [event for row in rows if row and isinstance(event := jobs.decode_event(row), ControlReceived)]
    messages = [codec.decode(event.message) for event in found]
    return [message.reason for message in messages if isinstance(message, schemas.JobFailed)]


def test_a_task_that_is_refused_names_its_file_here_and_not_at_the_partner(tmp_path):
    async def story():
        place = Bureau(tmp_path)
        source = Path(place.parties[PROVIDER].datasets["features"]["source"])
        source.write_bytes(b"not a table")
        async with place.both() as daemons:
            job = await place.submit(daemons[BUSINESS])
            theirs = await house.ended(daemons[PROVIDER], job)
            mine = await house.ended(daemons[BUSINESS], job)
            assert theirs.outcome == mine.outcome == "declined"
            assert source.name in theirs.reason
            assert source.name not in mine.reason
            assert "data set features cannot be used" in mine.reason

    asyncio.run(story())


def test_a_damaged_ledger_ends_a_job_at_both_parties_and_only_its_owner_learns_which_file_it_is(tmp_path, capfd):
    async def story():
        place = Bureau(tmp_path)
        damaged = place.parties[PROVIDER].data_directory / "ledger" / NAMES[BUSINESS] / "job-of-before.npz"
        damaged.parent.mkdir(parents=True)
        damaged.write_bytes(b"PK no more")
        (damaged.parents[1] / "salt").write_bytes(bytes(32))
        async with (
            house.running(place.daemon(PROVIDER)) as provider,
            house.running(place.daemon(BUSINESS)) as business,
        ):
            job = await place.submit(business)
            mine, theirs = await views(business, provider, job)
        assert (mine.reason_code, theirs.reason_code) == ("ledger_damaged", "ledger_damaged")
        assert NAMES[PROVIDER] in mine.reason
        assert damaged.name not in mine.reason
        assert damaged.read_bytes() == b"PK no more"
        assert damaged.name in "".join(capfd.readouterr())

    asyncio.run(story())
