"""What a job will cost, before anybody has computed anything: for `warren check`."""

from typing import Final, NamedTuple

from kernel import library
from learning.links.family import MULTICLASS, Family
from paillier.budget import bit_budget
from services.daemon.job_file import JobFile

CIPHERTEXTS_PER_ROW = {"logistic": 40, "poisson": 20, "linear": 12, "gamma": 24, "tweedie": 36}
"""Link terms of a row over a whole job, as measured on the example data sets (docs/performance.md)."""

CIPHERTEXTS_PER_TURN = {"logistic": 10, "poisson": 2, "linear": 1, "gamma": 1, "tweedie": 2}
"""Link terms of a row in a turn of the inference stage (docs/performance.md)."""


TURNS: Final = 8
"""Iterations of a training job on the same data."""

TURNS_PER_PENALTY: Final = 3
"""Gradients over all rows that a cross-validation takes for each penalty, as measured there; each of its folds takes as
much as one more, four fifths of it for a fit and one for its check where there are five."""


class Speed(NamedTuple):
    """Seconds of one core at 2048 bits: a link term encrypted, a row evaluated, an item aligned on both sides."""

    encrypt: float
    evaluate: float
    align: float


SPEEDS: Final = {
    "gmpy2": Speed(0.00035, 0.0006, 0.00025),
    "portable": Speed(0.00017, 0.0004, 0.00025),
    "avx512ifma": Speed(0.000025, 0.00006, 0.00003),
}
"""By what computes (docs/performance.md); both sides are taken to have the same."""


def estimate(
    job: JobFile, rows: int, columns: int, partner_rows: int, partner_columns: int, classes: int = 0
) -> dict[str, float]:
    """Bytes each way, seconds and disk of both sides, if all rows of the smaller table match.

    Figures for the back end that runs here, one core a side; longer keys scale with the cube of their length.
    """
    kernel = library.load()
    speed = SPEEDS["gmpy2" if kernel is None else kernel.path]
    aligned = max(1, min(rows, partner_rows))
    task = "logistic" if job.task == MULTICLASS else job.task
    family = Family(task=task, label_bound=job.label_bound or 1.0, power=job.tweedie_power)
    budget = bit_budget(aligned, job.key_bits, family.residual_bound)
    cipher = job.key_bits // 4
    per_row_own = -(-(columns + 1) // budget.columns_per_ciphertext)
    per_row_partner = -(-max(1, partner_columns) // budget.columns_per_ciphertext)
    turns = 2 + columns + partner_columns if job.inference else 0
    gradients = len(set(job.penalties)) * (TURNS_PER_PENALTY + job.folds) if job.penalties else TURNS
    terms = CIPHERTEXTS_PER_ROW[task] * max(1, classes) * gradients / TURNS + turns * CIPHERTEXTS_PER_TURN[task]
    slower = (job.key_bits / 2048) ** 3
    sent = aligned * cipher * (per_row_own + terms) + 48 * (rows + partner_rows)
    received = aligned * cipher * per_row_partner + 48 * (rows + partner_rows)
    replies = max(job.max_iterations, gradients) + turns
    received += replies * aligned // budget.rows_per_ciphertext * cipher
    seconds = aligned * terms * (speed.encrypt + speed.evaluate / 4) * slower + speed.align * (rows + partner_rows)
    return {
        "bytes_to_partner": float(sent),
        "bytes_from_partner": float(received),
        "seconds": seconds,
        "disk_bytes_here": float(received + aligned * (columns + 10) * 8 + 3 * 16 * 2**20),
        "disk_bytes_at_partner": float(aligned * cipher * per_row_own + 3 * 16 * 2**20),
    }
