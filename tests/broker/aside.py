"""Stories in a process of their own: what libraries leave behind where lines break is not to meet another test."""

import asyncio
from collections.abc import Callable, Coroutine
from multiprocessing import get_context
from typing import Any

from tests.broker.stories import TIME_LIMIT_S


def _tell(story: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
    asyncio.run(story(*arguments))


def told_aside(story: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
    """Fail unless a story of a module ends well; what it raises is on standard error."""
    process = get_context("spawn").Process(target=_tell, args=(story, *arguments))
    process.start()
    process.join(TIME_LIMIT_S)
    running = process.is_alive()
    process.kill()
    process.join()
    assert not running, "the story has not ended"
    assert process.exitcode == 0
