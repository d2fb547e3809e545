"""Log lines: JSON on standard error, and the newest of each job in memory for `warren logs`."""

import logging
import sys
from collections import deque
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

LINES_PER_JOB_MAX: Final = 500
JOBS_MAX: Final = 200


class LogBook:
    """A structlog processor that remembers the newest lines of each job."""

    def __init__(self) -> None:
        self._jobs: dict[str, deque[dict[str, Any]]] = {}

    def __call__(self, logger: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Remember a line that speaks of a job."""
        del logger, name
        if job := event.get("job"):
            if job not in self._jobs and len(self._jobs) >= JOBS_MAX:
                del self._jobs[next(iter(self._jobs))]
            lines = self._jobs.setdefault(str(job), deque(maxlen=LINES_PER_JOB_MAX))
            lines.append({key: value if isinstance(value, int | float) else str(value) for key, value in event.items()})
        return event

    def lines(self, job: str) -> list[dict[str, Any]]:
        """The newest lines of a job, oldest first."""
        return list(self._jobs.get(job, ()))


def configure(book: LogBook, *, level: int = logging.INFO) -> None:
    """Send log lines to standard error as JSON, and to `book`."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            book,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
