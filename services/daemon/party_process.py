"""A running party: daemon, control socket and results, together for as long as the daemon runs."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from broker.transport import Transport
from services.daemon.attending import attended
from services.daemon.clocks import Clocks
from services.daemon.control import ControlSocket, Verb
from services.daemon.daemon import Daemon
from services.daemon.metrics import Metrics
from services.daemon.metrics_page import serve_metrics
from services.daemon.retaining import retain_jobs
from services.daemon.serve import keep_results, make_daemon
from services.daemon.status import StatusReports
from services.daemon.verbs import Verbs
from services.party.configuration import Party
from services.party.logs import LogBook, note
from services.store.journal_lock import shown

SWITCH_INTERVAL_S: Final = 0.0005
"""How long a thread may keep the interpreter from another one that waits. With the usual 5 ms each commit on the
journal's thread cost its task 10 ms, because it asks for the interpreter a few times."""


@dataclass(frozen=True, slots=True)
class Running:
    """A daemon that has recovered and runs, for what is served beside it."""

    party: Party
    daemon: Daemon
    book: LogBook
    verbs: Mapping[str, Verb]


Beside = Callable[[Running], Coroutine[Any, Any, None]]
"""Served from the daemon's start to its end, then cancelled. What it raises ends the daemon."""


async def run_party(
    party: Party,
    book: LogBook,
    transport: Transport | None = None,
    *,
    handle_signals: bool = False,
    accept_restored: bool = False,
    beside: Sequence[Beside] = (),
) -> None:
    """Run until the daemon is stopped. Raises what the daemon's `run` raises. `accept_restored`: see DaemonConfig."""
    daemon = make_daemon(party, transport, accept_restored=accept_restored)
    await run_beside(party, daemon, book, handle_signals=handle_signals, beside=beside)


async def run_beside(
    party: Party,
    daemon: Daemon,
    book: LogBook,
    *,
    handle_signals: bool = False,
    beside: Sequence[Beside] = (),
) -> None:
    """Run a daemon with its control socket, and what else is served, beside it."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    note(party=party.file.name)
    metrics = Metrics(party, daemon)
    table = {**Verbs(party, daemon, book).table(), "metrics": metrics.tell, "clocks": Clocks(party, daemon).tell}
    verbs = attended(table, daemon.journal, shown(party.file.journal) if party.file.journal else "in a file")
    control = ControlSocket(party.data_directory, verbs)
    if party.file.metrics:
        beside = (*beside, lambda _: serve_metrics(party.file.metrics, metrics.render))
    if party.file.status:
        beside = (*beside, lambda _: StatusReports(party.file.name, daemon).run())
    running = Running(party, daemon, book, verbs)

    async def serve_control() -> None:
        await daemon.started()  # nobody may ask a daemon that has not recovered yet
        await control.run()

    async def serve_beside(part: Beside) -> None:
        await daemon.started()
        await part(running)

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(serve_control()),
            group.create_task(keep_results(party, daemon)),
            group.create_task(retain_jobs(party, daemon)),
            *(group.create_task(serve_beside(part)) for part in beside),
        ]
        try:
            await daemon.run(handle_signals=handle_signals)
        finally:
            for task in tasks:
                task.cancel()
