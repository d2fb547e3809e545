"""Quiet hours are read as people write them, and kept by the clock on the wall."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.daemon.local import PROVIDER
from services.party.configuration import ConfigError, load_party
from services.party.quiet_hours import QuietHours, QuietHoursUnknown
from tests.parties import example_tables, make_parties


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "when", "quiet"),
    [
        ("22:00-06:00 Europe/Berlin", "2026-01-10T20:59:59", False),
        ("22:00-06:00 Europe/Berlin", "2026-01-10T21:00:00", True),
        ("22:00-06:00 Europe/Berlin", "2026-01-11T04:59:59", True),
        ("22:00-06:00 Europe/Berlin", "2026-01-11T05:00:00", False),
        # In summer the same hours are two before UTC.
        ("22:00-06:00 Europe/Berlin", "2026-07-10T20:00:00", True),
        ("22:00-06:00 Europe/Berlin", "2026-07-11T04:00:00", False),
        ("08:00-18:00 UTC", "2026-01-10T12:00:00", True),
        ("08:00-18:00 UTC", "2026-01-10T19:00:00", False),
        ("00:00-00:00 UTC", "2026-01-10T19:00:00", True),
    ],
)
def test_hours_hold_by_the_clock_of_their_zone_over_midnight_and_summer_time(text: str, when: str, quiet: bool) -> None:
    assert QuietHours.parse(text).hold(at(when)) is quiet


@pytest.mark.parametrize("text", ["22:00-06:00", "22-6 UTC", "22:00-06:00 Europe/Nowhere", "25:00-06:00 UTC", ""])
def test_hours_in_other_words_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(QuietHoursUnknown, match=r"22:00-06:00 Europe/Berlin"):
        QuietHours.parse(text)


@pytest.mark.parametrize("hours", ["always", "22:00-06:00 Europe/Nowhere"])
def test_a_party_with_hours_that_nobody_can_keep_does_not_start_and_names_file_and_key(
    tmp_path: Path, hours: str
) -> None:
    path = make_parties(tmp_path, example_tables(tmp_path, 30), marks=())[PROVIDER]
    policy = path.parent / "policy.toml"
    text = policy.read_text() if policy.exists() else ""
    policy.write_text(f'{text}\n[partner.someone]\nquiet_hours = "{hours}"\n')
    with pytest.raises(ConfigError, match=r"policy\.toml.*quiet_hours"):
        load_party(path)
