"""The grid on which a party tells sizes that it must not tell exactly: the powers of 2^(1/4)."""

import math
from typing import Final

GRID: Final = (1.0, 1.189207115002721, 1.4142135623730951, 1.6817928305074292)  # 2^(k/4)


def coarse(value: float) -> float:
    """The smallest power of 2^(1/4) that is not below `value`; 0 for what is not above 0."""
    if value <= 0.0:
        return 0.0
    power = math.frexp(value)[1] - 1
    for exponent in (power, power + 1):
        for root in GRID:
            step = math.ldexp(root, exponent)
            if step >= value:
                return step
    return math.ldexp(1.0, power + 2)
