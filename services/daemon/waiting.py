"""Waiting for the end of a job at a daemon's control socket, be the daemon in this process or not.

Nothing here needs more than the socket, so that a command which waits starts as fast as one that only asks.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.daemon.control import JOURNAL_AWAY, ControlClient, ControlError, ControlUnreachable

POLL_S = 0.1
END_TIMEOUT_S = 30.0

Watch = Callable[[dict[str, Any]], None]

ends: dict[Path, Future[None]] = {}
"""How the daemons within this process end, by data directory: nobody shall wait for one that is gone."""


@contextmanager
def or_why(*data_directories: Path) -> Iterator[None]:
    """In place of `ControlUnreachable`, raise what ended the daemon, if it ran in this process."""
    try:
        yield
    except ControlUnreachable:
        for directory in data_directories:
            raise_end(directory, END_TIMEOUT_S)  # its console went first: the daemon is about to end
        raise


def raise_end(data_directory: Path, timeout_s: float) -> None:
    """Raise what ended this process's daemon of a data directory, or ends it within `timeout_s`."""
    end = ends.get(data_directory)
    try:
        failure = None if end is None else end.exception(timeout_s)
    except TimeoutError:
        return
    if failure is not None:
        raise failure


def wait_for(client: ControlClient, job: str, watch: Watch | None = None, *, until_stage: str = "") -> dict[str, Any]:
    """Poll a job until it has ended, or has come to a stage. Returns its last view.

    A journal that is away is waited for. Raises ControlUnreachable when the daemon goes away, or what ended it if it
    ran in this process.
    """
    view: dict[str, Any] = {}
    while True:
        try:
            with or_why(client.data_directory):
                view = client.ask("job", id=job)
        except ControlError as error:
            if error.code != JOURNAL_AWAY:
                raise
            if watch is not None:
                watch({**view, "waiting": None, "disk": {"ok": False, "detail": str(error)}})
            time.sleep(POLL_S)
            continue
        if watch is not None:
            watch(view)
        if until_stage and (view["progress"] or {}).get("stage") == until_stage:
            return view
        if view["status"] != "running" and (view["outcome"] != "done" or view["results"]):
            return view
        time.sleep(POLL_S)
