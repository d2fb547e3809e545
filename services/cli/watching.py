"""`warren watch`: where all jobs of all parties stand, as they tell it at the broker."""

import asyncio
import sys
import time
from contextlib import suppress
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from broker.watching import watch as watch_status
from messages.keys import AddressError, status_key
from services.cli.administrators import warn_of_password
from services.daemon.standing import STAGES, ago
from services.daemon.status import JobStatus
from services.party.configuration import ConfigError
from services.party.plain_text import plain

out = Console(highlight=False)

VARIABLE: Final = "WARREN_WATCH_URL"
JOBS_MAX: Final = 1000
"""Jobs that are kept; of more, those heard of last."""
AWAY_AFTER: Final = 2.0
"""Intervals without a word after which a party is called away."""


class Board:
    """The newest status of each job at each party. What is no status, or says another name than its key, is counted."""

    def __init__(self) -> None:
        self.statuses: dict[str, JobStatus] = {}
        self.refused = 0
        self.broker = "connecting"

    def take(self, routing_key: str, body: bytes) -> JobStatus | None:
        """Note what came; None for what is no status."""
        try:
            status = msgspec.json.decode(body, type=JobStatus)
            if status_key(status.party, status.job) != routing_key:
                raise AddressError("a status of another")
        except (msgspec.DecodeError, AddressError, UnicodeDecodeError):
            self.refused += 1
            return None
        self.statuses.pop(routing_key, None)
        self.statuses[routing_key] = status
        while len(self.statuses) > JOBS_MAX:
            del self.statuses[next(iter(self.statuses))]
        return status

    def tell(self, sentence: str) -> None:
        """Note how the connection is."""
        self.broker = sentence

    def table(self, now: float) -> Table:
        """All of it for people. `now`: seconds since 1970."""
        table = Table(
            "party", "job", "role", "status", "stage", "done", "rows/s", "left", "waits for", "last event",
            box=None, caption=plain(self._caption()), caption_justify="left",
        )  # fmt: skip
        for key in sorted(self.statuses):
            status = self.statuses[key]
            stage = STAGES.get(status.stage, status.stage)
            if status.iteration:
                stage += f", iteration {status.iteration} of at most {status.iterations}"
            running = status.status == "running"
            cells = (
                status.party,
                status.job,
                status.role,
                self._state(status, now),
                stage,
                f"{status.fraction:.0%}" if running and status.fraction else "",
                f"{status.rate:,.0f}" if running and status.rate else "",
                ago(status.eta_s) if running and status.eta_s is not None else "",
                f"{status.waits_for} ({status.why})" if status.waits_for else "",
                f"{ago(now - status.since)} ago",
            )
            table.add_row(*map(plain, cells))
        return table

    def _state(self, status: JobStatus, now: float) -> str:
        if now - status.at > AWAY_AFTER * status.every_s:
            return f"not heard of for {ago(now - status.at)}"
        said = status.outcome or status.status
        return f"{said} ({status.reason_code})" if status.reason_code else said

    def _caption(self) -> str:
        refused = f"; {self.refused} messages were no status" if self.refused else ""
        return f"{len(self.statuses)} jobs; {self.broker}{refused}"


def watch(
    context: typer.Context,
    url: Annotated[
        str,
        typer.Argument(
            envvar=VARIABLE,
            help="amqps:// or mqtts:// URL of a user made by `warren broker watcher`.",
        ),
    ],
    seconds: Annotated[float, typer.Option(help="Leave after so long; 0: when interrupted.")] = 0.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each status as a line of JSON (docs/schemas/status.json).")
    ] = False,
) -> None:
    """Where the jobs of all parties stand, live, from what they tell at the broker (`status = true` in party.toml)."""
    warn_of_password(context, "url", url, f"put the URL in {VARIABLE}")
    board = Board()
    try:
        asyncio.run(_watch(url, board, seconds, as_json=as_json))
    except ValueError as error:
        raise ConfigError(f"URL: {error}") from None
    if not as_json:
        out.print(board.table(time.time()))


async def _watch(url: str, board: Board, seconds: float, *, as_json: bool) -> None:
    def take(routing_key: str, body: bytes) -> None:
        status = board.take(routing_key, body)
        if as_json and status is not None:
            typer.echo(msgspec.json.encode(status).decode())

    async def show() -> None:
        with Live(console=out, transient=True, auto_refresh=False) as live:
            while True:
                live.update(board.table(time.time()), refresh=True)
                await asyncio.sleep(0.5)

    watching = watch_status(url, take, board.tell)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds or None), asyncio.TaskGroup() as group:
            group.create_task(watching)
            if sys.stdout.isatty() and not as_json:
                group.create_task(show())
