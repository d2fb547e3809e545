"""A job waits for as long as it takes, and says for whom, since when and why."""

import asyncio
import os

import pytest

from broker.embedded import EmbeddedBroker
from broker.topology import Limits
from protocol.state import Phase
from services.daemon.daemon import Daemon
from services.daemon.local import BUSINESS, NAMES, PROVIDER
from services.daemon.standing import ago, told
from services.daemon.verbs import Verbs
from services.engine.surroundings import Surroundings
from services.engine.waiting import Waiting, Why
from services.party.logs import LogBook
from tests.parties import PARTNER
from tests.services import gates, house, toy
from tests.services.bureau import STAGES, Bureau
from tests.services.stranger import bank_and_stranger, propose

JOB = "job-1"
HOUR = 3600.0


@pytest.fixture
def town(threaded_town):
    """Threads take their time here as they do in a daemon."""
    return threaded_town


async def waits(daemon: Daemon, why: Why, job: str = JOB) -> Waiting:
    """Wait until a job waits for this reason."""
    found: list[Waiting] = []

    async def there() -> bool:
        waiting = (await daemon.waits(job)).get(job)
        if waiting is not None and waiting.why is why:
            found.append(waiting)
        return bool(found)

    await house.until(there)
    return found[0]


class Clock:
    """Seconds since 1970, that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def place(town, clock):
    return town(surroundings=Surroundings(clock=clock))


def test_a_partner_that_was_never_there_is_waited_for_and_named(place, clock):
    async def story():
        async with house.running(place.daemon("shop")) as shop:
            await shop.submit(JOB, "bank", contract=toy.contract())
            submitted = clock.now
            clock.now += 30 * HOUR
            waiting = await waits(shop, Why.PARTNER_SILENT)
            assert (waiting.waits_for, waiting.since, waiting.heard_at) == ("bank", submitted, 0.0)
            assert "has not confirmed 1 of our messages" in waiting.detail
            assert (await shop.job(JOB)).status == "running"
            async with house.running(place.daemon("bank")):
                assert (await shop.wait(JOB)).outcome == "done"
                await house.until(lambda: nothing_waits(shop))

    asyncio.run(story())


async def nothing_waits(daemon: Daemon) -> bool:
    return not await daemon.waits()


def test_the_last_sign_of_a_partner_is_remembered_over_a_restart(place, clock):
    async def story():
        async with house.running(place.daemon("shop")) as shop:
            async with house.running(place.daemon("bank", functions="tests.services.idle_tasks")):
                await shop.submit(JOB, "bank", contract=toy.contract())
                await house.until(lambda: confirmed(shop, 1))
                heard = clock.now
            clock.now += 5 * HOUR
            await house.until(lambda: idle(shop))
        async with house.running(place.daemon("shop")) as shop:
            clock.now += HOUR
            waiting = await waits(shop, Why.PARTNER_SILENT)
            assert waiting.heard_at == heard

    asyncio.run(story())


async def nothing_unconfirmed(daemon: Daemon) -> bool:
    return any(view.sent == view.receipted > 0 for view in await daemon.jobs())


async def confirmed(daemon: Daemon, sequence: int) -> bool:
    return (await daemon.job(JOB)).receipted >= sequence


async def idle(daemon: Daemon) -> bool:
    """Whether a party has done all it could do without its partner."""
    waiting = (await daemon.waits()).get(JOB)
    return waiting is not None and waiting.why is not Why.OWN_WORK


def test_a_broker_that_is_away_is_told_from_a_partner_that_is_silent(place, clock):
    async def story():
        async with house.running(place.daemon("shop")) as shop:
            await shop.submit(JOB, "bank", contract=toy.contract())
            await waits(shop, Why.PARTNER_SILENT)
            place.broker.stop()
            waiting = await waits(shop, Why.BROKER_AWAY)
            assert (waiting.waits_for, waiting.since) == ("broker", clock.now)
            assert waiting.detail == "waiting for the embedded broker"
            place.broker.start()
            await waits(shop, Why.PARTNER_SILENT)

    asyncio.run(story())


def test_a_broker_that_takes_no_more_messages_is_named_with_its_reason(tmp_path):
    async def story():
        town = house.Town(tmp_path, fields={"workers": 0})
        town.broker = EmbeddedBroker(("shop", "bank"), limits=Limits(control_bytes=10))
        async with house.running(town.daemon("shop")) as shop:
            await shop.submit(JOB, "bank", contract=toy.contract())
            waiting = await waits(shop, Why.BROKER_REFUSES)
            assert waiting.waits_for == "broker"
            assert "is full" in waiting.detail

    asyncio.run(story())


def test_own_work_is_no_wait_for_anybody_else(place):
    async def story():
        async with place.both() as (shop, bank):
            await shop.submit(JOB, "bank", contract=toy.contract(trouble="spin", times=1))
            assert (await waits(shop, Why.OWN_WORK)).waits_for == "own work"
            # The partner has nothing to do, and everything that was said to it.
            await house.until(lambda: nothing_unconfirmed(bank))
            waiting = await waits(bank, Why.PARTNER_TURN)
            assert (waiting.waits_for, waiting.detail) == ("shop", "it has everything; its turn")
            await shop.wait(JOB)

    asyncio.run(story())


def test_a_disk_without_room_is_what_a_job_waits_for(place):
    async def story():
        async with bank_and_stranger(place) as (bank, shop):
            await shop.say(JOB, propose(chunks=8), 1)
            await house.applied(bank, 1)
            pages = await bank.journal.write(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar())
            await bank.journal.write(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={pages}"))
            for number in range(8):
                await shop.send_bulk(JOB, "link.terms", os.urandom(9000), 2 + number, chunk=number, chunks=8)
                await shop.publish(JOB, "job.cancel", os.urandom(5000))
            waiting = await waits(bank, Why.JOURNAL_STUCK)
            assert waiting.waits_for == "journal"
            await bank.journal.write(lambda c: c.exec_driver_sql("PRAGMA max_page_count=1000000"))
            await house.applied(bank, 9)
            await waits(bank, Why.PARTNER_TURN)

    asyncio.run(story())


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Target parameters of an undisturbed job."""
    found: list[list[bytes]] = []

    async def story() -> None:
        place = Bureau(tmp_path_factory.mktemp("undisturbed"))
        async with place.both() as daemons:
            await place.submit(daemons[BUSINESS])
            found.append(await place.parameters(daemons))

    asyncio.run(story())
    return found[0]


@pytest.mark.parametrize(("role", "phase"), STAGES, ids=lambda item: str(getattr(item, "value", item)))
def test_a_broker_and_a_partner_that_are_away_for_hours_pause_a_job_at_any_stage_and_change_nothing(
    tmp_path, role, phase, expected
):
    async def story():
        place = Bureau(tmp_path)
        with gates.shut(*((NAMES[party], function) for party, function in STAGES[role, phase])):
            async with house.running(place.daemon(role)) as mine:
                async with house.running(place.daemon(PARTNER[role])) as theirs:
                    await place.submit(mine if role == BUSINESS else theirs)
                    await place.reached(mine, phase)
                    # First the broker, with the partner at work behind it, ...
                    place.broker.stop()
                    place.now += 9 * HOUR
                    gates.release()
                    await house.until(lambda: away(place, mine, Why.BROKER_AWAY))
                    place.now += 30 * 24 * HOUR
                # ... then the partner, while the broker is there.
                place.broker.start()
                await house.until(lambda: away(place, mine, Why.PARTNER_SILENT, Why.PARTNER_TURN))
                place.now += 30 * 24 * HOUR
                assert (await mine.job(place.job)).status == "running" or phase is Phase.CLOSING
                async with house.running(place.daemon(PARTNER[role])) as theirs:
                    daemons = {role: mine, PARTNER[role]: theirs}
                    assert await place.parameters({name: daemons[name] for name in NAMES}) == expected

    asyncio.run(story())


async def away(place: Bureau, daemon: Daemon, *whys: Why) -> bool:
    """Whether the job waits for one of these reasons; at its very end it may be over, and its partner untold."""
    waiting = (await daemon.waits()).get(place.job)
    over = (await daemon.job(place.job)).status != "running"
    return over or (waiting is not None and waiting.why in whys)


# -- what people read ------------------------------------------------------------------------------------------------


def test_the_console_shows_what_every_job_waits_for(tmp_path):
    async def story():
        place = Bureau(tmp_path)
        async with house.running(place.daemon(BUSINESS)) as business:
            job = await place.submit(business)
            await waits(business, Why.PARTNER_SILENT, job)
            verbs = Verbs(place.parties[BUSINESS], business, LogBook()).table()
            listed, single = (await verbs["jobs"]({}))[0], await verbs["job"]({"id": job})
            assert listed["waiting"] == single["waiting"]
            assert single["waiting"]["waits_for"] == NAMES[PROVIDER]
            assert single["waiting"]["why"] == "partner_silent"

    asyncio.run(story())


def test_a_wait_is_one_sentence_with_its_length_and_the_last_sign_of_the_partner():
    waiting = {"waits_for": "bank", "why": "partner_silent", "since": 100.0, "heard_at": 40.0, "detail": "it is away"}
    view = {"partner": "bank", "waiting": waiting, "now": 100.0 + 5 * HOUR}
    assert told(view) == "waiting for bank since 5 h: it is away; last sign of bank 5 h ago"
    view["waiting"] = {**waiting, "heard_at": 0.0}
    assert told(view).endswith("; no sign of bank yet")
    assert told({"partner": "bank", "waiting": None, "now": 0.0}) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7_199, "119 min"), (7_200, "2 h"), (172_800, "2 d")],
)
def test_a_time_span_has_one_unit_and_two_of_it_at_least(seconds: float, text: str):
    assert ago(seconds) == text
