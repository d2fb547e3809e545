"""`warren bench`: how fast this machine is at what training is made of."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import structlog
import typer
from rich.console import Console

if TYPE_CHECKING:
    from bench.rounds import Report

app = typer.Typer(help="Benchmarks; ratios are against a peer in the same run.", no_args_is_help=True)
out = Console(highlight=False)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of a table.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print Markdown, as is done without a terminal.")]
Seconds = Annotated[float, typer.Option(help="Seconds per operation and column.", min=0.0)]


@app.command()
def paillier(
    bits: Annotated[int, typer.Option(help="Length of the modulus.")] = 2048,
    seconds: Seconds = 0.5,
    markdown: Markdown = False,
    as_json: Json = False,
) -> None:
    """Every Paillier operation by every back end, in microseconds, beside phe and others."""
    from bench.paillier import measure

    with _progress() as say:
        report = measure(bits=bits, seconds=seconds, say=say)
    _show(report, markdown, as_json)


@app.command()
def align(
    items: Annotated[int, typer.Option(help="Items of each side.", min=1)] = 4096,
    seconds: Seconds = 0.5,
    markdown: Markdown = False,
    as_json: Json = False,
) -> None:
    """Private set intersection, in microseconds per item and party, by every path and beside others."""
    from bench.align import measure

    with _progress() as say:
        report = measure(items=items, seconds=seconds, say=say)
    _show(report, markdown, as_json)


@app.command()
def providers(
    rows: Annotated[str, typer.Option(help="Rows of default_credit, or all.")] = "4000",
    shares: Annotated[str, typer.Option(help="How many of the 10 columns each provider has.")] = "4/3/3",
    broker: Annotated[str, typer.Option(help="embedded, rabbitmq or an amqp URL.")] = "embedded",
) -> None:
    """One job with several providers: distance from the optimum, seconds, bytes, kinds of messages received."""
    from bench.providers import measure_providers

    counts = tuple(int(part) for part in shares.split("/"))
    print(json.dumps(measure_providers(rows, counts, broker), indent=2))  # noqa: T201


@app.command()
def train(
    rows: Annotated[str, typer.Option(help="Rows of default_credit, or all.")] = "4000",
    broker: Annotated[str, typer.Option(help="embedded, rabbitmq or an amqp URL.")] = "embedded",
    as_json: Json = False,
) -> None:
    """One job on default_credit: rows per second of each stage, bytes per row, event-loop lag."""
    from bench.train import measure_training, show

    figures = measure_training(rows, broker)
    if as_json:
        out.print_json(json.dumps(figures))
    else:
        show(figures, out)


@app.command()
def journal(
    rows: Annotated[str, typer.Option(help="Rows of default_credit, or all.")] = "2000",
    as_json: Json = False,
) -> None:
    """What the journal of a job costs: bytes, commits and seconds per row and iteration of training."""
    from bench.journal import measure_journal, show

    figures = measure_journal(rows)
    if as_json:
        out.print_json(json.dumps(figures))
    else:
        show(figures, out)


@app.command()
def score(
    rows: Annotated[int, typer.Option(help="Rows of the synthetic file that is scored.", min=1000)] = 100_000,
    lookups: Annotated[int, typer.Option(help="Single rows that are timed, alone and beside training.", min=0)] = 200,
    as_json: Json = False,
) -> None:
    """A large file scored by two daemons over a private RabbitMQ, and single rows while a training job runs."""
    from bench.score import measure_scoring
    from bench.train import show

    figures = measure_scoring(rows=rows, lookups=lookups)
    if as_json:
        out.print_json(json.dumps(figures))
    else:
        show(figures, out)


@app.command()
def transport(
    small: Annotated[int, typer.Option(help="Control messages of 1 KiB in each turn.", min=1)] = 500,
    large: Annotated[int, typer.Option(help="Bulk messages of 1 MiB in each turn.", min=1)] = 50,
    rounds: Annotated[int, typer.Option(help="Turns of each way.", min=1)] = 5,
    as_json: Json = False,
) -> None:
    """MQTT beside AMQP through one private RabbitMQ: messages a second, MiB a second, round trip."""
    from bench.train import show
    from bench.transport import measure_transports

    # Lines about connections would come among the figures.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    figures = measure_transports(small, large, rounds)
    if as_json:
        out.print_json(json.dumps(figures))
    else:
        show({f"{way} {name}": value for way, each in figures.items() for name, value in each.items()}, out)


@app.command("long")
def long_(
    jobs: Annotated[int, typer.Option(help="Jobs, one after the other.", min=2)] = 200,
    first: Annotated[int, typer.Option(help="The job from which on growth counts.", min=1)] = 20,
    retention: Annotated[float, typer.Option(help="retention_days of both; 0: jobs stay.", min=0.0)] = 0.00001,
    as_json: Json = False,
) -> None:
    """Small jobs through the same two daemons over a private RabbitMQ: what grows with the number of jobs."""
    from bench.long_run import figures, measure_long_run
    from bench.train import show

    with _progress() as say:
        found = figures(measure_long_run(jobs, lines=f"retention_days = {retention}\n", say=say), min(first, jobs))
    if as_json:
        out.print_json(json.dumps(found))
    else:
        show({f"{role} {name}": value for role, each in found.items() for name, value in each.items()}, out)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Says what is being measured, on standard error and on a terminal only."""
    aside = Console(stderr=True, highlight=False)
    if not aside.is_terminal:
        yield lambda title: None
        return
    # Written once per operation: a spinner would take time from what is measured.
    yield lambda title: aside.print(f"{title} ...", markup=False)


def _show(report: "Report", markdown: bool, as_json: bool) -> None:
    from bench.tables import show

    if as_json:
        out.print_json(json.dumps(report.to_json()))
    else:
        show(report, out, markdown=markdown or not out.is_terminal)
