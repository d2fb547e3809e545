"""A bank and a credit bureau train a model of defaults together: from two raw tables to scores, in one process.

    python examples/joint_model.py [--rows 4000] [--out out/example]

The tables are the credit-default example made raw again: some amounts are missing, and one column is text. The
bureau's half is here as well, because this is a rehearsal; between two organisations the bank runs the same lines
with `BusinessClient("party.toml")`, and the bureau has its preparation in its own party.toml.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from learning.evaluation.metrics import auc
from services.client import BusinessClient, rehearsal

HERE = Path(__file__).parent / "default_credit"

BANK: dict[str, Any] = {
    "x0": [{"step": "impute", "by": "median", "indicator": True}, {"step": "clip", "quantiles": [0.001, 0.999]}],
    "grade": [{"step": "one_hot", "categories": ["low", "middle", "high"], "drop_first": True, "unseen": "error"}],
}
BUREAU: dict[str, Any] = {
    "x0": [{"step": "log", "kind": "signed"}, {"step": "standardise"}],
    "x9": [{"step": "impute", "by": "mean"}, {"step": "log", "kind": "signed"}],
}


def raw_tables(rows: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The bank's and the bureau's rows, as they would come out of their systems; a tenth of each the other lacks."""
    bank = pl.read_parquet(HERE / "business.parquet").head(rows)
    bureau = pl.read_parquet(HERE / "provider.parquet").head(rows)
    chance = np.random.default_rng(1)
    rank = pl.col("x1").rank() / pl.len()
    grade = pl.when(rank < 0.3).then(pl.lit("low")).when(rank < 0.8).then(pl.lit("middle")).otherwise(pl.lit("high"))
    bank = bank.with_columns(
        pl.when(pl.Series(chance.random(rows) < 0.08)).then(None).otherwise(pl.col("x0")).alias("x0"),
        grade.alias("grade"),
    ).drop("x1")
    bureau = bureau.with_columns(
        pl.when(pl.Series(chance.random(rows) < 0.05)).then(None).otherwise(pl.col("x9")).alias("x9")
    )
    tenth = rows // 10
    return bank.head(rows - tenth), bureau.tail(rows - tenth).sample(fraction=1.0, shuffle=True, seed=2)


def train_and_score(client: BusinessClient, bank: pl.DataFrame, **job: Any) -> dict[str, Any]:
    """What the bank does. Everything it learns of the bureau is in what this returns: a score for each common row."""
    model = client.fit(bank, identifier="id", label="y", preparation=BANK, task="logistic", **job)
    scores = client.predict(model, bank.drop("y"))
    joined = bank.join(scores.frame, on="id")
    return {
        "model": model,
        "scores": scores,
        "auc": auc(joined["y"].cast(pl.Float64).to_numpy(), joined["score"].to_numpy()),
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--out", type=Path, default=Path("out/example"))
    given = parser.parse_args()
    bank, bureau = raw_tables(given.rows)
    with rehearsal(bank, bureau, label="y", provider_preparation=BUREAU) as client:
        found = train_and_score(client, bank, l2=1e-4, max_iterations=20)
    model, scores = found["model"], found["scores"]
    given.out.mkdir(parents=True, exist_ok=True)
    model.table().write_csv(given.out / "coefficients.csv")
    scores.frame.write_csv(given.out / "scores.csv")
    print(f"{model.rows} common rows, {model.iterations} iterations, {model.stop_reason}")
    print(f"own coefficients: {', '.join(f'{name} {value:+.3f}' for name, value in model.coefficients.items())}")
    print(f"{scores.frame.height} rows scored, {len(scores.unmatched)} unknown to the bureau; AUC {found['auc']:.4f}")
    print(f"coefficients and scores are in {given.out}/")


if __name__ == "__main__":
    main()
