"""Both machines with their real compute functions: a whole job in one process, in any order of events."""

import numpy as np

from services.tables import Table


def table(rows: int, columns: int, seed: int, *, label: bool) -> Table:
    """Rows of numbers that say something about the label."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(rows, columns))
    identifiers = [f"person-{number:05d}" for number in range(rows)]
    chosen = (values.sum(axis=1) + generator.logistic(size=rows) > 0).astype(float) if label else None
    return Table(identifiers=identifiers, columns=tuple(f"c{j}" for j in range(columns)), values=values, label=chosen)
