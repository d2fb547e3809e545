"""Nothing in a running daemon grows with the number of jobs that it has had."""

import gc
from collections import Counter, deque
from collections.abc import Collection
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

from services.daemon.daemon import Daemon
from services.engine.timings import JOBS_REMEMBERED_MAX, StageTimes
from services.party.logs import LINES_MAX, LINES_PER_JOB_MAX, LogBook
from tests.services import house, toy

OURS = ("services.", "broker.", "protocol.", "messages.")
FIRST, LAST = 3, 9


def entries(daemon: Daemon) -> Counter[str]:
    """Entries of all containers that our own objects hold, by the place that holds them."""
    found: Counter[str] = Counter()
    seen: set[int] = set()
    waiting: deque[tuple[str, object]] = deque([("daemon", daemon)])
    while waiting:
        place, item = waiting.popleft()
        if id(item) in seen or isinstance(item, ModuleType | type | FunctionType | BuiltinFunctionType | MethodType):
            continue
        seen.add(id(item))
        if isinstance(item, dict | list | set | frozenset | tuple | deque):
            if isinstance(item, Collection) and not isinstance(item, tuple | frozenset):
                found[place] += len(item)
            inside = [*item.keys(), *item.values()] if isinstance(item, dict) else list(item)
            waiting += [(f"{place}[]", each) for each in inside]
        elif type(item).__module__.startswith(OURS):
            fields = {name: getattr(item, name, None) for name in (*slots_of(item), *getattr(item, "__dict__", {}))}
            waiting += [(f"{type(item).__name__}.{name}", each) for name, each in fields.items()]
        elif type(item).__module__ == "asyncio.queues":
            found[place] += item.qsize()
    return found


def slots_of(item: object) -> list[str]:
    return [name for kind in type(item).__mro__ for name in getattr(kind, "__slots__", ())]


def test_a_daemon_holds_as_much_after_many_jobs_as_after_a_few(town):
    held: dict[int, dict[str, Counter[str]]] = {}

    async def story():
        async with town().both() as (shop, bank):
            for number in range(1, LAST + 1):
                job = f"job-{number}"
                trouble = ("", "refuse", "wait")[number % 3]
                await shop.submit(job, "bank", contract=toy.contract(trouble=trouble, chunks=1))
                if trouble == "wait":
                    await shop.cancel(job, "enough")
                await shop.wait(job)
                await house.ended(bank, job)
                for daemon in (shop, bank):
                    await house.until(lambda daemon=daemon: quiet(daemon))
                if number in (FIRST, LAST):
                    gc.collect()
                    held[number] = {"shop": entries(shop), "bank": entries(bank)}

    house.run(story)
    assert sum(held[FIRST]["shop"].values()) > 30
    for party in ("shop", "bank"):
        assert held[LAST][party] - held[FIRST][party] == Counter()


async def quiet(daemon: Daemon) -> bool:
    """Whether nothing is under way any more."""
    return not await daemon.waits()


def test_what_is_remembered_for_people_is_bounded_over_all_jobs(tmp_path):
    book = LogBook()
    for number in range(3 * LINES_MAX // LINES_PER_JOB_MAX):
        for line in range(LINES_PER_JOB_MAX + 10):
            book(None, "info", {"job": f"job-{number}", "line": line})
        book(None, "info", {"job": "long", "line": number})
    jobs = [f"job-{number}" for number in range(3 * LINES_MAX // LINES_PER_JOB_MAX)]
    assert sum(len(book.lines(job)) for job in (*jobs, "long")) <= LINES_MAX
    assert book.lines(jobs[0]) == []
    assert [line["line"] for line in book.lines(jobs[-1])] == list(range(10, LINES_PER_JOB_MAX + 10))
    assert [line["line"] for line in book.lines("long")] == list(range(len(jobs)))


def test_stage_times_of_many_jobs_are_read_and_not_remembered(town):
    times = StageTimes()

    async def story():
        async with town().both() as (shop, _):
            for number in range(JOBS_REMEMBERED_MAX + 5):
                read = await shop.journal.read(lambda connection, number=number: times.read(connection, f"no-{number}"))
                assert read["total"] == 0.0

    house.run(story)
    assert sum(entries_of(times).values()) <= JOBS_REMEMBERED_MAX


def entries_of(times: StageTimes) -> Counter[str]:
    return Counter({name: len(value) for name, value in vars(times).items() if isinstance(value, dict)})
