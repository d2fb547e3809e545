"""What a daemon does by itself about jobs that were over long ago: purges and archives them, gives back their room.

`retention_days` in party.toml says after how many days; jobs of which everything is kept (retention `full`) have a
number of their own. Copies of the journal that upgrades have left beside it go after the same time.
"""

import asyncio
import time
from typing import Final

import structlog

from services.audit.archive import write_archive
from services.audit.exporting import archive_of
from services.audit.purging import forget_pages
from services.daemon.daemon import Daemon
from services.engine import archiving
from services.engine.records import AuditError
from services.party.configuration import ConfigError, Party
from services.store.data_directory import JOURNAL
from services.store.journal import JournalClosed
from services.store.migrations import copies_of

log = structlog.get_logger("retention")

DAY_S: Final = 86_400.0
PERIOD_S: Final = 3_600.0
PERIOD_LEAST_S: Final = 0.5
JOBS_AT_ONCE: Final = 50


async def retain_jobs(party: Party, daemon: Daemon) -> None:
    """Until cancelled; what cannot be done now is tried again in the next turn. Returns at once where all is kept."""
    days = [each for each in (party.file.retention_days, party.file.retention_full_days) if each]
    if not days:
        return
    await daemon.started()
    while True:
        try:
            if await archive_due(party, daemon, time.time()) < JOBS_AT_ONCE:
                await asyncio.to_thread(_remove_copies, party, time.time())
                await asyncio.sleep(max(PERIOD_LEAST_S, min(PERIOD_S, min(days) * DAY_S)))
        except JournalClosed:
            return
        except Exception as error:
            # Nothing waits for this: it must not take the daemon with it.
            log.error("old jobs are purged later", cause=type(error).__name__)
            await asyncio.sleep(PERIOD_S)


async def archive_due(party: Party, daemon: Daemon, now: float) -> int:
    """Archive some of the jobs that are due; how many. Raises JournalUnavailable, OSError."""
    before, whole_before = (
        now - days * DAY_S if days else 0.0 for days in (party.file.retention_days, party.file.retention_full_days)
    )
    found = await daemon.journal.read(
        lambda connection: archiving.due(connection, before=before, whole_before=whole_before, at_once=JOBS_AT_ONCE)
    )
    done = [job for job in found if await _archive(party, daemon, job)]
    if done:
        while await daemon.journal.write(archiving.give_back):
            pass
        await asyncio.to_thread(forget_pages, party)
    return len(done)


async def _archive(party: Party, daemon: Daemon, job: str) -> bool:
    view = await daemon.job(job)
    if view.results and not (party.data_directory / "results" / job).exists():
        return False  # they are still to be written
    await daemon.purge(job)
    try:
        kept = await daemon.journal.read(lambda connection: write_archive(connection, party, job))
    except (AuditError, ConfigError) as error:
        log.warning("job not archived", job=job, cause=str(error))
        return False
    if not await daemon.journal.write(lambda connection: archiving.archive(connection, job, kept.head)):
        return False
    log.info("job archived", job=job, entries=kept.entries, file=str(archive_of(party, job)))
    return True


def _remove_copies(party: Party, now: float) -> None:
    """Remove what upgrades have kept of the journal, with the private values of jobs that have been purged since."""
    if not party.file.retention_days or party.file.journal:
        return
    for copy in copies_of(party.data_directory / JOURNAL):
        if copy.stat().st_mtime < now - party.file.retention_days * DAY_S:
            copy.unlink()
            log.info("copy of the journal from before an upgrade removed", file=copy.name)
