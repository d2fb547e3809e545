"""Tells a journal that was restored from a backup: a mark in the data directory that has to fit it.

Both hold the journal's instance (random, made once) and a generation that grows by one at every start and every clean
stop. A copy of the journal from before the last start or stop has a smaller generation than the mark; another journal
has another instance. The order makes every crash harmless: the mark announces the next generation, durable; the journal
commits it; the mark confirms it. Between the two, either generation is the right one.

Commits in between cost nothing here, so what this cannot see is a copy made since the last start, and a mark that was
restored together with its journal. Both lack messages that the partner has receipted, or receipts that it was given:
its answer to the question that every start asks says so, and the job is frozen (`services.engine.receiving`).
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, insert, select

from services.store.data_directory import sync_directory
from services.store.journal import Journal
from services.store.journal_schema import meta

INSTANCE_BYTES: Final = 16
_INSTANCE: Final = "instance"
_GENERATION: Final = "generation"


class JournalRestored(Exception):
    """The journal does not fit its data directory. The text says how, and what to do."""


class Mark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands in a mark, and in a journal. `confirmed`: the journal has committed this generation."""

    instance: str
    generation: int
    confirmed: bool = True


class JournalMark:
    """The mark of one data directory.

    Args:
        path: the file.
        journal: the journal as operators know it, for sentences.
        entropy: so many random bytes.

    """

    def __init__(self, path: Path, journal: str, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._path = path
        self._journal = journal
        self._entropy = entropy

    async def enter(self, journal: Journal, accept: Callable[[Connection, str], None] | None = None) -> None:
        """At start: check journal against mark and begin a generation.

        Args:
            journal: open.
            accept: the operator's decision to go on with a journal that does not fit: a unit of work that is told what
                is wrong and is committed together with the new generation. None: it is refused.

        Raises:
            JournalRestored: it does not fit.
            JournalUnavailable: nothing could be committed.

        """
        found = await journal.read(_read)
        mark = self._load()
        wrong = self._misfit(found, mark)
        if wrong and accept is None:
            raise JournalRestored(
                f"{wrong}. To go on would repeat what has been said already: put the right journal back. If it is "
                "lost, `warren serve --accept-restored-journal` starts all the same and freezes every job that runs"
            )
        if found is not None and not wrong:
            await self._advance(journal, found)
        else:
            # A fresh instance: whatever other copies there are, none of them fits this data directory any more.
            first = Mark(instance=self._entropy(INSTANCE_BYTES).hex(), generation=0)
            await self._advance(journal, first, accept if wrong else None, wrong)

    async def leave(self, journal: Journal) -> None:
        """At a clean stop: begin a generation, so that copies made while the daemon ran are old from now on."""
        found = await journal.read(_read)
        if found is not None:
            await self._advance(journal, found)

    async def _advance(
        self,
        journal: Journal,
        found: Mark,
        accept: Callable[[Connection, str], None] | None = None,
        wrong: str = "",
    ) -> None:
        """Begin the generation after `found`, the journal's. An attempt that failed announced the same one."""
        mark = Mark(instance=found.instance, generation=found.generation + 1)

        def unit(connection: Connection) -> None:
            if accept is not None:
                accept(connection, wrong)
            for key, value in ((_INSTANCE, mark.instance), (_GENERATION, str(mark.generation))):
                connection.execute(delete(meta).where(meta.c.key == key))
                connection.execute(insert(meta).values(key=key, value=value))

        self._store(msgspec.structs.replace(mark, confirmed=False), durable=True)
        await journal.write(unit)
        # If a power cut takes this back, both generations count as right: less is noticed, nothing is refused.
        self._store(mark, durable=False)

    def _misfit(self, found: Mark | None, mark: Mark | None) -> str:
        """What is wrong; empty if nothing is."""
        where = f"the journal {self._journal}"
        if mark is None:
            if found is None:
                return ""
            return (
                f"{where} belongs to another data directory than {self._path.parent}, or {self._path.name} was lost "
                "there: one of both was restored from a backup or moved"
            )
        if found is None:
            if mark.generation == 1 and not mark.confirmed:
                return ""
            return f"{where} is new or empty, but {self._path.parent} has worked with another one before"
        if found.instance != mark.instance:
            return f"{where} is not the one that {self._path.parent} has worked with"
        if found.generation > mark.generation:
            return (
                f"{self._path.parent} is older than its journal {self._journal}: the data directory was restored from "
                "a backup"
            )
        if found.generation < mark.generation - (not mark.confirmed):
            return f"{where} is an old copy: it was restored from a backup under a data directory that has gone on"
        return ""

    def _load(self) -> Mark | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Mark)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise JournalRestored(f"{self._path} cannot be read ({error}): restore it, or remove it") from None

    def _store(self, mark: Mark, *, durable: bool) -> None:
        fresh = self._path.with_name(f".{self._path.name}")
        data = msgspec.json.encode(mark) + b"\n"
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            if os.write(file, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
            os.fsync(file)  # always: else a power cut may leave an empty file under the mark's name
        finally:
            os.close(file)
        fresh.rename(self._path)
        if durable:
            sync_directory(self._path.parent)


def _read(connection: Connection) -> Mark | None:
    rows = connection.execute(select(meta.c.key, meta.c.value).where(meta.c.key.in_((_INSTANCE, _GENERATION))))
    values = {key: value for key, value in rows}
    if _INSTANCE not in values:
        return None
    return Mark(instance=values[_INSTANCE], generation=int(values[_GENERATION]))
