"""Where a job stands, for people: live on a terminal, a line at a time elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from services.daemon.standing import Rate, describe
from services.party.plain_text import plain

LINE_PERIOD_S = 5.0


class ProgressView:
    """Call it with every view of a job."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, transient=True, refresh_per_second=4) if sys.stderr.isatty() else None
        self._rate = Rate()
        self._last = ("", 0.0)

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
        done, total = progress.get("done", 0), progress.get("total", 0)
        now = time.monotonic()
        rate = self._rate.update(progress.get("stage", ""), progress.get("iteration", 0), done, now)
        stage, details = describe(view, rate)
        if self._live is None:
            if stage != self._last[0] or now - self._last[1] > LINE_PERIOD_S:
                self._last = (stage, now)
                self._console.print(plain(f"{stage}  {details}".rstrip()), soft_wrap=True)
            return
        table = Table.grid(padding=(0, 2))
        table.add_row(plain(stage), ProgressBar(total=total or 1, completed=done, width=30), plain(details))
        self._live.update(table)
