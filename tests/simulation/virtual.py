"""An event loop whose time is a number: it jumps to the next timer, and what others do on threads happens at once."""

import asyncio
import selectors
from collections.abc import Callable, Mapping
from typing import Any

STEPS_MAX = 3_000_000


class Stalled(Exception):
    """Nothing is left to happen, or too much has happened, and the story is not over."""


class _Jump(selectors.DefaultSelector):
    """Waits for nobody: time passes instead. There is no input or output to wait for."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.loop.pass_time(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time starts at 0 and passes only while nothing is ready. One thread, so a seed decides everything."""

    def __init__(self) -> None:
        self._now = 0.0
        self._steps = 0
        jump = _Jump()
        jump.loop = self
        super().__init__(jump)
        self.set_exception_handler(_quiet)

    def time(self) -> float:
        """Virtual seconds since the beginning."""
        return self._now

    def pass_time(self, timeout: float | None) -> None:
        """Jump to the next timer. Raises Stalled when there is none, and after STEPS_MAX rounds."""
        self._steps += 1
        if timeout is None or self._steps > STEPS_MAX:
            raise Stalled(f"after {self._now:.0f} virtual seconds and {self._steps} rounds nothing comes any more")
        if timeout > 0:
            self._now += timeout

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":  # type: ignore[override]
        """At once, on this thread."""
        done: asyncio.Future[Any] = self.create_future()
        try:
            done.set_result(func(*args))
        except BaseException as error:
            done.set_exception(error)
        return done

    def _write_to_self(self) -> None:
        """Nobody sleeps, so nobody is woken."""


def _quiet(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """What a killed daemon leaves unretrieved is no news."""


def run(story: Callable[[], Any]) -> Any:
    """Tell a story to its end on a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(story())
