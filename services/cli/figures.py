"""`warren coefficients` and `warren evaluate`: tables and plots from the results of a job, for people.

They read `inference.json` and `scores.csv`, which a job leaves where its contract asks for them; no daemon is needed.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from learning.links.family import TASKS
from services.cli.failures import DONE
from services.party.configuration import ConfigError
from services.results import evaluation_files, inference_files

out = Console(highlight=False)


def coefficients(
    file: Annotated[Path, typer.Argument(help="inference.json, beside the job's parameters.json.")],
    out_directory: Annotated[Path | None, typer.Option("--out", help="Write CSV and plot there, too.")] = None,
) -> int:
    """Show the table of this party's own coefficients: estimate, error, z, p and interval."""
    try:
        data = file.read_bytes()
        found = inference_files.read(data)
    except FileNotFoundError:
        raise ConfigError(f"{file}: there is no such file; name the inference.json of a job's results") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except inference_files.InferenceFileError as error:
        raise ConfigError(f"{file}: {error}") from None
    title = f"{found.role}, {found.task}, {found.rows:,} rows, l2 {found.l2:g}, dispersion {found.dispersion:g}"
    out.print(inference_files.table(title, found))
    if out_directory is not None:
        inference_files.write(out_directory, data)
    return DONE


def evaluate(
    file: Annotated[Path, typer.Argument(help="scores.csv, beside the job's parameters.json.")],
    task: Annotated[str, typer.Option(help="The job's task: logistic, linear, poisson, gamma or tweedie.")],
    out_directory: Annotated[Path | None, typer.Option("--out", help="Write JSON, CSV and plots there, too.")] = None,
    rate: Annotated[float, typer.Option(help="Also a threshold that predicts this share positive, at most.")] = 0.0,
    threshold: Annotated[float, typer.Option(help="Also this probability as a threshold.")] = 0.0,
    tweedie_power: Annotated[float, typer.Option(help="p of the variance mean^p, for tweedie.")] = 0.0,
) -> int:
    """Show how good a model is on every part of the rows: ranking, loss, calibration, confusion at thresholds."""
    if task not in TASKS:
        raise ConfigError(f"--task {task}: {', '.join(TASKS)}")
    try:
        scored = evaluation_files.read_scores(file)
        found = scored.evaluations(task, rate=rate or None, given=threshold or None, power=tweedie_power)
    except FileNotFoundError:
        raise ConfigError(f"{file}: there is no such file; name the scores.csv of a job's results") from None
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from None
    for table in evaluation_files.tables(found):
        out.print(table)
    if out_directory is not None:
        evaluation_files.write(out_directory, found, scored.curves)
    return DONE
