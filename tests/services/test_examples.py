"""The example data: every number as in the CSV files it comes from, and fit for training."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from services.tables.table import read_table

EXAMPLES = Path(__file__).parents[2] / "examples"

# SHA-256 over header, identifiers and numbers of the CSV file (csv.reader and float() of Python's library):
# the header joined by commas and the identifiers, joined by line feeds; then all other cells, row by row, as
# little-endian float64.
CSV_CONTENT = {
    ("breast", "business"): "4731893ae2927435accfd0e7779547dcf0847e5230785b6111b8c04e2559261c",
    ("breast", "provider"): "09a5c6c80ebbd74dc1edc18fcc6f02dbfac15354a760ce54e538912b0db4cf23",
    ("default_credit", "business"): "ea652a55ae8d4872b04ae1b8c801bc93013297c43832092ea7a5124a732d515a",
    ("default_credit", "provider"): "3398b36cddd0e07ac4532a95550dca6c6a6dbdae7345d34e4219bf3db6975375",
    ("dvisits", "business"): "357a6eb10572750581c01b2d829d87fc64343398af423bfa88f51e55cd11dac8",
    ("dvisits", "provider"): "3c0323aa9f710f93ea0fed71ab125e2d4acce5eaf427639e838654fddb4eed4e",
    ("motor", "business"): "837c26f0c09b6f1a9804ba8871ae341d3a0ae59d98094d23cbd18456a627fbe3",
    ("motor", "provider"): "ddd5577171595439bc75ad339bfffcfb2fbf16fb8aa8afe7d5506b7173cb50b7",
}

# Folder: identifier, label, task, rows, features of the business and of the provider.
SHAPES = {
    "breast": ("id", "y", "logistic", 569, 10, 20),
    "default_credit": ("id", "y", "logistic", 30_000, 13, 10),
    "dvisits": ("id", "doctorco", "poisson", 5_190, 3, 9),
    "motor": ("idx", "motor_speed", "linear", 800, 4, 7),
}


def both(folder):
    identifier, label, task, *_ = SHAPES[folder]
    return (
        read_table(EXAMPLES / folder / "business.parquet", identifier=identifier, label=label, task=task),
        read_table(EXAMPLES / folder / "provider.parquet", identifier=identifier),
    )


@pytest.mark.parametrize(("folder", "party"), CSV_CONTENT)
def test_a_table_holds_exactly_the_numbers_of_its_csv_file(folder, party):
    identifier = SHAPES[folder][0]
    table = read_table(EXAMPLES / folder / f"{party}.parquet", identifier=identifier)
    head = ",".join([identifier, *table.columns])
    digest = hashlib.sha256("\n".join([head, *table.identifiers]).encode())
    digest.update(table.values.astype("<f8").tobytes())
    assert digest.hexdigest() == CSV_CONTENT[folder, party]


@pytest.mark.parametrize("folder", SHAPES)
def test_both_tables_are_fit_for_their_task_and_speak_of_the_same_rows(folder):
    *_, rows, business_features, provider_features = SHAPES[folder]
    business, provider = both(folder)
    assert business.values.shape == (rows, business_features)
    assert provider.values.shape == (rows, provider_features)
    assert business.label is not None
    assert set(business.identifiers) == set(provider.identifiers)


@pytest.mark.parametrize(("folder", "penalty", "auc"), [("breast", 1e-2, 0.9966), ("default_credit", 1e-4, 0.7242)])
def test_the_joined_tables_reach_the_known_optimum(folder, penalty, auc):
    business, provider = both(folder)
    row_of = {name: row for row, name in enumerate(provider.identifiers)}
    joined = np.hstack([business.values, provider.values[[row_of[name] for name in business.identifiers]]])
    model = LogisticRegression(C=1 / (penalty * len(joined)), tol=1e-6, max_iter=500).fit(joined, business.label)
    assert roc_auc_score(business.label, model.decision_function(joined)) == pytest.approx(auc, abs=1e-4)
