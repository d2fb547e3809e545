"""Named points at which a test may end the daemon, as a power cut would.

The points stand in production code on purpose: what is tested is the code that runs. `no_crash` is the hook
of every daemon that is not under test.
"""

from collections.abc import Callable
from typing import Final

CrashHook = Callable[[str], None]

CRASH_POINTS: Final = (
    "submit.secret_written",
    "submit.committed",
    "receive.before_commit",
    "receive.after_commit",
    "receive.after_ack",
    "blob.appended",
    "blob.synced",
    "relay.before_publish",
    "relay.after_publish",
    "receipt.before_commit",
    "receipt.after_commit",
    "task.started",
    "task.computed",
    "task.before_commit",
    "task.committed",
    "finish.committed",
)
"""All points, in the order in which a message passes them."""


class Crash(BaseException):
    """What a hook raises. Not an `Exception`, so that no handler on the way takes it for a fault of a job."""


def no_crash(point: str) -> None:
    """Never crash."""
    del point
