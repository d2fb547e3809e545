"""`warren bench`: how fast this machine is at what training is made of."""

import json
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(help="Benchmarks; ratios are against a peer in the same run.", no_args_is_help=True)
out = Console(highlight=False)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of a table.")]


@app.command()
def paillier(
    bits: Annotated[int, typer.Option(help="Length of the modulus.")] = 2048,
    seconds: Annotated[float, typer.Option(help="Seconds per operation.")] = 0.5,
    as_json: Json = False,
) -> None:
    """Every Paillier operation, in microseconds, beside phe."""
    from bench.paillier import measure, table

    rows = measure(bits=bits, seconds=seconds)
    if as_json:
        out.print_json(json.dumps([row._asdict() if hasattr(row, "_asdict") else row.__dict__ for row in rows]))
    else:
        print(table(rows))  # noqa: T201


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
