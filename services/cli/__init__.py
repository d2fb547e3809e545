"""The command line. Exit codes: 0 done; 1 the job failed; 2 bad input or configuration; 3 the partner, the
broker, the journal or the daemon cannot be reached; 4 cancelled; 5 declined; 130 interrupted.
"""

import os
import sys
from typing import Annotated

import typer

from services import __version__
from services.cli.commands import LazyGroup
from services.cli.failures import DEBUG, guarded

app = typer.Typer(
    name="warren",
    cls=LazyGroup,
    help="Joint model training between organisations that must not show each other their data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done, 1 failed, 2 bad input or configuration, 3 not reachable, 4 cancelled, 5 declined, "
    "130 interrupted.",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"warren {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the program an error came from.")] = False,
) -> None:
    """Joint model training between organisations that must not show each other their data."""
    del version
    if debug:
        os.environ[DEBUG] = "1"


def main() -> None:
    """The entry point `warren`."""
    sys.exit(guarded(app))
