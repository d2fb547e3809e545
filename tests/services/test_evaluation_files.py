"""Files of an evaluation: read back by other readers than the one that wrote them."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from learning.evaluation import by_part
from services import evaluation_files

PARTS = {"training": np.arange(300), "validation": np.arange(300, 400), "test": np.arange(400, 500)}


def written(directory: Path, task: str, labels: np.ndarray, scores: np.ndarray) -> dict[str, dict]:
    found = by_part(task, labels, scores, PARTS, rate=0.1)
    evaluation_files.write(directory, found, {part: (labels[rows], scores[rows]) for part, rows in PARTS.items()})
    return json.loads((directory / "metrics.json").read_text())["parts"]


def test_json_and_csv_say_the_same_of_every_part(tmp_path: Path) -> None:
    generator = np.random.default_rng(4)
    scores = generator.normal(size=500)
    labels = (generator.uniform(size=500) < 1 / (1 + np.exp(-scores))).astype(float)
    found = written(tmp_path / "new", "logistic", labels, scores)
    assert list(found) == list(PARTS)
    table = pl.read_csv(tmp_path / "new" / "metrics.csv")
    for part, content in found.items():
        own = dict(table.filter(pl.col("part") == part).select("metric", "value").iter_rows())
        assert own["auc"] == pytest.approx(content["metrics"]["auc"])
        assert own["hosmer_lemeshow_p"] == pytest.approx(content["hosmer_lemeshow"]["p"])
    for name in ("lift", "calibration", "confusion"):
        lines = pl.read_csv(tmp_path / "new" / f"{name}.csv")
        assert lines.height == sum(len(content[name]) for content in found.values())
    confusion = pl.read_csv(tmp_path / "new" / "confusion.csv").filter(pl.col("part") == "test")
    weights = confusion.select("true_positives", "false_positives", "true_negatives", "false_negatives")
    assert weights.sum_horizontal().to_list() == [100.0] * 3
    pictures = {path.name for path in (tmp_path / "new").glob("*.png")}
    assert pictures == {"roc.png", "ks.png", "lift.png", "calibration.png"}


def test_what_is_not_defined_is_null_and_the_files_stay_json(tmp_path: Path) -> None:
    found = written(tmp_path, "logistic", np.ones(500), np.linspace(-1, 1, 500))
    assert found["training"]["metrics"]["auc"] is None
    assert found["training"]["metrics"]["log_loss"] > 0


def test_counts_have_no_confusion_and_no_curve_of_classes(tmp_path: Path) -> None:
    generator = np.random.default_rng(4)
    scores = generator.normal(size=500)
    found = written(tmp_path, "poisson", generator.poisson(np.exp(scores)).astype(float), scores)
    assert found["test"]["confusion"] == []
    assert found["test"]["hosmer_lemeshow"] is None
    assert {path.name for path in tmp_path.glob("*")} == {
        *("metrics.json", "metrics.csv", "lift.csv", "calibration.csv", "lift.png", "calibration.png")
    }
