"""`warren bench journal`: its figures follow from counts of a job, and the counts from what a daemon did."""

import asyncio
import io
import json

from rich.console import Console
from sqlalchemy import func, select

from bench.journal import figures_of, show
from services.daemon.local import BUSINESS, PROVIDER
from services.daemon.local_job import LocalResult
from services.store.journal_schema import events
from tests.services.bureau import Bureau

COST = {
    "commits": 20.0,
    "unit_seconds": 0.1,
    "commit_seconds": 0.3,
    "entries": 50.0,
    "segment_bytes": 4_000.0,
    "disk_bytes": 30_000.0,
}
RESULT = LocalResult(
    job="job-1",
    parameters={BUSINESS: json.dumps({"rows": 100}).encode()},
    history=json.dumps({"iterations": [{}, {}]}).encode(),
    seconds={"train": 3.0},
    cpu_seconds=0.0,
    bytes_sent={},
    journal_train={BUSINESS: COST, PROVIDER: {**COST, "segment_bytes": 6_000.0}},
)


def test_figures_are_per_row_and_iteration_and_bytes_of_a_shared_process_count_once() -> None:
    figures = figures_of(RESULT)
    assert figures["seconds_per_iteration"] == 1.5
    assert figures["disk_bytes_per_row_and_iteration"] == 150.0
    assert figures["segment_bytes_per_row_and_iteration"] == 50.0
    assert figures["journal_bytes_per_row_and_iteration"] == 100.0
    business = figures[BUSINESS]
    assert business["chain_entries_per_iteration"] == 25.0
    assert business["entries_per_commit"] == 2.5
    assert business["milliseconds_until_durable_per_commit"] == 15.0
    assert business["microseconds_per_row_and_iteration"] == 2_000.0


def test_the_figures_are_shown_for_both_and_for_each() -> None:
    screen = Console(file=io.StringIO(), width=200)
    show(figures_of(RESULT), screen)
    assert isinstance(screen.file, io.StringIO)
    text = screen.file.getvalue()
    assert "journal bytes per row and iteration" in text
    assert "provider" in text


def test_a_daemon_counts_its_commits_entries_and_bytes(tmp_path) -> None:
    async def story() -> None:
        place = Bureau(tmp_path)
        async with place.both() as daemons:
            before = {role: await daemon.cost() for role, daemon in daemons.items()}
            await place.submit(daemons[BUSINESS])
            await place.parameters(daemons)
            for role, daemon in daemons.items():
                after = await daemon.cost()
                grown = {name: after[name] - before[role][name] for name in after}
                chained = await daemon.journal.read(
                    lambda connection: connection.scalar(select(func.count()).select_from(events))
                )
                statistics = await daemon.statistics(place.job)
                assert grown["entries"] == chained > 0
                assert grown["commits"] > 0
                assert grown["unit_seconds"] > 0
                assert grown["commit_seconds"] > 0
                assert grown["segment_bytes"] > statistics["bytes_sent"] / 2
                assert grown["disk_bytes"] >= 0

    asyncio.run(story())
