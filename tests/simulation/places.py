"""Journal and executor on the thread of the loop: the same transactions and the same tasks, at virtual times."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, TypeVar

from sqlalchemy import Connection, Dialect
from sqlalchemy.util import LRUCache

from services.engine.worker import Setup, TaskCall, TaskReply, Worker
from services.store.journal_errors import JournalClosed, JournalUnavailable
from services.store.limits import TRANSACTION_ITEMS_MAX
from services.store.transactions import (
    Cost,
    Transactions,
    Unit,
    Work,
    roll_back,
    settle,
)

T = TypeVar("T")
Watch = Callable[[Connection], None]

COMMIT_S = 0.004
TASK_S = 0.12

_COMPILED: LRUCache[Any, Any] = LRUCache(2000)
_DIALECTS: dict[str, Dialect] = {}
"""Statements are put into SQL once a process, not once a daemon: what is compiled belongs to a dialect."""


class InlineJournal:
    """`services.store.journal.ThreadedJournal` without its threads; `watch` sees the database after every commit."""

    def __init__(
        self,
        url: str,
        party: str,
        *,
        before_commit: Callable[[], None],
        after_commit: Callable[[Connection], None],
        chance: Random,
        watch: Watch,
    ) -> None:
        self._watch = watch
        self._tidy = after_commit
        self._transactions = Transactions(
            url, party, before_commit=before_commit, after_commit=self._committed, synchronous="OFF"
        )
        for name in ("_engine", "_reading"):
            engine = getattr(self._transactions, name)
            engine.dialect = _DIALECTS.setdefault(name, engine.dialect)
        self._chance = chance
        self._units: list[Unit] = []
        self._due: asyncio.TimerHandle | None = None
        self._writer: Connection | None = None
        self._reader: Connection | None = None

    @property
    def away(self) -> None:
        """A file is never away."""

    @property
    def closed(self) -> bool:
        return self._writer is None

    @property
    def cost(self) -> Cost:
        return self._transactions.cost

    def open(self) -> None:
        writing, reading = self._transactions.prepare()
        self._writer = writing.execution_options(compiled_cache=_COMPILED)
        self._reader = reading.execution_options(compiled_cache=_COMPILED)

    def _committed(self, connection: Connection) -> None:
        with connection.begin():
            self._watch(connection)
        self._tidy(connection)

    async def write(self, work: Work[T]) -> T:
        if self._writer is None:
            raise JournalClosed("the journal is closed")
        unit = Unit(work)
        self._units.append(unit)
        if self._due is None:
            wait = self._chance.uniform(0.0, COMMIT_S)
            self._due = asyncio.get_running_loop().call_later(wait, self._commit)
        result: T = await asyncio.wrap_future(unit.done)
        return result

    def _commit(self) -> None:
        self._due = None
        while self._units and self._writer is not None:
            waiting, self._units = self._units[:TRANSACTION_ITEMS_MAX], self._units[TRANSACTION_ITEMS_MAX:]
            taken: list[Unit] = []
            try:
                self._transactions.commit(self._writer, iter(waiting), taken)
            except Exception as error:
                roll_back(self._writer)
                settle(taken, JournalUnavailable(f"{type(error).__name__}: nothing was committed"))
            except BaseException as error:
                roll_back(self._writer)
                settle(taken, error)
                self._let_go()
            else:
                settle(taken)

    async def read(self, work: Work[T]) -> T:
        if self._reader is None:
            raise JournalClosed("the journal is closed")
        await asyncio.sleep(0)
        if self._reader is None:
            raise JournalClosed("the journal is closed")
        return self._transactions.read(self._reader, work)

    def close(self) -> None:
        self._commit()
        self._let_go()

    def _let_go(self) -> None:
        if self._due is not None:
            self._due.cancel()
        for connection in (self._writer, self._reader):
            if connection is not None:
                connection.close()
        self._writer = self._reader = None
        self._transactions.dispose()
        for unit in self._units:
            if unit.done.set_running_or_notify_cancel():
                unit.done.set_exception(JournalClosed("the journal is closed"))
        self._units.clear()


class Memory:
    """What all seeds of a process share: tables of keys that are always the same, and proofs about them."""

    def __init__(self) -> None:
        self.caches: dict[str, OrderedDict[str, dict[str, Any]]] = {}
        self.replies: dict[tuple[str, str, str, bytes], TaskReply] = {}

    def clear(self) -> None:
        """Forget all: somebody has changed the code."""
        self.caches.clear()
        self.replies.clear()


MEMORY = Memory()
REMEMBERED = frozenset({"keys.generate", "keys.verify"})
"""Half of a job's work at this size, on the same numbers every time, and nothing of it is sealed or written."""


class InlineSlot:
    """Runs a task on the thread of the loop, after a virtual while that chance decides."""

    process = 0

    def __init__(self, setup: Setup, party: str, chance: Random, memory: Memory = MEMORY) -> None:
        self._party, self._memory = party, memory
        self._worker = Worker(setup, memory.caches.setdefault(party, OrderedDict()))
        self._chance = chance

    async def run(self, call: TaskCall) -> TaskReply:
        await asyncio.sleep(self._chance.uniform(0.0, TASK_S))
        key = (self._party, call.job, call.function, call.arguments)
        if key in self._memory.replies:
            return self._memory.replies[key]
        reply = self._worker.run(call)
        if call.function in REMEMBERED:
            self._memory.replies[key] = reply
        return reply

    def forget(self, job: str) -> None:
        """Keys and tables are the same in the next run."""

    def renew(self, settings: Mapping[str, Any]) -> None:
        """No simulation has another policy in its middle."""

    def kill(self) -> None:
        """Nothing to end."""
