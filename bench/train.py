"""One whole job on default_credit: rows per second of each stage, bytes per row, event-loop lag.

Whole processes on this machine: the figures hold for it and for nothing else; products per row do not depend on it.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from services.cli.locals_ import DEMO_JOB, DEMO_SEED, example_tables, train
from services.daemon.local import BUSINESS, PROVIDER
from services.party.configuration import cores


def measure_training(rows: str, broker: str) -> dict[str, Any]:
    """Train once on the first `rows` rows (or "all"); seconds, bytes and counts."""
    with tempfile.TemporaryDirectory(prefix="warren-bench-") as name:
        tables = example_tables(Path(name), rows)
        result = train(tables, DEMO_JOB, broker=broker, noise_seed=DEMO_SEED)
    count = int(json.loads(result.parameters[BUSINESS])["rows"])
    facts = json.loads(result.history)["iterations"]
    seconds = {stage: round(value, 2) for stage, value in result.seconds.items()}
    return {
        "rows": count,
        "iterations": len(facts),
        "ciphertexts_per_row": sum(fact["terms"] + 1 for fact in facts),
        "seconds": seconds,
        "rows_per_second": {
            "align": round(count / result.seconds["align"], 1),
            "encrypt_features": round(count / result.seconds["encrypt_features"], 1),
            "train_per_iteration": round(count * len(facts) / result.seconds["train"], 1),
        },
        "bytes_per_row": {
            "business_to_provider": round(result.bytes_sent[BUSINESS] / count, 1),
            "provider_to_business": round(result.bytes_sent[PROVIDER] / count, 1),
        },
        "core_seconds": round(result.cpu_seconds, 1),
        # Of all cores that this process may use: 1 is a machine that never waited.
        "cores_busy_in_train": round(result.cpu_seconds_train / result.seconds["train"] / cores(), 2),
        "peak_megabytes": {who: round(count / 1e6) for who, count in result.peak_bytes.items()},
        "event_loop_lag_worst_ms": round(result.lag_worst_s * 1000, 1),
        "broker": broker,
    }


def show(figures: dict[str, Any], out: Console) -> None:
    """The figures as a table."""
    table = Table("figure", "value", box=None)
    for name, value in figures.items():
        if isinstance(value, dict):
            for part, number in value.items():
                table.add_row(f"{name} {part}", f"{number:,}")
        else:
            table.add_row(name, f"{value:,}" if isinstance(value, int | float) else str(value))
    out.print(table)
