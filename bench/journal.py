"""What the journal of a real job costs: bytes, commits and seconds per row and iteration of training.

Bytes are what the kernel counts for the process as written to its file systems (`write_bytes` of /proc/self/io, whole
pages, with what is written twice: SQLite's log first and its file at checkpoints) and, apart, what was appended to
segment files. The difference is the journal with its log. In the embedded transport both parties share a process, so
its bytes are theirs together; chain entries, commits and segments are counted for each.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from services.cli.locals_ import DEMO_JOB, DEMO_SEED, example_tables, train
from services.daemon.local import BUSINESS, NAMES
from services.daemon.local_job import LocalResult

ITERATIONS = 4


def measure_journal(rows: str) -> dict[str, Any]:
    """Train `ITERATIONS` iterations on the first `rows` rows of default_credit, and count from the first of them on."""
    with tempfile.TemporaryDirectory(prefix="warren-bench-") as name:
        tables = example_tables(Path(name), rows)
        job = {**DEMO_JOB, "max_iterations": ITERATIONS, "tolerance": 1e-12}
        return figures_of(train(tables, job, broker="embedded", noise_seed=DEMO_SEED))


def figures_of(result: LocalResult) -> dict[str, Any]:
    """The figures of a job that was run in the embedded transport."""
    count = int(json.loads(result.parameters[BUSINESS])["rows"])
    iterations = len(json.loads(result.history)["iterations"])
    per = count * iterations
    segments = sum(cost["segment_bytes"] for cost in result.journal_train.values())
    disk = result.journal_train[BUSINESS]["disk_bytes"]
    return {
        "rows": count,
        "iterations": iterations,
        "seconds_per_iteration": round(result.seconds["train"] / iterations, 3),
        "disk_bytes_per_row_and_iteration": round(disk / per, 1),
        "segment_bytes_per_row_and_iteration": round(segments / per, 1),
        "journal_bytes_per_row_and_iteration": round((disk - segments) / per, 1),
        **{who: _of_party(cost, count, iterations) for who, cost in result.journal_train.items()},
    }


def _of_party(cost: dict[str, float], rows: int, iterations: int) -> dict[str, float]:
    commits = max(1.0, cost["commits"])
    spent = cost["unit_seconds"] + cost["commit_seconds"]
    return {
        "chain_entries_per_iteration": round(cost["entries"] / iterations, 1),
        "commits_per_iteration": round(cost["commits"] / iterations, 1),
        "entries_per_commit": round(cost["entries"] / commits, 2),
        "milliseconds_in_units_per_commit": round(1e3 * cost["unit_seconds"] / commits, 2),
        "milliseconds_until_durable_per_commit": round(1e3 * cost["commit_seconds"] / commits, 2),
        "microseconds_per_row_and_iteration": round(1e6 * spent / (rows * iterations), 1),
        "segment_bytes_per_row_and_iteration": round(cost["segment_bytes"] / (rows * iterations), 1),
    }


def show(figures: dict[str, Any], out: Console) -> None:
    """The figures as tables: of both, and of each party."""
    both = Table("both parties", "value", box=None)
    for name, value in figures.items():
        if name not in NAMES:
            both.add_row(name.replace("_", " "), f"{value:,}")
    each = Table("each party", *NAMES, box=None)
    for name in figures[BUSINESS]:
        each.add_row(name.replace("_", " "), *(f"{figures[who][name]:,}" for who in NAMES))
    out.print(both)
    out.print(each)
