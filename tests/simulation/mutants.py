"""Bugs, planted on purpose: each has to be caught by some seed, or the simulation would be for show."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

from sqlalchemy import Connection, delete, select

from broker.transport import Delivery
from messages import schemas
from messages.envelope import assemble, read_header
from protocol import business, iterating, provider
from protocol.state import JobState
from services.engine import archiving, inbox, receiving
from services.engine.envelopes import Envelopes, Written
from services.engine.jobs import JobRecord, Status
from services.engine.lines import Line
from services.engine.notices import Notices
from services.engine.outbox import Outbox, Outgoing
from services.engine.relay import Relay
from services.engine.runner import Runner
from services.store import journal_schema
from services.tasks import keyring
from tests.simulation.places import MEMORY

Mutant = Callable[[ExitStack], None]


def ack_before_commit(stack: ExitStack) -> None:
    """The broker is told to forget a delivery before the journal has it."""
    take_one = Runner._take_one

    async def hasty(self: Runner, delivery: Delivery) -> Notices:
        await delivery.ack()
        return await take_one(self, delivery)

    stack.enter_context(patch.object(Runner, "_take_one", hasty))


def receipts_ignored(stack: ExitStack) -> None:
    """What the partner has is never forgotten."""

    def deaf(
        self: Outbox,
        connection: Connection,
        record: JobRecord,
        line: Line,
        applied: int,
        credit: int,
        at: float,
        notices: Notices,
    ) -> bool:
        del self, connection, applied, credit, at
        notices.receipted[record.job, line.partner] = line.receipted
        return False

    stack.enter_context(patch.object(Outbox, "take_receipt", deaf))


def duplicate_counted_twice(stack: ExitStack) -> None:
    """A chunk that the broker repeats is one chunk more."""
    stack.enter_context(patch.object(inbox, "known", lambda *_: None))
    stack.enter_context(patch.object(inbox, "record", lambda *_: None))
    for module in (business, provider):
        stack.enter_context(patch.object(module, "expect_chunk", lambda *_, **__: None))


def float_sum_in_arrival_order(stack: ExitStack) -> None:
    """A gradient is summed in floating point, in the order in which tasks happen to end."""
    accumulate = iterating.accumulate

    def careless(state: JobState, output: dict[str, Any]) -> JobState:
        after = accumulate(state, output)
        if not state.round.local_sums:
            return after
        sums = []
        for left, right in zip(state.round.local_sums, output["local"], strict=True):
            total = float(int.from_bytes(left, "little", signed=True)) + int.from_bytes(right, "little", signed=True)
            sums.append(int(total).to_bytes(len(left), "little", signed=True))
        return iterating.change(after, round=iterating.change(after.round, local_sums=tuple(sums)))

    stack.enter_context(patch.object(iterating, "accumulate", careless))


def mask_used_twice(stack: ExitStack) -> None:
    """Masks are keyed with the chunk and not with the iteration and the inputs."""
    stream = keyring.stream

    def forgetful(context: Any, purpose: str, *parts: Any) -> Any:
        return stream(context, purpose, *(parts[1:2] if purpose == "masks" else parts))

    stack.enter_context(patch.object(keyring, "stream", forgetful))


def resend_sealed_anew(stack: ExitStack) -> None:
    """A control message that goes out again is written again."""
    write, assembled = Envelopes.write, Relay._assembled
    written: dict[tuple[str, str, str, int], schemas.Message] = {}
    gone: set[tuple[str, str, str, int]] = set()

    def remember(self: Envelopes, job: str, recipient: str, message: schemas.Message, **numbers: Any) -> Written:
        written[self.party, job, recipient, numbers.get("sequence", 0)] = message
        return write(self, job, recipient, message, **numbers)

    def again(self: Relay, connection: Connection, job: str, message: Outgoing) -> bytes | None:
        header = read_header(message.header)
        key = (self._envelopes.party, job, header.recipient, message.sequence)
        if message.bulk or key not in gone or key not in written:
            gone.add(key)
            return assembled(self, connection, job, message)
        fresh = write(
            self._envelopes,
            job,
            header.recipient,
            written[key],
            sequence=header.sequence,
            received=header.received,
            previous=header.previous,
        )
        return assemble(fresh.header, fresh.signature, fresh.body)

    stack.enter_context(patch.object(Envelopes, "write", remember))
    stack.enter_context(patch.object(Relay, "_assembled", again))


def bulk_resent_on_a_timer(stack: ExitStack) -> None:
    """Silence is taken for loss."""
    listen = Relay._listen

    async def impatient(self: Relay, line: Any) -> None:
        await listen(self, line)
        if line.ask_now and asyncio.get_running_loop().time() == line.quiet_since:
            line.cursor = line.receipted

    stack.enter_context(patch.object(Relay, "_listen", impatient))


def archived_job_forgotten(stack: ExitStack) -> None:
    """Not even the name of an archived job is kept."""
    archive = archiving.archive

    def thorough(connection: Connection, job: str, head: str) -> bool:
        done = archive(connection, job, head)
        for table in (journal_schema.lines, journal_schema.jobs) if done else ():
            connection.execute(delete(table).where(table.c.job == job))
        return done

    stack.enter_context(patch.object(archiving, "archive", thorough))


def archived_job_taken_for_a_finished_one(stack: ExitStack) -> None:
    """What comes of an archived job is noted as what comes late of one that is over."""
    unaware = SimpleNamespace(FROZEN=Status.FROZEN, ARCHIVED=SimpleNamespace(value="no status"))
    stack.enter_context(patch.object(receiving, "Status", unaware))


def archived_before_the_partner_knows(stack: ExitStack) -> None:
    """A job is archived while the partner has not confirmed everything."""

    def hasty(connection: Connection, **_: object) -> list[str]:
        finished = select(journal_schema.jobs.c.job).where(journal_schema.jobs.c.status == Status.FINISHED.value)
        return list(connection.scalars(finished))

    stack.enter_context(patch.object(archiving, "due", hasty))


MUTANTS: Final[dict[str, Mutant]] = {
    mutant.__name__: mutant
    for mutant in (
        ack_before_commit,
        receipts_ignored,
        duplicate_counted_twice,
        float_sum_in_arrival_order,
        mask_used_twice,
        resend_sealed_anew,
        bulk_resent_on_a_timer,
    )
}

RETENTION_MUTANTS: Final[dict[str, Mutant]] = {
    mutant.__name__: mutant
    for mutant in (
        archived_job_forgotten,
        archived_job_taken_for_a_finished_one,
        archived_before_the_partner_knows,
    )
}


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """The bug is there inside the block, and nothing that was computed with it or without it crosses its edge."""
    MEMORY.clear()
    with ExitStack() as stack:
        mutant(stack)
        yield
    MEMORY.clear()
