"""The feature code set: features have numbers between parties and names only at home."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NewType

FeatureCode = NewType("FeatureCode", int)


class CodesError(ValueError):
    """A number of features or a feature code outside the set."""


@dataclass(frozen=True, slots=True)
class FeatureCodeSet:
    """Codes 0, 1, ... of a job's features: the business's first (0 is its intercept), then the provider's."""

    business: int
    provider: int

    def __post_init__(self) -> None:
        if self.business < 0 or self.provider < 0:
            raise CodesError("a party has 0 or more features")

    def __len__(self) -> int:
        return self.business + self.provider

    def __iter__(self) -> Iterator[FeatureCode]:
        return iter((*self.business_codes, *self.provider_codes))

    @property
    def business_codes(self) -> tuple[FeatureCode, ...]:
        """The business's codes, in its column order."""
        return tuple(FeatureCode(code) for code in range(self.business))

    @property
    def provider_codes(self) -> tuple[FeatureCode, ...]:
        """The provider's codes, in its column order."""
        return tuple(FeatureCode(code) for code in range(self.business, len(self)))

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
