"""A finished job, printed for people: what each party learned, how good it is, what it cost."""

import math
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.party.plain_text import plain
from services.results import evaluation_files, inference_files
from services.results.report import Comparison, Finished, compare


def show(finished: Finished, out: Console) -> Comparison:
    """Print the summary; returns the comparison with the joined table."""
    comparison = compare(finished)
    out.print(_parameters("The business learned", finished.of_business))
    out.print(_parameters("The provider learned", finished.of_provider))
    for name, (_, document) in zip(finished.further, finished.providers[1:], strict=True):
        out.print(_parameters(f"{name} learned", document))
    for who, file in finished.inference.items():
        out.print(inference_files.table(f"Errors of the {who}'s coefficients", inference_files.read(file)))
    if finished.stopping:
        out.print(stopping_table(finished.stopping))
    if finished.validation:
        out.print(_validation(finished.validation))
    out.print(_quality(finished, comparison))
    for one in finished.cautions:
        out.print(Text.assemble(("Note: ", "bold"), plain(one)))
    if len(finished.parts) > 1:
        for table in evaluation_files.tables(finished.evaluations):
            out.print(table)
    out.print(_cost(finished))
    return comparison


def _parameters(title: str, file: dict[str, Any]) -> Table:
    table = Table(title=title, title_justify="left", box=None, show_header=False, padding=(0, 2))
    intercept = [("intercept", file["intercept"])] if "intercept" in file else []
    cells = [*intercept, *file["coefficients"].items()]
    width = 4
    for first in range(0, len(cells), width):
        row = cells[first : first + width]
        table.add_row(*(Text.assemble(plain(name), f" {value:+.5f}") for name, value in row))
    return table


def stopping_table(found: dict[str, Any]) -> Table:
    """The metric of a job that stops early, by iteration."""
    metric = f"{found['metric']} of the validation rows"
    table = Table("iteration", metric, "", title="Early stopping", title_justify="left", box=None)
    for one in found["evaluations"]:
        kept = "its model is kept" if one["iteration"] == found["best"] else ""
        table.add_row(str(one["iteration"]), f"{one['figure']:.5f}", kept)
    return table


def _validation(found: dict[str, Any]) -> Table:
    title = f"Cross-validation chose l2 {found['chosen']:g}"
    table = Table("l2", "held-out loss, difference", title=title, title_justify="left", box=None)
    for number in range(1, len(found["deviances"]) + 1):
        table.add_column(f"fold {number}")
    columns = zip(found["penalties"], found["means"], *found["deviances"], strict=True)
    for penalty, *values in columns:
        table.add_row(f"{penalty:g}", *(f"{value:+.5f}" for value in values))
    return table


def _quality(finished: Finished, comparison: Comparison) -> Table:
    own = finished.of_business
    ended = "converged" if own["converged"] else "not converged"
    title = f"Joint model: {own['rows']:,} rows, {own['iterations']} iterations, {ended}"
    table = Table("", "joint model", "joined table", "difference", title=title, title_justify="left", box=None)
    for name, value in finished.metrics.items():
        best = comparison.metrics[name]
        table.add_row(name, f"{value:.5f}", f"{best:.5f}", f"{value - best:+.5f}")
    table.add_row("coefficients, relative L2 (standardised)", "", "", f"{comparison.distance:.2%}")
    if math.isfinite(finished.noise) and finished.release_noise:
        table.add_row("to be expected of the release noise alone", "", "", f"{finished.noise:.2%}")
    return table


def _cost(finished: Finished) -> Table:
    short, long = finished.products_per_row
    seconds = finished.seconds
    table = Table(title="Cost", title_justify="left", box=None, show_header=False, padding=(0, 2))
    stages = ", ".join(
        f"{name} {seconds[name]:.1f}" for name in ("align", "encrypt_features", "train", "infer") if name in seconds
    )
    table.add_row("seconds", f"{seconds['total']:.1f}  ({stages})")
    table.add_row("core-seconds", f"{finished.core_seconds:.1f}")
    table.add_row("ciphertexts per row", f"{finished.ciphertexts_per_row}")
    table.add_row("products per row", f"{short:,.0f} modulo a prime's square, {long:,.0f} modulo N^2")
    table.add_row(
        "bytes",
        f"{finished.bytes_business_to_provider:,} to the provider{'s' if finished.further else ''}, "
        f"{finished.bytes_provider_to_business:,} {'from them' if finished.further else 'to the business'}",
    )
    table.add_row("keys", f"{finished.key_bits} bits, back end {finished.backend}, transport {finished.transport}")
    return table
