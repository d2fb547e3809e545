"""What befalls the parties, drawn from a seed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from broker.embedded import Faults
from services.store.crash import CRASH_POINTS

PARTIES: Final = ("bank", "bureau")
WHATS: Final = ("kill", "partition", "cut", "restart", "forget")
BUSY_S: Final = 12.0
"""Virtual seconds in which things happen: a little longer than an undisturbed job takes."""


@dataclass(frozen=True)
class Disaster:
    """Something that happens `at` a virtual second, to a party or to the broker, and lasts for `seconds`."""

    at: float
    what: str
    who: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Strike:
    """A party dies at the `nth` passage of a named point."""

    who: str
    point: str
    nth: int


@dataclass(frozen=True)
class Schedule:
    """The misfortunes of one run. `down_s`: how long a dead daemon stays down at most."""

    seed: int
    faults: Faults | None = None
    disasters: tuple[Disaster, ...] = ()
    points: tuple[Strike, ...] = field(default=())
    down_s: float = 1.0

    def strikes(self, who: str, point: str, nth: int) -> bool:
        """Whether the party dies here. Counting goes on over its deaths."""
        return Strike(who, point, nth) in self.points

    @property
    def quiet_from(self) -> float:
        """Virtual second from which on nothing befalls anybody but the broker's faults."""
        return max((disaster.at + disaster.seconds for disaster in self.disasters), default=0.0)


UNDISTURBED: Final = Schedule(seed=0)


def draw(seed: int, parties: Sequence[str] = PARTIES) -> Schedule:
    """The schedule of a seed: mild for some seeds, wild for others."""
    chance = Random(seed)
    wildness = chance.choice((0.3, 1.0, 1.0, 2.0))
    faults = Faults(
        seed=seed,
        loss=chance.choice((0.0, 0.02, 0.05)) * wildness,
        repeat=chance.choice((0.0, 0.1, 0.3)) * wildness,
        reorder=chance.choice((0.0, 0.2)) * wildness,
        corrupt=chance.choice((0.0, 0.02)) * wildness,
        delay=chance.choice((0.0, 0.05, 0.5, 2.0)),
    )
    disasters = tuple(
        Disaster(
            at=chance.uniform(0.0, BUSY_S),
            what=chance.choice(WHATS),
            who=chance.choice(parties),
            seconds=chance.choice((0.1, 3.0, 60.0, 3600.0)),
        )
        for _ in range(chance.randint(0, round(3 * wildness)))
    )
    points = tuple(
        Strike(chance.choice(parties), chance.choice(CRASH_POINTS), chance.choice((1, 2, 3, 5, 8, 13, 21, 34)))
        for _ in range(chance.randint(0, round(4 * wildness)))
    )
    return Schedule(seed, faults, disasters, points, down_s=chance.choice((0.1, 2.0, 30.0)))
