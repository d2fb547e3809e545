"""The outages at full length, for `make soak`: a provider 60 s late, a broker away for 120 s."""

import tempfile
from pathlib import Path

from tests.endurance.test_kills import undisturbed
from tests.endurance.test_outages import come_late, lose_the_broker
from tests.endurance.town import Town

LATE_S = 60.0
AWAY_S = 120.0


def main() -> None:
    """Run both and say so."""
    expected = undisturbed()
    for what, story, seconds in (("provider late by", come_late, LATE_S), ("broker away for", lose_the_broker, AWAY_S)):
        with tempfile.TemporaryDirectory() as directory, Town(Path(directory)) as town:
            assert story(town, seconds) == expected, what
            print(f"{what} {seconds:.0f} s: same parameters", flush=True)


if __name__ == "__main__":
    main()
