"""What a daemon tells a Prometheus: counts, sizes, times and states, as one text for each scrape.

Nothing private is among it: no coefficient, score, metric of a model, identifier or column name. Labels have few
values: partners are those of the peers directory, codes and names are this program's, and a job is named while it runs
only. Everything is read anew for every scrape, so nothing is forgotten and nothing grows.
"""

import asyncio
import resource
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection, make_url, text

from services import __version__
from services.daemon.daemon import Daemon
from services.daemon.serve import cpu_seconds, peak_bytes
from services.engine.depths import Depths, depths
from services.engine.timings import StageTimes
from services.party.back_ends import BackEnd, back_ends
from services.party.configuration import Party
from services.store.data_directory import JOURNAL

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
RUNNING_NAMED_MAX: Final = 200
"""Running jobs that are named; of more, the oldest."""

Labels = Mapping[str, str]


class _Fixed(Collector):
    """Hands families over that were filled before."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterable[Metric]:
        """The families."""
        return self._families


class Metrics:
    """The metrics of one daemon. `render` belongs on its event loop."""

    def __init__(self, party: Party, daemon: Daemon) -> None:
        self._party = party
        self._daemon = daemon
        self._times = StageTimes()
        self._began = time.time()
        self._back_ends = back_ends()

    async def render(self) -> bytes:
        """All metrics as Prometheus's text, `CONTENT_TYPE`. Raises JournalUnavailable, JournalClosed."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Fixed(await self._families()))
        return generate_latest(registry)

    async def tell(self, request: dict[str, Any]) -> dict[str, str]:
        """The control socket's verb `metrics`."""
        del request
        return {"text": (await self.render()).decode()}

    async def _families(self) -> list[Metric]:
        daemon = self._daemon
        found = await daemon.journal.read(depths)
        named = [item.job for item in found.running[:RUNNING_NAMED_MAX]]
        seconds = await daemon.journal.read(self._stages(named))
        size = await daemon.journal.read(journal_bytes(self._party))
        waits = {job: wait.why.value for job, wait in (await daemon.waits()).items() if job in named}
        queues = await daemon.queue_depths()
        space = await asyncio.to_thread(shutil.disk_usage, self._party.data_directory)
        return [
            *self._daemon_families(),
            *_back_end_families(self._back_ends),
            *_journal_families(found, size, daemon),
            *_message_families(found, daemon),
            gauge(
                "warren_queue_messages",
                "Messages that wait at the broker for this party.",
                (({"queue": name}, count) for name, count in sorted(queues.items())),
            ),
            *_job_families(found, seconds, waits),
            gauge("warren_disk_free_bytes", "Free bytes where the data directory lies.", [({}, space.free)]),
            gauge("warren_disk_size_bytes", "Bytes of the disk where the data directory lies.", [({}, space.total)]),
            gauge(
                "warren_disk_writable",
                "1 while everything that has to be written can be.",
                [({}, float(not daemon.disk.trouble))],
            ),
        ]

    def _stages(self, jobs: list[str]) -> Callable[[Connection], dict[str, dict[str, float]]]:
        def unit(connection: Connection) -> dict[str, dict[str, float]]:
            return {job: self._times.read(connection, job) for job in jobs}

        return unit

    def _daemon_families(self) -> list[Metric]:
        daemon, state = self._daemon, self._daemon.transport_state
        usage = resource.getrusage(resource.RUSAGE_SELF)
        build = {"party": self._party.file.name, "version": __version__}
        own = [({"part": "daemon"}, usage.ru_utime + usage.ru_stime)]
        workers = cpu_seconds(daemon) - own[0][1]
        return [
            gauge("warren_build_info", "Always 1: which party and which version this is.", [(build, 1)]),
            gauge("warren_started_timestamp_seconds", "When the daemon started.", [({}, self._began)]),
            gauge(
                "warren_event_loop_lag_seconds", "How late the event loop was, the last time.", [({}, daemon.lag.last)]
            ),
            gauge(
                "warren_event_loop_lag_worst_seconds",
                "How late the event loop was at worst since the start.",
                [({}, daemon.lag.worst)],
            ),
            counter(
                "warren_cpu_seconds",
                "CPU seconds of the daemon and of its workers that live.",
                [*own, ({"part": "workers"}, max(0.0, workers))],
            ),
            gauge(
                "warren_memory_peak_bytes",
                "Most memory that was resident at once.",
                [({"part": "daemon"}, resident_peak()), ({"part": "workers"}, workers_peak(daemon))],
            ),
            gauge("warren_workers", "Worker processes that live.", [({}, len(daemon.worker_processes))]),
            gauge("warren_broker_up", "1 while the broker is connected and consumed from.", [({}, float(state.up))]),
            counter(
                "warren_broker_connections",
                "Connections to the broker that came about since the start.",
                [({}, state.changes)],
            ),
        ]


def gauge(name: str, about: str, values: Iterable[tuple[Labels, float]]) -> Metric:
    """A family of gauges; all values have the same label names."""
    rows = list(values)
    family = GaugeMetricFamily(name, about, labels=tuple(rows[0][0]) if rows else ())
    for labels, value in rows:
        family.add_metric(tuple(labels.values()), value)
    return family


def counter(name: str, about: str, values: Iterable[tuple[Labels, float]]) -> Metric:
    """A family of counters; `_total` is added to the name."""
    rows = list(values)
    family = CounterMetricFamily(name, about, labels=tuple(rows[0][0]) if rows else ())
    for labels, value in rows:
        family.add_metric(tuple(labels.values()), value)
    return family


def _back_end_families(parts: tuple[BackEnd, ...]) -> list[Metric]:
    return [
        gauge(
            "warren_back_end_info",
            "Always 1: what does each kind of heavy work.",
            (({"work": part.work, "name": part.name}, 1) for part in parts),
        ),
        gauge(
            "warren_back_end_fallen_back",
            "1 where the compiled kernel is missing and something slower works.",
            (({"work": part.work}, float(part.fallen_back)) for part in parts),
        ),
    ]


def _journal_families(found: Depths, size: int, daemon: Daemon) -> list[Metric]:
    cost = daemon.journal.cost
    return [
        gauge("warren_journal_bytes", "Bytes of the journal's database.", [({}, size)]),
        gauge("warren_blob_bytes", "Bytes of bulk that the journal names.", [({}, found.blob_bytes)]),
        counter("warren_journal_commits", "Transactions committed since the start.", [({}, cost.commits)]),
        counter(
            "warren_journal_seconds",
            "Seconds spent in transactions since the start.",
            [({"part": "unit"}, cost.unit_seconds), ({"part": "commit"}, cost.commit_seconds)],
        ),
        gauge("warren_tasks", "Compute tasks that wait or run.", [({}, found.tasks)]),
        counter(
            "warren_events",
            "What was counted over all jobs, by name.",
            (({"name": name}, value) for name, value in sorted(found.counters.items())),
        ),
        counter(
            "warren_parked",
            "Deliveries that were not applied, by reason code.",
            (({"code": code}, count) for code, count in sorted(found.parked.items())),
        ),
    ]


def _message_families(found: Depths, daemon: Daemon) -> list[Metric]:
    counts = daemon.relay_counts
    by_line = sorted(found.outbox.items())
    return [
        gauge(
            "warren_outbox_messages",
            "Messages that wait for credit, for the broker or for a receipt.",
            (({"partner": partner, "traffic": traffic}, count) for (partner, traffic), (count, _) in by_line),
        ),
        gauge(
            "warren_outbox_bytes",
            "Bytes of these messages.",
            (({"partner": partner, "traffic": traffic}, size) for (partner, traffic), (_, size) in by_line),
        ),
        gauge(
            "warren_receipts_outstanding",
            "Messages that the partner has not confirmed to have in its journal.",
            (({"partner": partner}, count) for partner, count in sorted(found.outstanding.items())),
        ),
        gauge(
            "warren_held_messages",
            "Messages of a partner that came ahead of their turn.",
            (({"partner": partner}, count) for partner, count in sorted(found.held.items())),
        ),
        gauge(
            "warren_partner_heard_timestamp_seconds",
            "When the last verified message of a partner was committed.",
            (({"partner": partner}, at) for partner, at in sorted(found.heard.items())),
        ),
        counter(
            "warren_published_messages",
            "Messages that the broker confirmed since the start.",
            [({"again": "no"}, counts.published - counts.published_again), ({"again": "yes"}, counts.published_again)],
        ),
        counter("warren_publish_failures", "Publishes that the broker did not confirm.", [({}, counts.failures)]),
        counter("warren_receipt_questions", "How often a partner was asked what it has.", [({}, counts.questions)]),
        counter("warren_receipts_sent", "Receipts sent.", [({}, counts.receipts)]),
    ]


def _job_families(found: Depths, seconds: Mapping[str, Mapping[str, float]], waits: Mapping[str, str]) -> list[Metric]:
    named = found.running[:RUNNING_NAMED_MAX]
    now = time.time()
    return [
        gauge(
            "warren_jobs",
            "Jobs in the journal, by status and outcome.",
            (({"status": status, "outcome": how}, count) for (status, how), count in sorted(found.jobs.items())),
        ),
        gauge(
            "warren_job_info",
            "Always 1: role, stage and what a running job waits for.",
            (
                ({"job": item.job, "role": item.role, "stage": item.stage, "waits": waits.get(item.job, "")}, 1)
                for item in named
            ),
        ),
        gauge(
            "warren_job_iteration",
            "The iteration that a running job is in.",
            (({"job": item.job}, item.iteration) for item in named),
        ),
        gauge(
            "warren_job_iterations_max",
            "Iterations of a running job at most.",
            (({"job": item.job}, item.iterations) for item in named),
        ),
        gauge(
            "warren_job_stage_rows_done",
            "Rows done in the present stage of a running job.",
            (({"job": item.job}, item.done) for item in named),
        ),
        gauge(
            "warren_job_stage_rows",
            "Rows in the present stage of a running job.",
            (({"job": item.job}, item.total) for item in named),
        ),
        counter(
            "warren_job_rows",
            "Rows that a running job has worked on, over all stages and iterations.",
            (({"job": item.job}, item.rows) for item in named),
        ),
        gauge(
            "warren_job_silence_seconds",
            "Seconds since the last event of a running job.",
            (({"job": item.job}, max(0.0, now - item.updated_at)) for item in named),
        ),
        gauge(
            "warren_job_stage_seconds",
            "Seconds that a running job has spent in each stage.",
            (
                ({"job": job, "stage": stage}, value)
                for job, stages in seconds.items()
                for stage, value in stages.items()
            ),
        ),
    ]


def journal_bytes(party: Party) -> Callable[[Connection], int]:
    """A unit that gives the bytes of the journal's database."""

    def unit(connection: Connection) -> int:
        if connection.dialect.name == "postgresql":
            return int(connection.scalar(text("SELECT pg_database_size(current_database())")) or 0)
        named = make_url(party.file.journal).database if party.file.journal else None
        file = Path(named) if named else party.data_directory / JOURNAL
        parts = (file, file.with_name(f"{file.name}-wal"))
        return sum(part.stat().st_size for part in parts if part.exists())

    return unit


def resident_peak() -> int:
    """Most memory that this process had resident, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def workers_peak(daemon: Daemon) -> int:
    """The same of its workers together."""
    return sum(map(peak_bytes, daemon.worker_processes))
