"""This machine's clock against those of others: the partners', and the broker's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.doctor.finding import Finding, Patient, fault, fine, note, unknown
from services.doctor.journal import ask_daemon

Clock = Callable[[], float]
"""Seconds since 1970."""

OFF_MAX_S: Final = 60.0
OFF_NOTED_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What time it was somewhere, between two moments here, all in seconds since 1970. Whole seconds there."""

    who: str
    theirs: float
    sent: float
    received: float

    @property
    def off(self) -> float:
        """By how many seconds this clock is at least before (above 0: after) the other one."""
        if self.sent > self.theirs + 1.0:
            return self.sent - self.theirs - 1.0
        return min(0.0, self.received - self.theirs)


def ask_partners(patient: Patient) -> list[Reading]:
    """What time it is at the partners that answer this party's daemon; none where no daemon runs."""
    answers: Any = ask_daemon(patient, "clocks", timeout_s=ANSWER_TIMEOUT_S) or {}
    return [
        Reading(name, said["theirs"], said["sent"], said["received"])
        for name, said in sorted(answers.items())
        if said is not None
    ]


def check_clock(readings: Sequence[Reading]) -> list[Finding]:
    """How far this machine's clock is from the others'."""
    if not readings:
        return [
            unknown(
                "clock",
                "the clock could not be compared: no partner has answered, and no management URL was given",
                "start the daemon and let a partner's run, or compare with a time server: `timedatectl`",
            )
        ]
    far = [reading for reading in readings if abs(reading.off) > OFF_MAX_S]
    if not far:
        worst = max(abs(reading.off) for reading in readings)
        told = f"this machine's clock agrees with {_names(readings)} to {worst:.0f} s"
        return [fine("clock", told) if worst <= OFF_NOTED_S else note("clock", "clock_off", told)]
    mine = len(far) == len(readings) > 1
    advice = (
        "set this machine's clock: all others agree against it (`timedatectl set-ntp true`, or chrony)"
        if mine
        else "find out which of both is wrong (`timedatectl` on each), and let it follow a time server"
    )
    return [
        fault(
            "clock",
            "clock_off",
            f"this machine's clock is {_span(reading.off)} that of {reading.who}: contracts and certificates would "
            "expire at the wrong time",
            advice,
        )
        for reading in far
    ]


def _names(readings: Sequence[Reading]) -> str:
    return " and ".join(reading.who for reading in readings)


def _span(off: float) -> str:
    minutes = abs(off) / 60.0
    return f"{minutes:.0f} min {'ahead of' if off > 0 else 'behind'}"
