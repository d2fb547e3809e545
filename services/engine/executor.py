"""Runs compute tasks in worker processes: fair between jobs, off the event loop, again after a failure.

Every slot is a process pool of one `spawn` process, so that a process that dies takes one task with it and
leaves the others alone. Tasks come from the journal and go back to it: the executor may lose everything.
"""

import asyncio
import dataclasses
import os
import signal
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from services.engine import worker
from services.engine.notices import ReadyTask
from services.engine.worker import Setup, TaskCall, TaskReply, Worker
from services.store.crash import CrashHook
from services.store.limits import BULK_BODY_BYTES_MAX, BULK_WINDOW_BYTES
from services.store.segments import Location

log = structlog.get_logger("executor")

HANDS: Final = 2
"""Tasks at a slot: one runs, one is noted in the journal as started and has its inputs located."""

Started = Callable[[ReadyTask], Awaitable[None]]
Ended = Callable[[ReadyTask, TaskReply], Awaitable[bool]]
Locate = Callable[[ReadyTask], Awaitable[tuple[Location, ...]]]


@dataclass(slots=True)
class _Queue:
    """What the executor knows of one job. `promised`: sends_bulk tasks under way, one chunk each.

    Both windows are kept for each partner. With one for all, chunks that a slow partner has not taken would hold
    up what the others wait for, and the slow one may wait for just them: a deadlock. As it is, a task waits for
    nothing but the partner that its chunk is for, and that one's receipts depend on no chunk after it.
    """

    tasks: deque[ReadyTask] = field(default_factory=deque)
    unreceipted: dict[str, int] = field(default_factory=dict)
    promised: Counter[str] = field(default_factory=Counter)

    @property
    def idle(self) -> bool:
        """Whether a fresh one would be the same."""
        return not (self.tasks or any(self.unreceipted.values()) or any(self.promised.values()))

    def next(self) -> ReadyTask | None:
        for place, task in enumerate(self.tasks):
            if not (task.sends_bulk and self._full(task.partner)):
                del self.tasks[place]
                return task
        return None

    def _full(self, partner: str) -> bool:
        promised = self.promised[partner] * BULK_BODY_BYTES_MAX
        return self.unreceipted.get(partner, 0) + promised >= BULK_WINDOW_BYTES


class Slot(Protocol):
    """A place where one task at a time runs. `process`: its process id, 0 without one."""

    process: int

    async def run(self, call: TaskCall) -> TaskReply:
        """Run a task; a process that dies is a failed task."""

    def forget(self, job: str) -> None:
        """Drop what is remembered of a job."""

    def renew(self, settings: Mapping[str, Any]) -> None:
        """Give the tasks to come other settings; the one that runs ends with its own."""

    def kill(self) -> None:
        """End the process at once; its task had not left the house."""


class _ProcessSlot:
    """One worker process, made anew when it dies."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._outdated = False
        self._pool: ProcessPoolExecutor | None = None
        self.process = 0

    async def run(self, call: TaskCall) -> TaskReply:
        loop = asyncio.get_running_loop()
        if self._outdated:  # nothing runs in it: a slot has one task at a time
            self._outdated = False
            self.kill()
        try:
            pool = await self._ready()
            return await loop.run_in_executor(pool, worker.run, call)
        except BrokenProcessPool:
            log.warning("worker process died", job=call.job, task=call.task)
            self.kill()
            return TaskReply("failed", code="worker_died", reason=f"the process that ran {call.task} died")

    async def _ready(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                1, mp_context=get_context("spawn"), initializer=worker.start, initargs=(self._setup,)
            )
            loop = asyncio.get_running_loop()
            self.process = await loop.run_in_executor(self._pool, worker.process_id)
            _let_death_be_seen(self._pool)
        return self._pool

    def forget(self, job: str) -> None:
        if self._pool is not None:
            try:
                self._pool.submit(worker.forget, job)
            except (BrokenProcessPool, RuntimeError):
                log.debug("no process to tell", job=job)

    def renew(self, settings: Mapping[str, Any]) -> None:
        self._setup = dataclasses.replace(self._setup, settings=settings)
        self._outdated = self._pool is not None

    def kill(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
        if self.process:
            try:
                os.kill(self.process, signal.SIGKILL)
            except ProcessLookupError:
                log.debug("worker process is gone", process=self.process)
            self.process = 0


def _let_death_be_seen(pool: ProcessPoolExecutor) -> None:
    """Close this process's end for writing of the pipe that results come by, of a pool whose one worker has it.

    A worker that is killed while it writes a result leaves half of it there. Who reads would wait for the rest for
    ever, since the pipe does not end while somebody could write: CPython's pool keeps that end, and does not need it.
    """
    results: Any = getattr(pool, "_result_queue", None)
    writer = getattr(results, "_writer", None)
    if writer is not None:
        writer.close()


class _ThreadSlot:
    """Runs tasks on a thread of the daemon: for simulations, where processes cost more than tasks."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._worker = Worker(setup)
        self.process = 0

    async def run(self, call: TaskCall) -> TaskReply:
        return await asyncio.to_thread(self._worker.run, call)

    def forget(self, job: str) -> None:
        self._worker.forget(job)

    def renew(self, settings: Mapping[str, Any]) -> None:
        self._setup = dataclasses.replace(self._setup, settings=settings)
        self._worker = Worker(self._setup)

    def kill(self) -> None:
        """Nothing to end."""


def make_slots(setup: Setup, workers: int) -> Sequence[Slot]:
    """Worker processes; with 0 of them a thread of this process."""
    return [_ProcessSlot(setup) for _ in range(workers)] or [_ThreadSlot(setup)]


class Executor:
    """See the module docstring.

    Args:
        slots: where tasks run.
        started: told before a task runs.
        ended: takes a reply to the journal; answers False when the task is to be run again.
        locate: where the inputs of a task lie.
        secret_of: the file of a job's secret.
        rests: why a job rests at present, empty if it does not: its tasks wait.

    """

    def __init__(
        self,
        slots: Sequence[Slot],
        *,
        started: Started,
        ended: Ended,
        locate: Locate,
        secret_of: Callable[[str], Path],
        rests: Callable[[str], str],
        crash: CrashHook,
    ) -> None:
        self._slots = tuple(slots)
        self._started = started
        self._ended = ended
        self._locate = locate
        self._secret_of = secret_of
        self._rests = rests
        self._crash = crash
        self._queues: dict[str, _Queue] = {}
        self._turn: deque[str] = deque()
        self._replies: asyncio.Queue[tuple[ReadyTask, TaskReply]] = asyncio.Queue(len(self._slots))
        self._alarm = asyncio.Event()

    @property
    def processes(self) -> tuple[int, ...]:
        """Process ids of the workers that run."""
        return tuple(slot.process for slot in self._slots if slot.process)

    @property
    def waiting(self) -> Mapping[str, int]:
        """How many tasks of each job wait."""
        return {job: len(queue.tasks) for job, queue in self._queues.items() if queue.tasks}

    # -- called by the daemon, on the loop ------------------------------------------------------------------

    def put(self, task: ReadyTask) -> None:
        """Take a committed task over."""
        self._queue(task.job).tasks.append(task)
        self._alarm.set()

    def unreceipted(self, job: str, partner: str, size: int) -> None:
        """Bytes of bulk of a job that a partner has not confirmed to have."""
        queue = self._queue(job)
        queue.unreceipted[partner] = size
        if queue.idle:
            # Of a job that is over, receipts still come: nothing would ever drop it again.
            self._forget(job)
        self._alarm.set()

    def look_again(self) -> None:
        """Jobs that rested may go on."""
        self._alarm.set()

    def renew(self, settings: Mapping[str, Any]) -> None:
        """Run tasks with other settings from now on; those that run end with their own."""
        for slot in self._slots:
            slot.renew(settings)

    def drop(self, job: str) -> None:
        """The job is over: forget its tasks, its tables and its keys."""
        self._forget(job)
        for slot in self._slots:
            slot.forget(job)

    def _forget(self, job: str) -> None:
        if self._queues.pop(job, None) is not None:
            self._turn.remove(job)

    def _queue(self, job: str) -> _Queue:
        if job not in self._queues:
            self._queues[job] = _Queue()
            self._turn.append(job)
        return self._queues[job]

    # -- running --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run tasks until cancelled; then the worker processes are killed."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._commit())
                for slot in self._slots:
                    turn = asyncio.Lock()
                    for _ in range(HANDS):
                        group.create_task(self._serve(slot, turn))
        finally:
            self.kill()

    def kill(self) -> None:
        """End all worker processes at once."""
        for slot in self._slots:
            slot.kill()

    async def _serve(self, slot: Slot, turn: asyncio.Lock) -> None:
        """Take tasks to a slot. While one runs, the other hand fetches the next, so that the slot never waits."""
        while True:
            task = await self._next()
            await self._started(task)
            try:
                inputs = await self._locate(task)
            except LookupError:
                # The job ended between the queue and here.
                self._settled(task)
                continue
            call = TaskCall(
                job=task.job,
                partner=task.partner,
                task=task.task,
                function=task.function,
                arguments=task.arguments,
                inputs=inputs,
                secret=self._secret_of(task.job),
                logic_version=task.logic_version,
            )
            self._crash("task.started")
            async with turn:
                reply = await slot.run(call)
            await self._replies.put((task, reply))

    async def _next(self) -> ReadyTask:
        """The next task, jobs in turn, each job's in the order of the journal."""
        while True:
            for _ in range(len(self._turn)):
                job = self._turn[0]
                self._turn.rotate(-1)
                task = None if self._rests(job) else self._queues[job].next()
                if task is not None:
                    self._queues[job].promised[task.partner] += task.sends_bulk
                    return task
            self._alarm.clear()
            await self._alarm.wait()

    async def _commit(self) -> None:
        while True:
            task, reply = await self._replies.get()
            self._crash("task.computed")
            ended = await self._ended(task, reply)
            self._settled(task)
            if not ended and task.job in self._queues:
                self._queues[task.job].tasks.appendleft(task)
                self._alarm.set()

    def _settled(self, task: ReadyTask) -> None:
        queue = self._queues.get(task.job)
        if queue is not None:
            queue.promised[task.partner] -= task.sends_bulk
            self._alarm.set()
