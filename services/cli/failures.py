"""What goes wrong, in one sentence and one exit code; a traceback only with WARREN_DEBUG=1."""

import os
from typing import Final

import click
import typer
from rich.console import Console

from broker.private import PrivateBrokerError
from broker.topology import TopologyError
from messages.identity import IdentityError
from messages.keys import AddressError
from services.control import ConsoleError, ConsoleUnreachable
from services.data_directory import DirectoryLocked
from services.local import LocalError
from services.party import ConfigError
from services.tables import TableError

DONE: Final = 0
FAILED: Final = 1
BAD_INPUT: Final = 2
UNREACHABLE: Final = 3
CANCELLED: Final = 4
DECLINED: Final = 5
INTERRUPTED: Final = 130

OUTCOMES: Final = {"done": DONE, "cancelled": CANCELLED, "declined": DECLINED}

errors = Console(stderr=True, soft_wrap=True, highlight=False)


def exit_code_of(error: Exception) -> int | None:
    """The exit code of an error that people can act on; None for a fault of this program."""
    match error:
        case ConsoleUnreachable() | TopologyError() | PrivateBrokerError():
            return UNREACHABLE
        case ConsoleError() if error.code == "unreachable":
            return UNREACHABLE
        case LocalError() if error.code == "bad_input":
            return BAD_INPUT
        case LocalError():
            return FAILED
        case ConfigError() | TableError() | IdentityError() | AddressError() | ConsoleError() | DirectoryLocked():
            return BAD_INPUT
        case _:
            return None


def guarded(app: typer.Typer) -> int:
    """Run the command line and turn what goes wrong into a sentence and an exit code."""
    try:
        result = app(standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.Abort, KeyboardInterrupt):
        errors.print("interrupted")
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return BAD_INPUT
    except Exception as error:
        code = exit_code_of(error)
        if code is None or os.environ.get("WARREN_DEBUG"):
            raise
        errors.print(f"[bold red]warren:[/] {error}")
        return code
    return result if isinstance(result, int) else DONE
