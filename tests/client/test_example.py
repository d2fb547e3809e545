"""The worked example does what it says, on few rows and small keys."""

import runpy
from pathlib import Path

import polars as pl
from sklearn.metrics import roc_auc_score

from services.client import rehearsal

EXAMPLE = Path(__file__).parents[2] / "examples" / "joint_model.py"
MARKS = ("small_sample", "insecure")


def test_the_example_trains_scores_and_leaves_nobody_out() -> None:
    example = runpy.run_path(str(EXAMPLE), run_name="example")
    bank, bureau = example["raw_tables"](300)
    assert bank["x0"].null_count() > 0
    assert bank["grade"].dtype == pl.String
    job = {"l2": 1e-2, "max_iterations": 3, "key_bits": 512, "marks": list(MARKS), "release_noise": 0.0}
    with rehearsal(bank, bureau, label="y", marks=MARKS, provider_preparation=example["BUREAU"]) as client:
        found = example["train_and_score"](client, bank, **job)
    model, scores = found["model"], found["scores"]
    assert {"x0", "x0=(missing)", "grade=middle", "grade=high"} <= set(model.coefficients)
    assert scores.frame.height == model.rows == 240
    assert len(scores.unmatched) == 30
    joined = bank.join(scores.frame, on="id")
    assert abs(found["auc"] - roc_auc_score(joined["y"], joined["score"])) < 1e-9
    assert found["auc"] > 0.6
