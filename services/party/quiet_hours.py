"""Hours of the day in which nothing is done for a partner, in the time zone of whoever set them."""

from dataclasses import dataclass
from datetime import datetime, time
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


class QuietHoursUnknown(ValueError):
    """Hours that cannot be used: says which, and how they are written."""


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `begin` to before `end` by the clock on the wall; over midnight where `end` is not later."""

    begin: time
    end: time
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str) -> Self:
        """Hours like `22:00-06:00 Europe/Berlin`. Raises QuietHoursUnknown."""
        try:
            hours, name = text.split(" ")
            begin, end = (time.fromisoformat(part) for part in hours.split("-"))
            zone = ZoneInfo(name)
        except (ValueError, ZoneInfoNotFoundError, OSError):
            raise QuietHoursUnknown(
                f"quiet_hours {text!r}: write them like 22:00-06:00 Europe/Berlin; this machine has to know the zone"
            ) from None
        return cls(begin, end, zone)

    def hold(self, at: float) -> bool:
        """Whether `at`, seconds since 1970, is within."""
        now = datetime.fromtimestamp(at, self.zone).time()
        if self.begin < self.end:
            return self.begin <= now < self.end
        return now >= self.begin or now < self.end
