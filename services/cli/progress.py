"""Where a job stands, for people: live on a terminal, a line at a time elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from services.daemon.standing import Rate, describe, wait_of
from services.party.plain_text import plain

LINE_PERIOD_S: Final = 15.0
"""Without a terminal, a stage or iteration gets a further line after so long."""
STILL_PERIOD_S: Final = 60.0
"""The same when there is nothing new to say."""


class ProgressView:
    """Call it with every view of a job."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, transient=True, refresh_per_second=4) if sys.stderr.isatty() else None
        self._rate = Rate()
        self._last: tuple[tuple[str, int, bool], float] = (("", 0, False), 0.0)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, view: dict[str, Any]) -> None:
        """Show a view."""
        progress = view.get("progress") or {}
        now = time.monotonic()
        rate = self._rate.look(progress, now)
        if self._live is None:
            self._print(view, rate, now)
            return
        stage, details = describe(view, rate, self._rate.left())
        table = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=progress.get("total", 0) or 1, completed=progress.get("done", 0), width=30)
        table.add_row(plain(stage), bar, plain(details))
        self._live.update(table)

    def _print(self, view: dict[str, Any], rate: float, now: float) -> None:
        """A line for every stage and iteration, for work that takes long, and now and then whatever happens."""
        stage, details = describe(view, rate, self._rate.left())
        done = (view.get("progress") or {}).get("done", 0)
        waits = bool(wait_of(view))
        before, at = self._last
        period = LINE_PERIOD_S if (done, waits) != before[1:] else STILL_PERIOD_S
        if stage == before[0] and now - at < period:
            return
        self._last = ((stage, done, waits), now)
        self._console.print(plain(f"{stage}  {details}".rstrip()), soft_wrap=True)
