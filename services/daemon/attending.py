"""Verbs of the control socket that answer while the journal's server is away, instead of waiting for it as jobs do."""

import asyncio
import functools
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog

from services.daemon.control import JOURNAL_AWAY, ControlError, Verb
from services.daemon.standing import ago
from services.store.journal import Away, Journal

log = structlog.get_logger("control")

LOOK_S: Final = 0.25
"""A verb that takes longer is asked about: does the journal hold it up?"""
CHANGING: Final = frozenset(
    ["submit", "cancel", "purge", "predict", "lookup", "approve", "decline", "revoke", "allow", "pause", "resume"]
)
"""Verbs that, once begun, come to their end although nobody waits for them any more: half of one is none."""


def attended(verbs: Mapping[str, Verb], journal: Journal, where: str) -> dict[str, Verb]:
    """The same verbs; each raises ControlError when the journal is away, at once or in the middle of it.

    `where`: the journal, for people, without a password.
    """
    left: set[asyncio.Task[Any]] = set()
    return {name: functools.partial(_ask, name, verb, journal, where, left) for name, verb in verbs.items()}


async def _ask(
    name: str, verb: Verb, journal: Journal, where: str, left: set[asyncio.Task[Any]], request: dict[str, Any]
) -> Any:
    task = asyncio.ensure_future(verb(request))
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=LOOK_S)
            if not task.done() and (away := journal.away) is not None:
                raise ControlError(JOURNAL_AWAY, _told(away, where, changes=name in CHANGING))
        return task.result()
    finally:
        if name in CHANGING and not task.done():
            left.add(task)
            task.add_done_callback(functools.partial(_settled, name, left))
        else:
            task.cancel()


def _told(away: Away, where: str, *, changes: bool) -> str:
    since = ago(time.monotonic() - away.since)
    text = (
        f"the daemon waits for its journal {where} since {since}: {away.cause}. Nothing is lost, and all "
        "goes on by itself"
    )
    return f"{text}; what was asked may still be done then: see `warren jobs`" if changes else text


def _settled(name: str, left: set[asyncio.Task[Any]], task: asyncio.Task[Any]) -> None:
    left.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("a command that nobody waits for any more failed", verb=name, error=type(error).__name__)
