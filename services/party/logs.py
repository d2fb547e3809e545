"""Log lines: JSON on standard error, and the newest of each job in memory for `warren logs`."""

import logging
import sys
from collections import OrderedDict, deque
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final, TextIO, cast

import structlog

from services.party.log_file import LogFile

LINES_PER_JOB_MAX: Final = 500
LINES_MAX: Final = 2000
"""Of all jobs together: what a daemon remembers must not grow with the number of its jobs."""

note = structlog.contextvars.bind_contextvars
"""Names that every later line of this task or thread bears: `note(party=...)`."""

speaking_of = structlog.contextvars.bound_contextvars
"""The same inside a `with` block: whatever is logged there speaks of this job, message or task."""


def _without_nothing(logger: Any, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A name that does not apply (the iteration of a job that has none yet) is left out."""
    del logger, name
    return {key: value for key, value in event.items() if value is not None}


DRESSING: Final[tuple[structlog.typing.Processor, ...]] = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
    _without_nothing,
)
"""What every line gets, whoever reads it."""


class _Unfailing:
    """A stream whose failures end nothing: a daemon must outlive the full disk that its log lies on."""

    def __init__(self, stream: TextIO | LogFile) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or lose the text. What the stream had kept back of it is tried again with the next."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or not."""
        with suppress(OSError):
            self._stream.flush()


class LogBook:
    """A structlog processor that remembers the newest lines of each job; the job that was silent longest goes first."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, deque[dict[str, Any]]] = OrderedDict()
        self._count = 0

    def __call__(self, logger: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Remember a line that speaks of a job."""
        del logger, name
        if job := event.get("job"):
            lines = self._jobs.setdefault(str(job), deque(maxlen=LINES_PER_JOB_MAX))
            self._jobs.move_to_end(str(job))
            self._count += len(lines) < LINES_PER_JOB_MAX
            lines.append({key: value if isinstance(value, int | float) else str(value) for key, value in event.items()})
            while self._count > LINES_MAX:
                _, gone = self._jobs.popitem(last=False)
                self._count -= len(gone)
        return event

    def lines(self, job: str) -> list[dict[str, Any]]:
        """The newest lines of a job, oldest first."""
        return list(self._jobs.get(job, ()))


def configure(book: LogBook, *, level: int = logging.INFO, to: LogFile | None = None) -> None:
    """Send log lines as JSON to a file, or standard error, and to `book`."""
    structlog.configure(
        processors=[*DRESSING, book, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Unfailing(to or sys.stderr))),
        cache_logger_on_first_use=False,
    )


# -- two parties in one process --------------------------------------------------------------------------------

_book: ContextVar[LogBook | None] = ContextVar("book", default=None)


def write_into(book: LogBook) -> None:
    """From now on the lines of this task, and of what it starts, are the business of `book`: see `remembering`."""
    _book.set(book)


@contextmanager
def remembering(level: int = logging.INFO) -> Iterator[None]:
    """Remember lines of `level` and above in the book of the task that writes them (`write_into`).

    What is printed, and how, stays as it was configured.
    """
    before = structlog.get_config()
    printed = structlog.get_logger().bind().get_effective_level()

    def only_as_before(logger: Any, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        del logger
        if logging.getLevelNamesMapping().get(name.upper(), logging.CRITICAL) < printed:
            raise structlog.DropEvent
        return event

    structlog.configure(
        processors=[_remember, only_as_before, *(each for each in before["processors"] if each is not _remember)],
        wrapper_class=structlog.make_filtering_bound_logger(min(level, printed)),
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def _remember(logger: Any, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    if (book := _book.get()) is not None:
        line: Any = dict(event)
        for dress in DRESSING:
            line = dress(logger, name, line)
        book(logger, name, line)
    return event
