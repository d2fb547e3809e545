"""`warren data check`: what this party's data sets look like, before a job reads them."""

import dataclasses
import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from services.cli.daemons import PARTY, Json, PartyOption
from services.cli.failures import DONE, FAILED, complain, exits
from services.party.configuration import ConfigError, load_party
from services.party.plain_text import plain
from services.tables.files import TableError
from services.tables.preview import Preview, preview
from services.tables.queries import source_of

app = typer.Typer(help="The party's own data sets.", no_args_is_help=True)
out = Console(highlight=False)


def check(
    dataset: Annotated[str, typer.Argument(help="A data set of party.toml; not given, all of them.")] = "",
    party: PartyOption = PARTY,
    as_json: Json = False,
) -> int:
    """Columns, types, what is missing, and what a job would refuse and why; never a cell. Exit code 1 if it would."""
    entries = load_party(party).datasets
    if dataset and dataset not in entries:
        named = ", ".join(sorted(entries)) or "none"
        raise ConfigError(f"{party}: there is no data set {dataset}; it names {named}")
    found: dict[str, Preview | TableError] = {}
    for name in [dataset] if dataset else sorted(entries):
        try:
            found[name] = preview(source_of(name, entries[name]), entries[name])
        except TableError as error:
            found[name] = error
    if as_json:
        out.print_json(json.dumps({name: _plain(item) for name, item in found.items()}))
    else:
        for name, item in found.items():
            _show(name, item)
    return FAILED if any(isinstance(item, TableError) or item.code for item in found.values()) else DONE


def _plain(found: Preview | TableError) -> dict[str, Any]:
    if isinstance(found, TableError):
        return {"code": found.code, "reason": found.message, "columns": []}
    columns = [{**dataclasses.asdict(column), "constant": column.constant} for column in found.columns]
    return {**dataclasses.asdict(found), "columns": columns}


def _show(name: str, found: Preview | TableError) -> None:
    if isinstance(found, TableError):
        complain(f"{name}:", found.message)
        return
    out.print(plain(f"{name}: {found.rows:,} rows, {found.repeated:,} of them share an identifier"))
    table = Table("column", "role", "type", "missing", "different values", "refused", box=None)
    for column in found.columns:
        different = f"{column.distinct:,}" + (" (constant)" if column.constant and column.type != "unknown" else "")
        cells = (column.name, column.role, column.type, f"{column.missing:,}", different, column.code)
        table.add_row(*map(plain, cells))
    out.print(table)
    for column in found.columns:
        if column.reason:
            out.print(plain(f"  {column.reason}"), soft_wrap=True)
    verdict = "a job takes it as it is" if not found.code else f"a job refuses it: {found.reason}"
    out.print(plain(verdict), soft_wrap=True)


app.command("check")(exits(check))
