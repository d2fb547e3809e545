"""`python -m tests.simulation --seeds 1000`: many seeds, one line at the end; or `--seed N`: one of them, in words."""

import functools
import logging
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.simulation.judging import JOBS, Verdict, judge
from tests.simulation.schedule import Schedule, draw
from tests.simulation.stories import load, save, stories_of

BATCH = 10
out = Console(highlight=False)


def _quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _judge_batch(job: str, seeds: range) -> list[Verdict]:
    story = JOBS[job]
    return [judge(draw(seed, story.parties), job=story) for seed in seeds]


def _verdicts(job: str, first: int, seeds: int, processes: int) -> Iterator[Verdict]:
    batches = [range(at, min(at + BATCH, first + seeds)) for at in range(first, first + seeds, BATCH)]
    with ProcessPoolExecutor(processes, initializer=_quiet) as pool:
        for verdicts in pool.map(functools.partial(_judge_batch, job), batches):
            yield from verdicts


def _say(verdict: Verdict) -> None:
    out.print(f"seed {verdict.schedule.seed}: {verdict.virtual_s:.0f} virtual seconds, {verdict.crashes} deaths")
    for what in (*verdict.broken, *verdict.differing):
        out.print(f"  {what}", markup=False)


def _one(schedule: Schedule, job: str) -> int:
    out.print(schedule)
    verdict = judge(schedule, job=JOBS[job])
    _say(verdict)
    out.print("as undisturbed" if verdict.good else "NOT as undisturbed")
    return not verdict.good


def main(
    seeds: Annotated[int, typer.Option(help="How many seeds.", min=1)] = 1000,
    first: Annotated[int, typer.Option(help="The first of them.")] = 0,
    seed: Annotated[int | None, typer.Option(help="Only this one, in words.")] = None,
    story: Annotated[Path | None, typer.Option(help="Only this kept story, in words.")] = None,
    job: Annotated[str, typer.Option(help=f"What is played: {', '.join(JOBS)}.")] = "training",
    processes: Annotated[int, typer.Option(help="Processes; 0: one per core.")] = 0,
) -> None:
    """Run seeds; a failing one is printed and kept as a story under tests/simulation/kept/."""
    _quiet()
    if seed is not None or story is not None:
        drawn = draw(seed or 0, JOBS[job].parties)
        raise SystemExit(_one(load(story) if story is not None else drawn, job))
    processes = processes or len(os.sched_getaffinity(0))
    failed: list[Verdict] = []
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    began = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("seeds", total=seeds, rate="")
        for done, verdict in enumerate(_verdicts(job, first, seeds, processes), start=1):
            rate = done / (time.monotonic() - began)
            progress.update(bar, completed=done, rate=f"{rate:.1f} seeds/s")
            if not verdict.good:
                failed.append(verdict)
                _say(verdict)
                kept = save(stories_of(job), verdict.schedule)
                again = f"python -m tests.simulation --job {job} --seed {verdict.schedule.seed}"
                out.print(f"  kept as {kept}; again: {again}")
    seconds = time.monotonic() - began
    out.print(f"{seconds:.0f} s, {seconds / seeds:.2f} s a seed with {processes} processes")
    differing = sum(bool(verdict.differing) for verdict in failed)
    broken = sum(len(verdict.broken) for verdict in failed)
    out.print(f"{seeds} seeds, {differing} differing models, {broken} broken invariants")
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    typer.run(main)
