"""Files of an evaluation: read back by other readers than the one that wrote them."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from learning.evaluation.part_figures import by_part
from services.cli.figures import evaluate
from services.party.configuration import ConfigError
from services.results import evaluation_files, plots

PARTS = {"training": np.arange(300), "validation": np.arange(300, 400), "test": np.arange(400, 500)}


def written(directory: Path, task: str, labels: np.ndarray, scores: np.ndarray) -> dict[str, dict]:
    found = by_part(task, labels, scores, PARTS, rate=0.1)
    evaluation_files.write(directory, found, {part: (labels[rows], scores[rows], None) for part, rows in PARTS.items()})
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


def test_curves_of_weighted_rows_are_those_of_rows_as_often_as_they_weigh(tmp_path: Path) -> None:
    generator = np.random.default_rng(6)
    scores, weights = generator.normal(size=400), generator.integers(0, 4, 400).astype(float)
    labels = (generator.uniform(size=400) < 1 / (1 + np.exp(-scores))).astype(float)
    often = np.repeat(np.arange(400), weights.astype(int))
    for name, draw in (("roc", plots.plot_roc), ("ks", plots.plot_ks)):
        pictures = [tmp_path / f"{name}{number}.png" for number in range(3)]
        draw(pictures[0], {"training": (labels, scores, weights)})
        draw(pictures[1], {"training": (labels[often], scores[often], np.ones(len(often)))})
        draw(pictures[2], {"training": (labels, scores, np.ones(400))})
        weighted, repeated, unweighted = (path.read_bytes() for path in pictures)
        assert weighted == repeated != unweighted


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


def scores_file(path: Path) -> Path:
    generator = np.random.default_rng(6)
    score = generator.normal(size=400)
    label = (generator.uniform(size=400) < 1 / (1 + np.exp(-score))).astype(float)
    part = ["training"] * 300 + ["test"] * 100
    names = [f"id{row}" for row in range(400)]
    pl.DataFrame({"id": names, "part": part, "label": label, "score": score}).write_csv(path)
    return path


def test_the_command_reads_scores_and_adds_the_thresholds_that_are_asked_for(tmp_path: Path) -> None:
    file = scores_file(tmp_path / "scores.csv")
    assert evaluate(file, "logistic", tmp_path / "out", rate=0.2, threshold=0.7) == 0
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())["parts"]
    assert list(found) == ["training", "test"]
    for content in found.values():
        assert [one["choice"] for one in content["confusion"]] == ["even", "ks", "rate", "given"]
        assert content["confusion"][3]["threshold"] == pytest.approx(0.7)
    assert found["training"]["confusion"][2]["predicted_rate"] <= 0.2


@pytest.mark.parametrize(
    ("text", "what"),
    [("", "no scores.csv"), ("id,part\na,training\n", "no scores.csv"), ("id,part,label,score\na,x,1,2\n", "no rows")],
)
def test_the_command_names_what_is_no_such_file(text: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=what):
        evaluate(path, "logistic")
    with pytest.raises(ConfigError, match="there is no such file"):
        evaluate(tmp_path / "none.csv", "logistic")
    with pytest.raises(ConfigError, match="between 0 and 1"):
        evaluate(scores_file(path), "logistic", rate=1.5)
    with pytest.raises(ConfigError, match="--task trees"):
        evaluate(path, "trees")
