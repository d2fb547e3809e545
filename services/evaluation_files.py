"""Evaluations of a model as files: JSON for programs, CSV for tables, PNG for people."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from learning.evaluation import Evaluation, as_builtins
from services.plots import Part, plot_calibration, plot_ks, plot_lift, plot_roc


def write(directory: Path, evaluations: Mapping[str, Evaluation], parts: Mapping[str, Part]) -> None:
    """Write metrics.json, the CSV files and the plots of all parts into `directory`, which is made if need be.

    metrics.csv has one figure a line; lift.csv, calibration.csv and, for a logistic model, confusion.csv a line
    for each bin or threshold. `parts`: labels and scores, for the curves.
    """
    directory.mkdir(parents=True, exist_ok=True)
    found = as_builtins(evaluations)
    (directory / "metrics.json").write_bytes(msgspec.json.format(msgspec.json.encode({"parts": found}), indent=2))
    figures = (
        {"part": part, "metric": name, "value": value}
        for part, content in found.items()
        for name, value in {"rows": content["rows"], **content["metrics"], **_tests(content)}.items()
    )
    _write_csv(directory / "metrics.csv", figures)
    for name in ("lift", "calibration", "confusion"):
        lines = [{"part": part, **line} for part, content in found.items() for line in content[name]]
        if lines:
            _write_csv(directory / f"{name}.csv", lines)
    plot_lift(directory / "lift.png", evaluations)
    plot_calibration(directory / "calibration.png", evaluations)
    if any(evaluation.confusion for evaluation in evaluations.values()):
        plot_roc(directory / "roc.png", parts)
        plot_ks(directory / "ks.png", parts)


def _tests(content: dict[str, Any]) -> dict[str, Any]:
    test = content["hosmer_lemeshow"]
    return {} if test is None else {f"hosmer_lemeshow_{name}": value for name, value in test.items()}


def _write_csv(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer: csv.DictWriter[str] | None = None
        for line in lines:
            if writer is None:
                writer = csv.DictWriter(file, list(line))
                writer.writeheader()
            writer.writerow(line)
