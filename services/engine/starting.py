"""How a daemon starts on a journal, and how it leaves one: the guards that come before any job goes on."""

import asyncio
import errno
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog
from sqlalchemy import Connection

from services.engine.recovery import Found, recover
from services.engine.runner import Runner
from services.store import chain
from services.store.blobs import BlobStore
from services.store.job_secrets import JobSecrets
from services.store.journal import Journal, JournalUnavailable
from services.store.journal_mark import JournalMark

log = structlog.get_logger("daemon")

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
_RESTORED: Final = (
    "the data directory was restored without its secrets, which no backup should hold. Without it nothing of what the "
    "job has sent can be computed again; submit the job anew"
)


def no_misfit(contract: bytes) -> str:
    """For machines whose contracts name no keys."""
    del contract
    return ""


async def rest(stop: asyncio.Event, seconds: float) -> None:
    """Wait between two attempts, no longer than until `stop`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


class Starting:
    """See the module docstring.

    Args:
        accept_restored: the operator's decision to start on a journal that does not fit its data directory.
        retry: seconds between two attempts where the disk has no room.
        misfit: why a contract's job cannot go on with the keys that there are now; empty if it can.

    """

    def __init__(
        self,
        journal: Journal,
        mark: JournalMark,
        runner: Runner,
        secrets: JobSecrets,
        blobs: BlobStore,
        *,
        accept_restored: bool,
        retry: float,
        misfit: Callable[[bytes], str] = no_misfit,
    ) -> None:
        self._journal = journal
        self._mark = mark
        self._runner = runner
        self._secrets = secrets
        self._blobs = blobs
        self._accept_restored = accept_restored
        self._retry = retry
        self._misfit = misfit

    async def begin(self, stop: asyncio.Event) -> Found | None:
        """Check the journal and read what has to go on, once the disk has room to do so; None after `stop`.

        Raises JournalRestored.
        """
        while not stop.is_set():
            try:
                await self._mark.enter(self._journal, self._freeze if self._accept_restored else None)
                return await self._recover()
            except (JournalUnavailable, OSError) as error:
                if isinstance(error, OSError) and error.errno not in _NO_ROOM:
                    raise
                log.error("cannot start yet: the journal cannot commit", reason=str(error))
            await rest(stop, self._retry)
        return None

    async def leave(self) -> None:
        """After the last unit of work of a daemon that was told to stop."""
        try:
            await self._mark.leave(self._journal)
        except (JournalUnavailable, OSError) as error:
            # Copies made while we ran are not told from this journal then; nothing else depends on it.
            log.warning("the journal was not marked at the stop", error=type(error).__name__)

    def _freeze(self, connection: Connection, wrong: str) -> None:
        self._runner.freeze_all(connection, "journal_restored", f"{wrong}; the operator started it all the same")

    async def _recover(self) -> Found:
        found = await self._journal.write(lambda connection: recover(connection, self._blobs))
        if await self._journal.write(lambda connection: self._runner.outdate(connection, found.records, self._misfit)):
            return await self._recover()
        lost = self._secrets.lost(record.job for record in found.records if record.running)
        for job in lost:
            reason = f"its secret {self._secrets.path(job)} is missing: {_RESTORED}"
            await self._runner.fail(job, chain.SECRET_MISSING, reason, told="this party has lost its secret of the job")
        return await self._journal.write(lambda connection: recover(connection, self._blobs)) if lost else found
