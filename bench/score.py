"""Scoring by two daemons over a private RabbitMQ: a large file in one job, then single rows while a training job runs.

The tables are synthetic. The model is a small one with short keys (the job is marked for it): how it was trained
makes no difference to scoring. The training job beside the lookups has keys of full length.
"""

import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
import polars as pl

from broker.private import PrivateBroker
from services.daemon.control import ControlClient
from services.daemon.local import (
    BUSINESS,
    NAMES,
    PROVIDER,
    LocalTables,
    connect,
    introduce,
    make_party,
    processes,
    wait_for,
)
from services.daemon.local_job import LocalError
from services.daemon.serve import peak_bytes
from services.party.configuration import load_party

TRAINING_ROWS: Final = 8_000
LOOKUP_ROWS: Final = 20_000
MARKS: Final = ("insecure", "small_sample")
JOB: Final[dict[str, Any]] = {
    "task": "logistic",
    "dataset": "labels",
    "partner": f"{NAMES[PROVIDER]}/features",
    "max_iterations": 100,
    "tolerance": 1e-8,
    "marks": list(MARKS),
}
SHORT: Final = {"key_bits": 512, "max_iterations": 2}


def write_tables(directory: Path, rows: int, columns: int, share: float) -> None:
    """Files to train on and files to score; of the business's rows the provider has `share`."""
    random = np.random.default_rng(5)
    for name, count in (("train", TRAINING_ROWS), ("score", rows)):
        for role in (BUSINESS, PROVIDER):
            first = 0 if role == BUSINESS else round(count * (1 - share))
            identifiers = pl.format("person-{}", pl.int_range(first, first + count))
            values = {f"{role[0]}{j}": random.normal(size=count) for j in range(columns)}
            table = pl.DataFrame(values).with_columns(id=identifiers)
            if (name, role) == ("train", BUSINESS):
                table = table.with_columns(y=pl.Series((random.random(count) < 0.4).astype(np.int64)))
            table.write_parquet(directory / f"{name}.{role}.parquet")


@contextmanager
def _daemons(directory: Path) -> Iterator[dict[str, ControlClient]]:
    """Two processes on a private RabbitMQ; their consoles."""
    with PrivateBroker(directory / "rabbitmq", list(NAMES.values())) as broker:
        tables = LocalTables(directory / "train.business.parquet", directory / "train.provider.parquet", "id", "y")
        paths = []
        for role, name in NAMES.items():
            url = broker.amqp_url(name)
            place = directory / role
            path = make_party(place, role, name, tables, broker=url, marks=MARKS, declare=False, noise_seed="")
            large = f'\n[[dataset]]\nname = "large"\nsource = "{directory}/score.{role}.parquet"\nid = "id"\n'
            path.write_text(path.read_text() + large)
            paths.append(path)
        introduce(paths[0], paths[1])
        with (
            processes((paths[0], paths[1])),
            connect(load_party(paths[0])) as business,
            connect(load_party(paths[1])) as provider,
        ):
            yield {BUSINESS: business, PROVIDER: provider}


def _done(client: ControlClient, job: str) -> dict[str, Any]:
    view = wait_for(client, job)
    if view["outcome"] != "done":
        raise LocalError(view["reason_code"], view["reason"])
    return view


def measure_scoring(*, rows: int, lookups: int, columns: int = 10, share: float = 0.9) -> dict[str, Any]:
    """Seconds, memory and bytes of scoring `rows` rows in one job; milliseconds of `lookups` single ones.

    Raises LocalError when a job does not end well.
    """
    with tempfile.TemporaryDirectory(prefix="warren-bench-") as name:
        directory = Path(name)
        write_tables(directory, rows, columns, share)
        with _daemons(directory) as consoles:
            model = consoles[BUSINESS].ask("submit", job={**JOB, **SHORT})["job"]
            for console in consoles.values():
                _done(console, model)
            batch = _batch(consoles, model, directory, rows)
            single = (
                _single(consoles, model, directory, min(round(rows * share), LOOKUP_ROWS), lookups) if lookups else {}
            )
    return {"rows": rows, "columns": columns, "known_to_provider": share, **batch, **single}


def _ask_for(console: ControlClient, model: str, directory: Path, mode: str) -> str:
    file = str(directory / "score.business.parquet")
    job: str = console.ask("predict", model=model, business=file, provider_dataset="large", mode=mode)["job"]
    return job


def _batch(consoles: dict[str, ControlClient], model: str, directory: Path, rows: int) -> dict[str, Any]:
    began = time.monotonic()
    job = _ask_for(consoles[BUSINESS], model, directory, "batch")
    prepared = time.monotonic() - began
    view = _done(consoles[BUSINESS], job)
    seconds = time.monotonic() - began
    scored = pl.scan_csv(Path(view["results"]) / "scores.csv").select(pl.len()).collect().item()
    status = {role: console.ask("status") for role, console in consoles.items()}
    return {
        "rows_scored": scored,
        "seconds": {"read_and_score_own": round(prepared, 1), "all": round(seconds, 1)},
        "rows_per_second": round(rows / seconds, 1),
        "bytes_sent": {
            role: console.ask("job", id=job)["statistics"]["bytes_sent"] for role, console in consoles.items()
        },
        "peak_megabytes": {
            f"{role} {part}": round(sum(map(peak_bytes, pids)) / 1e6)
            for role, found in status.items()
            for part, pids in (("daemon", [found["pid"]]), ("workers", found["workers"]))
        },
        "core_seconds": {role: round(found["cpu_seconds"], 1) for role, found in status.items()},
    }


def _single(consoles: dict[str, ControlClient], model: str, directory: Path, rows: int, lookups: int) -> dict[str, Any]:
    """Milliseconds from the console's question to its answer, alone and while a training job runs."""
    table = pl.read_parquet(directory / "score.business.parquet").tail(rows)
    table.write_parquet(directory / "score.business.parquet")
    job = _ask_for(consoles[BUSINESS], model, directory, "lookup")
    view = wait_for(consoles[BUSINESS], job, until_stage="serve")
    if view["status"] != "running":
        raise LocalError(view["reason_code"], view["reason"])
    names = table["id"].to_list()
    alone = _times(consoles[BUSINESS], model, names, lookups)
    training = consoles[BUSINESS].ask("submit", job=JOB)["job"]
    _until_iterating(consoles[BUSINESS], training)
    beside = _times(consoles[BUSINESS], model, names, lookups)
    view = consoles[BUSINESS].ask("job", id=training)
    if view["status"] != "running":
        raise LocalError("training_short", "the training job ended before the lookups did: ask for fewer lookups")
    consoles[BUSINESS].ask("cancel", id=training, reason="measured")
    return {"lookups": lookups, "lookup_ms_alone": quantiles(alone), "lookup_ms_while_training": quantiles(beside)}


def _until_iterating(console: ControlClient, job: str) -> None:
    while True:
        view = console.ask("job", id=job)
        if view["status"] != "running":
            raise LocalError(view["reason_code"], view["reason"])
        if (view["progress"] or {}).get("iteration", 0) >= 1:
            return
        time.sleep(0.05)


def _times(console: ControlClient, model: str, names: list[str], lookups: int) -> list[float]:
    chance, found = Random(7), []
    for _ in range(lookups):
        name = names[chance.randrange(len(names))]
        began = time.perf_counter()
        console.ask("lookup", model=model, id=name)
        found.append(time.perf_counter() - began)
    return found


def quantiles(seconds: list[float]) -> dict[str, float]:
    """p50, p90, p99 and the largest, in milliseconds."""
    ordered = sorted(seconds)
    found = {
        f"p{share}": ordered[min(len(ordered) - 1, math.ceil(share / 100 * len(ordered)) - 1)] for share in (50, 90, 99)
    }
    return {name: round(value * 1000, 2) for name, value in {**found, "largest": ordered[-1]}.items()}
