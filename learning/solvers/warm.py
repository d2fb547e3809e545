"""Starting from the parameters of a former model instead of from zero."""

import msgspec
import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """A party's part of a former model on raw columns: `score = constant + sum_j coefficients_j x_j`.

    The constant is the business's alone, without what the centres of others made of the intercept.
    """

    constant: float
    coefficients: tuple[float, ...]

    def weights(self, centres: Vector, *, intercept: bool, unit: float, base: float) -> Vector:
        """Weights (d,) of centred columns in units of `unit`; the intercept's comes first and is beyond `base`."""
        own = np.array(self.coefficients) / unit
        if not intercept:
            return own
        level = self.constant / unit + float((own * centres[1:]).sum()) - base
        return np.concatenate([[level], own])
