"""What goes wrong, in one sentence and one exit code; a traceback only with `--debug` or WARREN_DEBUG=1."""

import functools
import os
from collections.abc import Callable
from typing import Any, Final

import typer
from rich.console import Console
from rich.text import Text

from services.daemon.control import JOURNAL_AWAY, ControlError, ControlUnreachable
from services.party.configuration import ConfigError
from services.party.plain_text import plain

DONE: Final = 0
FAILED: Final = 1
BAD_INPUT: Final = 2
UNREACHABLE: Final = 3
CANCELLED: Final = 4
DECLINED: Final = 5
INTERRUPTED: Final = 130

DEBUG: Final = "WARREN_DEBUG"

OUTCOMES: Final = {"done": DONE, "cancelled": CANCELLED, "declined": DECLINED}

errors = Console(stderr=True, soft_wrap=True, highlight=False)


def exit_code_of(error: Exception) -> int | None:
    """The exit code of an error that people can act on; None for a fault of this program."""
    match error:
        case ControlUnreachable():
            return UNREACHABLE
        case ControlError() if error.code in ("unreachable", "journal_unavailable", JOURNAL_AWAY):
            return UNREACHABLE
        case ControlError() | ConfigError():
            return BAD_INPUT
        case _:
            return _of_a_part(error)


def _of_a_part(error: Exception) -> int | None:
    """The exit code of an error that a part of the program raises which not every command loads.

    The classes are imported here, because with them come the libraries that read tables, journals and brokers: a
    command that asks a running daemon has no need of these.
    """
    from broker.certificates import CertificateError
    from broker.installation import PrivateBrokerError
    from broker.topology import TopologyError
    from kernel.library import KernelError
    from messages.identity import IdentityError
    from messages.keys import AddressError
    from services.audit.export_file import ExportError
    from services.daemon.local_job import LocalError
    from services.engine.records import AuditError
    from services.models.formats import FormatUnavailable
    from services.models.store import ModelRetired, ModelUnknown
    from services.models.version import ModelDamaged, ModelPartial, SeveralClasses
    from services.store.data_directory import DirectoryLocked
    from services.store.journal import JournalError
    from services.store.journal_lock import JournalTaken
    from services.store.journal_mark import JournalRestored
    from services.store.orders import OrdersDamaged
    from services.tables.table import TableError

    match error:
        case TopologyError() | PrivateBrokerError():
            return UNREACHABLE
        case LocalError() if error.code == "bad_input":
            return BAD_INPUT
        case LocalError():
            return FAILED
        case TableError() | IdentityError() | AddressError() | CertificateError():
            return BAD_INPUT
        case DirectoryLocked() | JournalTaken() | JournalRestored() | JournalError() | KernelError() | OrdersDamaged():
            return BAD_INPUT
        case (
            AuditError()
            | ExportError()
            | ModelUnknown()
            | ModelRetired()
            | ModelDamaged()
            | ModelPartial()
            | SeveralClasses()
            | FormatUnavailable()
        ):
            return BAD_INPUT
        case FileExistsError() | FileNotFoundError() | PermissionError() | IsADirectoryError() | NotADirectoryError():
            return BAD_INPUT if error.filename else None
        case _:
            return None


def innermost(error: Exception) -> Exception:
    """What ended a daemon, out of the groups of tasks that ended with it."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def sentence(error: Exception) -> str:
    """What an error says, without the number and class that only programmers read."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {(error.strerror or type(error).__name__).lower()}"
    return str(error)


def complain(head: str, text: object) -> None:
    """One line on standard error; `text` may come from anywhere."""
    errors.print(Text.assemble((head, "bold red"), " ", plain(text)))


def warn(text: str) -> None:
    """One line on standard error about what went well but should be done otherwise."""
    errors.print(Text.assemble(("warning:", "yellow"), " ", plain(text)))


def guarded(app: typer.Typer) -> int:
    """Run the command line and turn what goes wrong into a sentence and an exit code."""
    try:
        app()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else DONE
    except KeyboardInterrupt:
        errors.print("interrupted")
        return INTERRUPTED
    except Exception as failure:
        error = innermost(failure)
        code = exit_code_of(error)
        if code is None or os.environ.get(DEBUG):
            raise
        complain("warren:", sentence(error))
        return code
    return DONE


def exits(command: Callable[..., int | None]) -> Callable[..., None]:
    """A command whose number is its exit code."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        if code := command(*arguments, **options):
            raise typer.Exit(code)

    return run
