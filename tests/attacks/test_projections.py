"""What a business makes of the scores that jobs stop early by: the provider's columns of the validation rows.

It has a linear map to find, from scores to columns, and knows the columns of some rows from elsewhere. As many
projections as columns give the map; fewer leave a direction that no score depends on. Real jobs, real messages.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learning.links import projections
from tests.services.pair import Pair
from tests.services.test_job_machines import ROWS, stage, table

COLUMNS, EVALUATIONS, KNOWN = 5, 4, 16

Matrix = np.ndarray[Any, Any]


def scores_of(directory: Path, l2: float) -> tuple[Matrix, Matrix]:
    """(scores, columns) of the validation rows in one job: what the business was told, and what it should not know."""
    stops = {"stop_metric": "log_loss", "patience": EVALUATIONS, "stop_every": 1, "stop_evaluations_max": EVALUATIONS}
    pair = stage(directory, 3, columns=COLUMNS, validation=0.3, max_iterations=9, l2=l2, **stops)
    for side in pair.sides:
        side.settings["policy"].update(score_quota=10_000, stop_evaluations_max=EVALUATIONS)
    told: list[Matrix] = []

    def note(side: Any, effect: Any) -> None:
        if getattr(effect, "function", "") == "stop.judge":
            found = b"".join(side.blobs[ref.sha256] for ref in effect.inputs[3:])
            told.append(projections.from_units(projections.from_bytes(found), projections.unit_of("logistic", 1.0)))

    pair.on_effect = note
    pair.run()
    assert pair.sides[1].finish is not None
    assert pair.sides[1].finish.outcome == "done"
    assert len(told) == EVALUATIONS
    return np.column_stack(told), _hidden(pair)


def _hidden(pair: Pair) -> Matrix:
    provider = pair.sides[1]
    rows = np.frombuffer(provider.blobs[provider.state.align.rows.sha256], dtype="<i8")
    return table(ROWS, COLUMNS, 2, label=False).values[rows[provider.state.rows :]]


def unexplained(scores: Matrix, hidden: Matrix) -> Matrix:
    """Errors (rows, COLUMNS) of columns guessed from scores, for all rows but the KNOWN ones."""
    given = np.hstack([scores, np.ones((len(scores), 1))])
    linear, *_ = np.linalg.lstsq(given[:KNOWN], hidden[:KNOWN], rcond=1e-4)
    return hidden[KNOWN:] - given[KNOWN:] @ linear


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Matrix, Matrix]]:
    """Two jobs over the same parts, under two penalties; small samples, so that the second one is not refused."""
    return [scores_of(tmp_path_factory.mktemp("job"), l2) for l2 in (1e-3, 1.0)]


def test_a_job_s_evaluations_leave_a_direction_of_every_row_unread(jobs: list[tuple[Matrix, Matrix]]) -> None:
    scores, hidden = jobs[0]
    spread = np.linalg.eigvalsh(np.cov(unexplained(scores, hidden).T))
    # What no score depends on varies as it does among strangers; the rest is read.
    assert spread[-1] > 0.5
    assert spread[:-1].max() < 0.01


def test_two_jobs_together_give_every_column_of_every_row_which_is_why_they_are_counted_together(
    jobs: list[tuple[Matrix, Matrix]],
) -> None:
    (first, hidden), (second, same) = jobs
    assert (hidden == same).all()
    assert np.abs(unexplained(np.hstack([first, second]), hidden)).max() < 0.1
