"""What a daemon takes from the world around it: time, chance, a thread for its journal, a place for its tasks.

Everything else it does follows from its journal and its partner's messages. A simulation replaces what is here, and
the transport, and nothing else.
"""

import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy import Connection

from services.engine.executor import Slot, make_slots
from services.engine.worker import Setup
from services.store.journal import Journal, ThreadedJournal

Entropy = Callable[[int], bytes]
"""So many random bytes."""


class OpenJournal(Protocol):
    """Makes a journal: see `services.store.transactions.Transactions` for the arguments."""

    def __call__(
        self,
        url: str,
        party: str,
        *,
        before_commit: Callable[[], None],
        after_commit: Callable[[Connection], None],
    ) -> Journal:
        """A journal that is not open yet."""


def _chance() -> random.Random:
    return random.Random()  # noqa: S311 - it only spreads waits


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The real world, unless somebody gives another one.

    Attributes:
        clock: seconds since 1970.
        entropy: for job secrets and for the salts of the chain.
        chance: spreads waits; nothing secret.
        journal: makes the journal.
        slots: makes the places where compute tasks run.

    """

    clock: Callable[[], float] = time.time
    entropy: Entropy = os.urandom
    chance: random.Random = field(default_factory=_chance)
    journal: OpenJournal = ThreadedJournal
    slots: Callable[[Setup, int], Sequence[Slot]] = make_slots
