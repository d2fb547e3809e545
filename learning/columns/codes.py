"""The feature code set: features have numbers between parties and names only at home."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NewType

FeatureCode = NewType("FeatureCode", int)


class CodesError(ValueError):
    """A number of features below 0."""


@dataclass(frozen=True, slots=True)
class FeatureCodeSet:
    """Codes 0, 1, ... of a job's features: the business's first (0 is its intercept), then each provider's in turn."""

    business: int
    provider: int
    further: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if any(count < 0 for count in self._counts):
            raise CodesError("a party has 0 or more features")

    def __len__(self) -> int:
        return sum(self._counts)

    def __iter__(self) -> Iterator[FeatureCode]:
        return iter(FeatureCode(code) for code in range(len(self)))

    @property
    def _counts(self) -> tuple[int, ...]:
        return (self.business, self.provider, *self.further)

    def codes_of(self, party: int) -> tuple[FeatureCode, ...]:
        """The codes of a party in its column order; 0 is the business, then the providers in contract order."""
        first = sum(self._counts[:party])
        return tuple(FeatureCode(code) for code in range(first, first + self._counts[party]))
