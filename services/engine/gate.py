"""Which running jobs rest: an operator paused them, or it is a quiet time of one of their partners.

A job that rests computes nothing and sends nothing. What comes in is received, receipted and applied, and questions
are answered, so that nothing is lost and the partners see why they wait. What ends a job is not held up.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Final

PAUSED: Final = "paused"
QUIET: Final = "quiet_hours"


class Gate:
    """See the module docstring. All methods belong on the daemon's event loop.

    `quiet`: whether it is a quiet time of a partner now.
    """

    def __init__(self, quiet: Callable[[str], bool] = lambda _: False) -> None:
        self._quiet = quiet
        self._partners: dict[str, tuple[str, ...]] = {}
        self._paused_jobs: frozenset[str] = frozenset()
        self._paused_partners: frozenset[str] = frozenset()
        self._resting: dict[str, str] = {}

    @property
    def resting(self) -> dict[str, str]:
        """Why, of each job that rests: `paused` or `quiet_hours`."""
        return dict(self._resting)

    def rests(self, job: str) -> str:
        """Why a job rests; empty if it does not."""
        return self._resting.get(job, "")

    def partners_of(self, job: str) -> tuple[str, ...]:
        """The partners of a running job."""
        return self._partners.get(job, ())

    def begin(self, job: str, partners: Iterable[str]) -> None:
        """A job runs from now on."""
        self._partners[job] = tuple(partners)
        if why := self._why(job):
            self._resting[job] = why

    def end(self, job: str) -> None:
        """A job is over: what there is yet to say of it may leave."""
        self._partners.pop(job, None)
        self._resting.pop(job, None)

    def pause(self, jobs: Collection[str], partners: Collection[str]) -> None:
        """All that is paused now; `look` acts on it."""
        self._paused_jobs, self._paused_partners = frozenset(jobs), frozenset(partners)

    def look(self) -> list[str]:
        """Judge every job anew. Returns those that began to rest, rest for another reason, or go on."""
        before, self._resting = self._resting, {}
        for job in self._partners:
            if why := self._why(job):
                self._resting[job] = why
        return [job for job in self._partners if before.get(job) != self._resting.get(job)]

    def _why(self, job: str) -> str:
        partners = self._partners[job]
        if job in self._paused_jobs or not self._paused_partners.isdisjoint(partners):
            return PAUSED
        return QUIET if any(self._quiet(name) for name in partners) else ""
