"""What early stopping is held against: jobs of every length that do not stop early."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from tests.services.pair import Pair


class Lengths:
    """Jobs of so many iterations, by what changes them; `ran(directory, **fields)` runs one, `models` reads it."""

    def __init__(self, directory: Path, ran: Callable[..., Pair], models: Callable[[Pair], list[Any]]) -> None:
        self._directory = directory
        self._ran = ran
        self._models = models
        self.of = cache(self._of)

    def _of(self, iterations: int, changes: tuple[tuple[str, Any], ...]) -> tuple[list[Any], pl.DataFrame]:
        """(models, scores.csv of the validation rows) of a job of so many iterations."""
        directory = self._directory / f"{iterations}-{len(list(self._directory.iterdir()))}"
        directory.mkdir()
        pair = self._ran(directory, **{**dict(changes), "max_iterations": iterations, "evaluate": ("validation",)})
        finish = pair.sides[0].finish
        assert finish is not None
        return self._models(pair), pl.read_csv(pair.sides[0].blobs[finish.results[3].sha256])
