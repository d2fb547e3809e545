"""Every named maximum of the engine, and its timing."""

from dataclasses import dataclass
from typing import Final

CREDIT_WINDOW: Final = 16
"""Bulk chunks of one sender and job that may be unconsumed at the receiver. Part of protocol version 1."""

BULK_BODY_BYTES_MAX: Final = 2**20
"""A sealed bulk body at most: throughput of RabbitMQ saturates here, more only costs latency and memory."""

BULK_WINDOW_BYTES: Final = CREDIT_WINDOW * BULK_BODY_BYTES_MAX
"""Bulk of one job without a receipt of one partner, from which on no task is started that would make more for it."""

CONTROL_BODY_BYTES_MAX: Final = 65_536 + 4_096
"""A sealed control body at most: an event and what the seal adds."""

ENVELOPE_BYTES_MAX: Final = BULK_BODY_BYTES_MAX + 65_536
"""Everything a delivery may have."""

HOLD_AHEAD: Final = 64
"""A message that is ahead of its turn by this many sequences or more is dropped; the sender sends it again."""

LATE_MESSAGES_MAX: Final = 1_000
"""Messages that a job takes after its end; the rest is dropped."""

JOBS_PER_PARTNER_MAX: Final = 64
"""Running jobs that one partner may have proposed to this party."""

PARTNERS_PER_JOB_MAX: Final = 8
"""Partners of one job: its business and seven fellow providers, or eight providers."""

SIGN_PERIOD_S: Final = 1.0
"""Seconds within which a partner's signs are noted once."""

TASKS_PER_JOB_MAX: Final = 100_000
"""Compute tasks of one job that wait for the executor."""

TASK_FAILURES_MAX: Final = 3
"""A task that failed so often ends its job."""

PARKED_ROWS_MAX: Final = 1_000
PARKED_BYTES_MAX: Final = 16 * 2**20
PARKED_EXCERPT_BYTES: Final = 4_096

TRANSACTION_ITEMS_MAX: Final = 32
TRANSACTION_SECONDS_MAX: Final = 0.010
DELIVERIES_WAITING_MAX: Final = 32
QUESTIONS_WAITING_MAX: Final = 16

SEGMENT_BYTES_MAX: Final = 16 * 2**20
"""A segment file is closed from this size on. It is deleted when nothing in it is referred to."""

JOB_CACHES_MAX: Final = 4
"""Jobs whose tables and keys a worker process remembers."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Waits of the relay and of the daemon, in seconds. Only tests shorten them.

    Attributes:
        silence_first: silence after which the partner is asked what it has; doubles with each question.
        silence_last: the longest silence between two questions.
        receipt_delay: receipts that become due within this time travel as one.
        retry_first: wait after a publish that failed; doubles up to `retry_last`.
        retry_last: the longest wait between two publishes.
        watch: period in which reconnections and expiries are looked for.
        disk: period in which a journal that could not commit is tried again.
        lag: period in which the event loop's lateness is measured.

    """

    silence_first: float = 5.0
    silence_last: float = 600.0
    receipt_delay: float = 0.05
    retry_first: float = 0.5
    retry_last: float = 60.0
    watch: float = 1.0
    disk: float = 2.0
    lag: float = 0.05
