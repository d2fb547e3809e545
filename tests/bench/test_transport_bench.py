"""`warren bench transport` measures every way with messages that really arrive."""

from bench.transport import WAYS, measure_transports


def test_every_way_has_its_figures() -> None:
    found = measure_transports(small=3, large=2, rounds=1)
    assert set(found) == set(WAYS)
    for figures in found.values():
        assert figures["messages_per_s"] > 0
        assert figures["mib_per_s"] > 0
        assert 0 < figures["round_trip_ms"] < 60_000
