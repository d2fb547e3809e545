"""What a party says of its jobs to whoever subscribes to `status.#` (over MQTT `status/#`): docs/mqtt.md.

Off unless party.toml says `status = true`. On change and every 30 seconds, as a topic exchange keeps nothing for who
comes later: after half a minute a new subscriber has seen every job. Nothing depends on it: what cannot be published
is left, and the next round says how things stand then.

`python -m services.daemon.status` prints the schema, docs/schemas/status.json.
"""

import asyncio
import dataclasses
import inspect
import json
import time
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec
import structlog

from broker.transport import PublishCode, PublishFailed
from services.daemon.daemon import Daemon
from services.daemon.standing import Rate
from services.engine.jobs import JobView, Status
from services.engine.waiting import Waiting
from services.store.journal import JournalClosed

log = structlog.get_logger("status")

INTERVAL_S: Final = 30.0
LOOK_S: Final = 1.0
ENDED_TOLD_S: Final = 86_400.0
"""So long after its end a job is still told of."""
JOBS_TOLD_MAX: Final = 200
"""Jobs that are told of; of more, those with the newest events."""


class JobStatus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where one job stands at one party, as JSON under the routing key `status.<party>.<job>`.

    Sent by a party with `status = true`, in the clear: whoever may read `status.#` at the broker sees who works with
    whom, on what, how far and how fast. It holds no metric of a model, no coefficient, score or other private value,
    and no free text.

    Attributes:
        version: of this schema.
        party: who says it.
        job: the identifier of the job.
        role: the party's part in the job, as `warren jobs` names it.
        partners: the other parties of the job.
        status: `running`, `finished` or `frozen`.
        outcome: of a finished job: done, failed, cancelled, declined or expired; else empty.
        reason_code: why it failed, was declined or is frozen; else empty.
        stage: what is being done, as `warren jobs` names it; empty before the first stage.
        iteration: the present one; 0 outside of iterations.
        iterations: at most so many.
        fraction: of the rows of the present stage and iteration, how much is done: 0 to 1.
        rate: rows a second in the present stage and iteration; 0 when it has just begun.
        eta_s: seconds left: in training of all iterations that may come, elsewhere of the present stage; null when
            nothing can be said.
        waits_for: a party, several, `broker`, `journal`, `own work` and the like; empty when the job waits for nothing.
        why: a word for the reason of the wait (docs/reliability.md); empty when it waits for nothing.
        since: seconds since 1970 of the last event of the job at this party.
        at: seconds since 1970 when this was said.
        every_s: it is said again after so many seconds; after twice as long without it the party is away.

    """

    version: Literal[1] = 1
    party: str
    job: str
    role: str
    partners: tuple[str, ...]
    status: str
    outcome: str
    reason_code: str
    stage: str
    iteration: int
    iterations: int
    fraction: float
    rate: float
    eta_s: float | None
    waits_for: str
    why: str
    since: float
    at: float
    every_s: float


def status_of(
    party: str, view: JobView, waiting: Waiting | None, rate: float, left: float | None, *, at: float, every_s: float
) -> JobStatus:
    """What is said of a job. `rate`, `left`: rows a second of the present stage and iteration, and seconds left."""
    place = view.progress
    done, total = (place.done, place.total) if place else (0, 0)
    return JobStatus(
        party=party,
        job=view.job,
        role=view.role,
        partners=view.partners,
        status=view.status,
        outcome=view.outcome,
        reason_code=view.reason_code,
        stage=place.stage if place else "",
        iteration=place.iteration if place else 0,
        iterations=place.iterations if place else 0,
        fraction=min(1.0, done / total) if total else 0.0,
        rate=round(rate, 1),
        eta_s=None if left is None else round(left, 1),
        waits_for=waiting.waits_for if waiting else "",
        why=waiting.why.value if waiting else "",
        since=view.updated_at,
        at=at,
        every_s=every_s,
    )


def place_of(status: JobStatus) -> tuple[object, ...]:
    """What of a status is worth saying at once when it has changed."""
    return (status.status, status.outcome, status.stage, status.iteration, status.waits_for, status.why)


class StatusReports:
    """Publishes the status of a daemon's jobs.

    Args:
        party: its name.
        daemon: whose jobs.
        interval_s: each job is told of again after so long.
        look_s: so often it is looked whether something has changed.
        clock: seconds since 1970.

    """

    def __init__(
        self,
        party: str,
        daemon: Daemon,
        *,
        interval_s: float = INTERVAL_S,
        look_s: float = LOOK_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._party = party
        self._daemon = daemon
        self._interval_s = interval_s
        self._look_s = look_s
        self._clock = clock
        self._said: dict[str, tuple[tuple[object, ...], float]] = {}
        self._rates: dict[str, Rate] = {}
        self._trouble = ""

    async def run(self) -> None:
        """Publish until cancelled, or until the daemon ends."""
        while True:
            try:
                await self._round()
            except JournalClosed:
                return
            except Exception as error:
                # Nothing waits for a status: it must not take the daemon with it.
                log.error("status is told later", cause=type(error).__name__)
            await asyncio.sleep(self._look_s)

    async def _round(self) -> None:
        at, now = self._clock(), asyncio.get_running_loop().time()
        waits = await self._daemon.waits()
        views = [view for view in await self._daemon.jobs() if _told(view, at)]
        views = sorted(views, key=lambda view: view.updated_at)[-JOBS_TOLD_MAX:]
        self._forget({view.job for view in views})
        for view in views:
            place = view.progress
            rate = self._rates.setdefault(view.job, Rate())
            speed = rate.look(dataclasses.asdict(place), now) if place else 0.0
            status = status_of(
                self._party, view, waits.get(view.job), speed, rate.left(), at=at, every_s=self._interval_s
            )
            said, told_at = self._said.get(view.job, ((), 0.0))
            # A look early rather than late: whoever subscribes waits no longer than the interval.
            due = now - told_at > self._interval_s - self._look_s
            if (due or said != place_of(status)) and not await self._say(status, now):
                return

    async def _say(self, status: JobStatus, now: float) -> bool:
        """Publish; False when there is no sense in going on with others."""
        try:
            await self._daemon.say_status(status.job, msgspec.json.encode(status))
        except PublishFailed as failure:
            if failure.code is not PublishCode.DISCONNECTED and failure.detail != self._trouble:
                self._trouble = failure.detail
                log.warning("status not published", job=status.job, code=str(failure.code), cause=failure.detail)
            return False
        self._trouble = ""
        self._said[status.job] = place_of(status), now
        return True

    def _forget(self, told: set[str]) -> None:
        for kept in (self._said, self._rates):
            for job in [job for job in kept if job not in told]:
                del kept[job]


def _told(view: JobView, at: float) -> bool:
    return view.status != Status.FINISHED.value or at - view.updated_at < ENDED_TOLD_S


def schema() -> dict[str, Any]:
    """The JSON schema of a status."""
    made = msgspec.json.schema(JobStatus)
    # The compiler of Python 3.13 and later takes the indentation away, earlier ones do not.
    made["$defs"]["JobStatus"]["description"] = inspect.getdoc(JobStatus)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


if __name__ == "__main__":
    print(json.dumps(schema(), indent=2))  # noqa: T201
