"""Parties over an embedded broker, two if nothing is said, for tests that look at whole daemons."""

import asyncio
import functools
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from broker.embedded import EmbeddedBroker, EmbeddedTransport, Faults
from messages.identity import Identity
from services.daemon.daemon import Daemon, DaemonConfig
from services.engine.jobs import JobView
from services.engine.surroundings import Surroundings
from services.store.crash import Crash, no_crash
from services.store.limits import Timing
from tests.services import toy
from tests.simulation import virtual
from tests.simulation.places import InlineJournal, InlineSlot, Memory

TIMING = Timing(
    silence_first=0.15,
    silence_last=0.6,
    receipt_delay=0.002,
    retry_first=0.01,
    retry_last=0.05,
    watch=0.05,
    disk=0.02,
)

BEGAN = 1_700_000_000.0

PARTIES = ("shop", "bank")


@functools.cache
def identity(name: str) -> Identity:
    return Identity.generate(name)


def config(directory: Path, name: str, parties: Sequence[str] = PARTIES, **fields: Any) -> DaemonConfig:
    base = DaemonConfig(
        identity=identity(name),
        peers={peer: identity(peer).public for peer in parties if peer != name},
        data_directory=directory / name,
        roles=toy.ROLES,
        functions="tests.services.toy_tasks",
        expiry_of=toy.expiry_of,
        timing=TIMING,
    )
    return replace(base, **fields)


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Tell a story to its end on virtual time: no machine is too slow for it."""
    virtual.run(story)


def on_virtual_time(**changes: Any) -> Surroundings:
    """Surroundings for `run`: nothing happens on another thread."""
    chance = random.Random(1)
    return Surroundings(
        **{
            "clock": lambda: BEGAN + asyncio.get_running_loop().time(),
            "chance": chance,
            "journal": functools.partial(InlineJournal, chance=chance, watch=lambda _: None),
            "slots": lambda setup, _: [InlineSlot(setup, "one", chance, Memory())],
            **changes,
        }
    )


def is_crash(error: BaseException) -> bool:
    """Whether all that ended a daemon was its crash hook."""
    if isinstance(error, BaseExceptionGroup):
        return any(is_crash(part) for part in error.exceptions)
    return isinstance(error, Crash)


@asynccontextmanager
async def running(daemon: Daemon) -> AsyncIterator[Daemon]:
    """A daemon that runs inside the block; what ends it early ends the block."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(daemon.run())
        begun = group.create_task(daemon.started())
        await asyncio.wait((task, begun), return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        try:
            yield daemon
        finally:
            daemon.stop()


@dataclass
class Town:
    """A broker and the parties' directories; daemons come and go."""

    directory: Path
    faults: Faults | None = None
    parties: Sequence[str] = PARTIES
    fields: dict[str, Any] = field(default_factory=dict)
    observer: Callable[[str, bytes], None] | None = None

    def __post_init__(self) -> None:
        self.broker = EmbeddedBroker(tuple(self.parties), faults=self.faults, observer=self.observer)

    def daemon(self, name: str, crash: Callable[[str], None] = no_crash, **fields: Any) -> Daemon:
        transport = EmbeddedTransport(self.broker, name, [peer for peer in self.parties if peer != name])
        return Daemon(config(self.directory, name, self.parties, crash=crash, **{**self.fields, **fields}), transport)

    @asynccontextmanager
    async def both(self, **fields: Any) -> AsyncIterator[tuple[Daemon, Daemon]]:
        async with self.all(**fields) as daemons:
            yield daemons["shop"], daemons["bank"]

    @asynccontextmanager
    async def all(self, *names: str, **fields: Any) -> AsyncIterator[dict[str, Daemon]]:
        """The daemons of `names`, or of all parties."""
        async with AsyncExitStack() as stack:
            yield {
                name: await stack.enter_async_context(running(self.daemon(name, **fields)))
                for name in names or self.parties
            }


async def ended(daemon: Daemon, job: str) -> JobView:
    """Wait for the end of a job that may not have arrived yet."""
    while True:
        if any(view.job == job for view in await daemon.jobs()):
            return await daemon.wait(job)
        await asyncio.sleep(0.01)


async def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition (a function, or one that gives an awaitable) holds; the test's time limit ends it."""
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        await asyncio.sleep(0.005)


async def counted(daemon: Daemon, job: str, name: str, value: int) -> None:
    """Wait until a counter of a job stands at `value`."""

    async def there() -> bool:
        return (await daemon.statistics(job)).get(name, 0) == value

    await until(there)


async def parked_as(daemon: Daemon, code: str) -> None:
    """Wait until a delivery has been parked under `code`."""

    async def there() -> bool:
        return code in await daemon.parked_codes()

    await until(there)


async def applied(daemon: Daemon, sequence: int) -> None:
    """Wait until a job has applied its partner's messages up to `sequence`."""

    async def there() -> bool:
        return any(view.applied == sequence for view in await daemon.jobs())

    await until(there)
