"""One whole job with several providers: default_credit, whose provider's columns are divided among them.

Says how far the model is from the optimum on the joined table, and whether each party's journal has received the kinds
of messages that the contract grants it and no others. Whole processes on this machine, as `bench.train`.
"""

import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from messages.envelope import read_header
from protocol.contract import JobContract
from protocol.contract_rules import decode_contract
from protocol.effects import ControlReceived, Started
from protocol.grants import granted
from protocol.machines import contract_of
from services.audit.exporting import reading
from services.cli.locals_ import example_tables, finished_of, train
from services.daemon.local import LocalTables
from services.engine import jobs
from services.party.configuration import load_party
from services.results import report
from services.store import chain
from services.store.journal_schema import events

JOB: dict[str, Any] = {"task": "logistic", "l2": 1e-4, "max_iterations": 30, "marks": []}


def divided(tables: LocalTables, directory: Path, shares: tuple[int, ...]) -> LocalTables:
    """The tables with the provider's columns divided among as many providers as there are `shares`."""
    table = pl.read_parquet(tables.provider)
    columns = [name for name in table.columns if name != tables.identifier]
    paths, first = [], 0
    for number, share in enumerate(shares):
        path = directory / f"columns-{number}.parquet"
        table.select([tables.identifier, *columns[first : first + share]]).write_parquet(path)
        paths.append(path)
        first += share
    return LocalTables(
        business=tables.business,
        provider=paths[0],
        further=tuple(paths[1:]),
        identifier=tables.identifier,
        label=tables.label,
    )


def measure_providers(
    rows: str, shares: tuple[int, ...], broker: str, changes: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Train once on the first `rows` rows (or "all") of default_credit; seconds, bytes, distance, kinds."""
    with tempfile.TemporaryDirectory(prefix="warren-bench-") as name:
        directory, job = Path(name), {**JOB, **(changes or {})}
        tables = divided(example_tables(directory, rows), directory, shares)
        result = train(tables, job, broker=broker, place=directory, show_progress=False)
        finished = finished_of(tables, job, result, broker)
        compared = report.compare(finished)
        outside = {role: kinds_not_granted(directory / role / "party.toml", result.job) for role in tables.names}
    return {
        **report.json_object(finished),
        "providers": len(shares),
        "distance": round(compared.distance, 5),
        "metrics_of_optimum": {key: round(value, 5) for key, value in compared.metrics.items()},
        "bytes_sent": result.bytes_sent,
        "not_granted": {role: sorted(kinds) for role, kinds in outside.items()},
    }


def kinds_not_granted(party_toml: Path, job: str) -> set[str]:
    """Kinds, with their senders, that a party's journal has received in a job and its contract does not grant."""
    party = load_party(party_toml)
    with reading(party) as connection:
        rows = connection.execute(events.select().where(events.c.job == job).order_by(events.c.position)).mappings()
        entries = [dict(row) for row in rows]
    contract = _contract_of(entries)
    found = set()
    for entry in entries:
        if entry["kind"] == chain.RECEIVED:
            header = read_header(entry["header"])
            if header.kind not in granted(contract, party.file.name, header.sender):
                found.add(f"{header.kind} from {header.sender}")
    return found


def _contract_of(entries: list[dict[str, Any]]) -> JobContract:
    """From the event that opened the job: submitted here, or proposed."""
    first = jobs.decode_event(entries[0]["event"])
    assert isinstance(first, Started | ControlReceived)
    return decode_contract(contract_of(first))
