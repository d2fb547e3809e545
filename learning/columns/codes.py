"""The feature code set: features have numbers between parties and names only at home."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NewType

FeatureCode = NewType("FeatureCode", int)


class CodesError(ValueError):
    """A number of features or a feature code outside the set."""


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

    @property
    def business_codes(self) -> tuple[FeatureCode, ...]:
        """The business's codes, in its column order."""
        return self.codes_of(0)

    @property
    def provider_codes(self) -> tuple[FeatureCode, ...]:
        """The first provider's codes, in its column order."""
        return self.codes_of(1)

    def owner(self, code: int) -> str:
        """The party that has the feature, business or provider. Raises CodesError outside the set."""
        if not 0 <= code < len(self):
            raise CodesError(f"{code} is no feature code of this set of {len(self)}")
        return "business" if code < self.business else "provider"


def name_own(codes: Sequence[FeatureCode], names: Sequence[str]) -> dict[FeatureCode, str]:
    """One party's codes with the names that only it knows. Raises CodesError unless names fit and differ."""
    if len(codes) != len(names) or len(set(names)) != len(names):
        raise CodesError(f"{len(codes)} codes for {len(set(names))} different names")
    return dict(zip(codes, names, strict=True))
