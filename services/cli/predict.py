"""`warren predict`: scores of rows by a model that was trained jointly."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from rich.console import Console

from services.cli.failures import DONE, FAILED, OUTCOMES, complain
from services.cli.progress import ProgressView
from services.daemon.control import ControlClient
from services.daemon.waiting import wait_for
from services.party.configuration import ConfigError, load_party
from services.party.plain_text import plain

out = Console(highlight=False, soft_wrap=True)

PARTY = Path("party.toml")
FORMATS = (".csv", ".parquet")


def predict(
    model: Annotated[str, typer.Option(help="The model: the identifier of the job that trained it.")],
    business: Annotated[
        Path | None, typer.Option(help="CSV or Parquet with the rows to score; by default the model's own data set.")
    ] = None,
    out_file: Annotated[Path | None, typer.Option("--out", help="Where scores go: .csv or .parquet.")] = None,
    party: Annotated[Path, typer.Option("--party", "-p", help="party.toml of the running daemon.")] = PARTY,
    purpose: Annotated[str, typer.Option(help="For the contract: what the scores are for.")] = "",
    provider_dataset: Annotated[
        str, typer.Option(help="The provider's data set; by default the one that the model was trained on.")
    ] = "",
    identifier: Annotated[str, typer.Option("--id", help="Look one row up, in a job opened with --lookup.")] = "",
    lookup: Annotated[
        bool, typer.Option("--lookup", help="Open a job that answers single rows of the file until it expires.")
    ] = False,
    expires_in_hours: Annotated[float, typer.Option(help="When the job ends by itself; 0: after a day.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Score rows with a model that this party and its partner trained: a whole file, or one row by its identifier.

    Of a file are written id, score and prediction of every row that the partner has, too, in the file's order; the
    identifiers of the others go to a file beside it.
    """
    if out_file is not None:
        _check_out(out_file)
    with ControlClient(load_party(party).data_directory) as client:
        if identifier:
            return _look_up(client, model, identifier, as_json=as_json)
        job = client.ask(
            "predict",
            model=model,
            mode="lookup" if lookup else "batch",
            business=str(business.resolve()) if business else "",
            purpose=purpose,
            provider_dataset=provider_dataset,
            expires_in_hours=expires_in_hours,
        )["job"]
        with ProgressView() as watch:
            view = wait_for(client, job, None if as_json else watch, until_stage="serve" if lookup else "")
    if lookup and view["status"] == "running":
        print(json.dumps({"job": job}) if as_json else f"{job} answers lookups; end it with `warren cancel {job}`")  # noqa: T201
        return DONE
    if view["outcome"] != "done":
        complain(view["outcome"] or view["status"], f"({view['reason_code']}): {view['reason']}")
        return OUTCOMES.get(view["outcome"], FAILED)
    told = deliver(Path(view["results"]), out_file)
    if as_json:
        print(json.dumps({"job": job, **told}))  # noqa: T201
        return DONE
    out.print(plain(f"{told['scored']:,} rows scored: {told['scores']}"))
    if told["unmatched"]:
        out.print(plain(f"{told['unmatched']:,} rows are unknown to the partner: {told['unmatched_file']}"))
    return DONE


def _look_up(client: ControlClient, model: str, identifier: str, *, as_json: bool) -> int:
    found = client.ask("lookup", model=model, id=identifier)
    if as_json:
        print(json.dumps(found))  # noqa: T201
    elif "classes" in found:
        out.print(plain(f"prediction {found['prediction']}"))
        for name, one in found["classes"].items():
            out.print(plain(f"{name}: score {one['score']:.3f}, probability {one['probability']:.6g}"))
    else:
        print(f"score {found['score']:.3f}, prediction {found['prediction']:.6g}")  # noqa: T201
    return DONE


def _check_out(path: Path) -> None:
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"--out {path}: let its name end in .csv or .parquet")
    for name in (path, unmatched_path(path)):
        if name.exists():
            raise ConfigError(f"--out {name}: exists already and is not overwritten")


def unmatched_path(path: Path) -> Path:
    """Where the identifiers of rows that nobody else has go, beside the scores."""
    return path.with_name(f"{path.stem}.unmatched{path.suffix}")


def deliver(results: Path, out_file: Path | None) -> dict[str, Any]:
    """Copy the results to where they are wanted; counts and places."""
    places = {"scores": results / "scores.csv", "unmatched_file": results / "unmatched.csv"}
    counts = []
    for name, target in (("scores", out_file), ("unmatched_file", out_file and unmatched_path(out_file))):
        frame = pl.read_csv(places[name], schema_overrides={"id": pl.String})
        counts.append(frame.height)
        if target is not None:
            _write(frame, target)
            places[name] = target
    return {"scored": counts[0], "unmatched": counts[1], **{name: str(path) for name, path in places.items()}}


def _write(frame: pl.DataFrame, path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        if path.suffix.lower() == ".parquet":
            frame.write_parquet(file)
        else:
            frame.write_csv(file)
