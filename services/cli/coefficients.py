"""`warren coefficients`: a party's standard errors, from the `inference.json` of a job that asked for them."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from services import inference_files
from services.cli.failures import DONE
from services.party import ConfigError

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


COMMANDS = (coefficients,)
