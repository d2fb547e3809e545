"""`warren models ...`: what this party keeps of the models that it helped to train. No daemon is needed."""

import json
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from services.models.described import facts_of
from services.models.export import part_of
from services.models.formats import to_onnx, to_pmml
from services.models.store import ModelStore
from services.models.version import ModelVersion, whole_of
from services.party.configuration import load_party
from services.party.plain_text import plain

app = typer.Typer(help="Models of this party: list, show, export, retire.", no_args_is_help=True)
out = Console(highlight=False, soft_wrap=True)

PARTY = Path("party.toml")
PartyOption = Annotated[Path, typer.Option("--party", "-p", help="party.toml of the party whose models they are.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of a table.")]
Model = Annotated[str, typer.Argument(metavar="ID", help="The model: the identifier of the job that trained it.")]


def _store(party: Path) -> ModelStore:
    return ModelStore(load_party(party).data_directory)


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def _shown(key: str, value: Any) -> str:
    if key.endswith("_at"):
        return f"{_time(value)} UTC"
    if key == "journal":
        return f"entries {value['first']} to {value['last']}, head {value['head'][:16]}"
    return str(value)


@app.command(name="list")
def list_(party: PartyOption = PARTY, as_json: Json = False) -> None:
    """All models of this party, oldest first."""
    found = [facts_of(kept) for kept in _store(party).all()]
    if as_json:
        out.print_json(json.dumps(found))
        return
    table = Table("model", "role", "task", "rows", "columns", "made", "status", box=None)
    for facts in found:
        cells = [facts[key] for key in ("model", "role", "task", "rows", "columns")]
        table.add_row(*(plain(cell) for cell in (*cells, _time(facts["created_at"]), facts["status"])))
    out.print(table)


@app.command()
def show(model: Model, party: PartyOption = PARTY, as_json: Json = False) -> None:
    """One model: what it was trained on, by what, and where the journal has it. No parameter is shown."""
    facts = facts_of(_store(party).get(model))
    if as_json:
        out.print_json(json.dumps(facts))
        return
    table = Table(box=None, show_header=False)
    for key, value in facts.items():
        if value not in ("", None, {}):
            table.add_row(key.replace("_", " "), plain(_shown(key, value)))
    out.print(table)


class Format(StrEnum):
    """What is written of a model."""

    PART = "part"
    PMML = "pmml"
    ONNX = "onnx"


@app.command()
def export(
    model: Model,
    party: PartyOption = PARTY,
    file: Annotated[Path | None, typer.Option("--out", help="Where it goes; by default it is printed.")] = None,
    form: Annotated[
        Format, typer.Option("--format", help="part: own part as JSON; pmml, onnx: the whole model, if it is here.")
    ] = Format.PART,
) -> None:
    """This party's part as JSON (docs/schemas/model-part.json), or the whole model where the contract put it here."""
    data = _written(_store(party).get(model).version, form)
    if file is None:
        sys.stdout.buffer.write(data)
        return
    with file.open("xb") as target:
        target.write(data)
    held = "the part of this party" if form is Format.PART else "the whole model"
    out.print(plain(f"{file}: {held} of {model}; it holds coefficients and column names"))


def _written(version: ModelVersion, form: Format) -> bytes:
    match form:
        case Format.PART:
            return part_of(version)
        case Format.PMML:
            return to_pmml(whole_of(version), version.software_version)
        case Format.ONNX:
            return to_onnx(whole_of(version))


@app.command()
def retire(
    model: Model,
    party: PartyOption = PARTY,
    reason: Annotated[str, typer.Option(help="For your own records; it does not travel.")] = "",
    as_json: Json = False,
) -> None:
    """Refuse all further scoring with a model, for good. Each party can; one is enough."""
    retirement = _store(party).retire(model, reason)
    if as_json:
        out.print_json(json.dumps({"model": model, "retired_at": retirement.at, "reason": retirement.reason}))
        return
    out.print(plain(f"{model} is retired here since {_time(retirement.at)} UTC; no scoring job with it is accepted"))
