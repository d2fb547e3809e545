"""`warren doctor`: what this installation runs on, and what is wrong with a party's."""

import dataclasses
import json
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from services import __version__
from services.cli.administrators import VARIABLE, AdministratorFile, administrators_url
from services.cli.failures import DONE, FAILED
from services.doctor.checkup import examine
from services.doctor.finding import Finding, Level, any_fault
from services.doctor.machine import check_back_ends
from services.party.back_ends import back_ends
from services.party.plain_text import plain

out = Console(highlight=False)

PARTY: Final = Path("party.toml")
COLOURS: Final = {Level.FINE: "green", Level.NOTE: "yellow", Level.UNKNOWN: "yellow", Level.FAULT: "bold red"}
MODULES: Final = (
    "aio_pika", "aiormq", "cffi", "cryptography", "gmpy2", "msgpack", "numpy", "phe", "polars", "sqlalchemy",
)  # fmt: skip


def doctor(
    context: typer.Context,
    party: Annotated[
        Path | None, typer.Argument(help="party.toml; not given, the one here, or only this installation.")
    ] = None,
    management: Annotated[
        str,
        typer.Option(
            envvar=VARIABLE,
            show_envvar=True,
            help="The broker's management URL with an administrator: then queue arguments, permissions and the "
            "broker's clock are looked at, too.",
        ),
    ] = "",
    administrator_file: AdministratorFile = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False,
) -> int:
    """What is wrong here, and what to do about it: files, clock, broker, TLS, rights, disk, back end, journal.

    Nothing is changed. Exit code 1 when something has to be put right. docs/troubleshooting.md has all findings.
    """
    if management:
        management = administrators_url(context, "management", management, administrator_file)
    path = party or (PARTY if PARTY.exists() else None)
    if as_json:
        found = check_back_ends() if path is None else list(examine(path, management=management))
        out.print_json(json.dumps({"version": __version__, "findings": [dataclasses.asdict(item) for item in found]}))
        return FAILED if any_fault(found) else DONE
    _installation()
    if path is None:
        return FAILED if any_fault(check_back_ends()) else DONE
    return _show(examine(path, management=management))


def _installation() -> None:
    out.print(f"warren        {__version__}, Python {platform.python_version()}, {platform.machine()}")
    for part in back_ends():
        out.print(plain(f"{part.work:<13} {part.name}: {part.why}"), soft_wrap=True)
        if part.advice:
            out.print(plain(f"{'':<13} {part.advice}"), soft_wrap=True)
    for module in MODULES:
        out.print(f"{module:<13} {version(module.replace('_', '-'))}")


def _show(found: Iterator[Finding]) -> int:
    """Each finding as it comes; the exit code."""
    faults = 0
    out.print()
    for finding in found:
        faults += finding.level is Level.FAULT
        head = (f"{finding.level.value:<8}", COLOURS[finding.level])
        code = f" [{finding.code}]" if finding.code else ""
        out.print(Text.assemble(head, f"{finding.check:<14}", plain(finding.what), code), soft_wrap=True)
        if finding.advice:
            out.print(Text.assemble(f"{'':<22}", plain(finding.advice)), soft_wrap=True)
    out.print(f"\n{faults} to be put right" if faults else "\nnothing to be put right")
    return FAILED if faults else DONE
