"""`warren broker`: the topology, made by somebody who may."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from broker import topology

app = typer.Typer(help="Topology of the broker.", no_args_is_help=True)
out = Console(highlight=False)


@app.command()
def apply(
    url: Annotated[
        str, typer.Argument(help="Management URL (http...) with an administrator, or amqp URL (queues only).")
    ],
    party: Annotated[list[str], typer.Option("--party", help="A party; repeat for each.")],
    password: Annotated[
        list[str] | None, typer.Option("--password-file", help="party=FILE with the party's broker password.")
    ] = None,
) -> None:
    """Make exchange, queues, users and permissions. A daemon never does this itself."""
    passwords = {}
    for entry in password or []:
        name, _, file = entry.partition("=")
        passwords[name] = Path(file).read_text(encoding="utf-8").strip()
    for line in asyncio.run(topology.apply(url, party, passwords=passwords or None)):
        out.print(line)
