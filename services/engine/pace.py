"""How fast bulk leaves for each partner: a bucket of tokens that holds what one second allows."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    """`tokens`: bytes that may leave at loop time `at`; below nothing, who comes next waits."""

    tokens: float
    at: float


class Pace:
    """On the loop's clock. `rate`: bytes a second for a partner, 0 for any number."""

    def __init__(self, rate: Callable[[str], float] = lambda _: 0.0) -> None:
        self._rate = rate
        self._buckets: dict[str, _Bucket] = {}

    async def keep(self, partner: str, size: int) -> None:
        """Wait until so many bytes may leave for a partner, in the order of those who ask.

        A message of more than a second is not cut: it goes when its turn comes, and what follows waits longer.
        """
        rate = self._rate(partner)
        if rate <= 0:
            return
        now = asyncio.get_running_loop().time()
        bucket = self._buckets.setdefault(partner, _Bucket(rate, now))
        bucket.tokens = min(rate, bucket.tokens + (now - bucket.at) * rate)
        bucket.at = now
        # Taken before the wait: whoever asks meanwhile stands behind.
        due = -bucket.tokens / rate
        bucket.tokens -= size
        if due > 0:
            await asyncio.sleep(due)
