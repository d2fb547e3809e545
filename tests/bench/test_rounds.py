"""Races: turns, ratios of one run, and nothing left behind."""

import os

import pytest

from bench.rounds import Column, Operation, Timed, cores_allowed, machine, one_core, output_aside, race, versions

OWN = Column("own", "own", "1", peer=False)
OTHER = Column("other", "other", "2", peer=True)


class Time:
    """A clock that only work moves; `drift` makes every round slower by this factor."""

    def __init__(self, drift=1.0):
        self.now, self.log, self.drift = 0.0, [], drift

    def __call__(self):
        return self.now

    def way(self, name, seconds, items=1):
        def work():
            self.now += seconds * self.drift ** self.log.count(name)
            self.log.append(name)

        return Timed(f"{name}()", items, work)


def test_every_round_gives_each_way_its_turn():
    time = Time()
    row = race(
        Operation("add", "add", "sum"),
        {"own": time.way("own", 1.0), "other": time.way("other", 2.0)},
        [OWN, OTHER],
        seconds=0.0,
        clock=time,
    )
    assert time.log == ["own", "other"] * 5
    assert row.rounds == 5


def test_rounds_go_on_until_the_seconds_of_all_ways_are_used():
    time = Time()
    ways = {"own": time.way("own", 1.0), "other": time.way("other", 1.0)}
    assert race(Operation("add", "add", "sum"), ways, [OWN, OTHER], seconds=10.0, clock=time).rounds == 10


def test_a_quick_way_runs_again_and_again_in_its_turn_and_the_fastest_run_counts():
    time = Time(drift=1.5)
    ways = {"own": time.way("own", 1.0), "other": time.way("other", 2.0)}
    row = race(Operation("add", "add", "sum"), ways, [OWN, OTHER], seconds=40.0, clock=time)
    assert time.log[:3] == ["own", "own", "other"]
    assert row.figures["own"].fastest == 1e6


def test_figures_are_per_item_and_ratios_are_of_this_run():
    time = Time()
    ways = {"own": time.way("own", 2.0, items=8), "other": time.way("other", 5.0, items=2)}
    row = race(Operation("add", "add", "sum"), ways, [OWN, OTHER], seconds=0.0, clock=time)
    assert row.figures["own"].microseconds == 0.25e6
    assert row.figures["other"].microseconds == 2.5e6
    assert (row.figures["other"].batch, row.figures["other"].call) == (2, "other()")
    assert row.ratios["own"]["other"].ratio == 10.0
    assert row.ratios["own"]["other"].median == 10.0


def test_a_machine_that_slows_down_changes_times_and_no_ratio():
    time = Time(drift=2.0)
    ways = {"own": time.way("own", 1.0), "other": time.way("other", 6.0)}
    row = race(Operation("add", "add", "sum"), ways, [OWN, OTHER], seconds=0.0, clock=time)
    assert (row.figures["own"].fastest, row.figures["own"].median) == (1e6, 4e6)
    assert (row.ratios["own"]["other"].ratio, row.ratios["own"]["other"].median) == (6.0, 6.0)


def test_what_takes_as_long_as_chance_has_it_counts_by_its_median_of_seven_rounds():
    time = Time(drift=3.0)
    row = race(Operation("key", "key", "key", median=True), {"own": time.way("own", 1.0)}, [OWN], seconds=0, clock=time)
    assert row.rounds == 7
    assert row.statistic == "median"
    assert row.figures["own"].microseconds == row.figures["own"].median == 27e6
    assert row.ratios == {}


@pytest.mark.parametrize(("wanted", "met"), [(5.0, True), (5.1, False), (None, None)])
def test_what_is_wanted_is_compared_with_the_ratio(wanted, met):
    time = Time()
    ways = {"own": time.way("own", 1.0), "other": time.way("other", 5.0)}
    operation = Operation("add", "add", "sum", wanted=wanted)
    row = race(operation, ways, [OWN, OTHER], seconds=0.0, wanted_of=("own", "other"), clock=time)
    assert row.met is met


@pytest.mark.parametrize("wanted_of", [None, ("absent", "other"), ("own", "absent")])
def test_nothing_is_met_or_missed_where_a_column_is_missing_or_the_promise_does_not_hold(wanted_of):
    time = Time()
    ways = {"own": time.way("own", 1.0), "other": time.way("other", 5.0)}
    operation = Operation("add", "add", "sum", wanted=2.0)
    row = race(operation, ways, [OWN, OTHER], seconds=0.0, wanted_of=wanted_of, clock=time)
    assert (row.wanted, row.met) == (2.0, None)


def test_one_core_is_used_inside_and_the_former_ones_after_an_error():
    before = cores_allowed()

    def fail():
        with one_core() as core:
            assert machine(core)["bound_to_core"] == core
            assert core is None or (os.sched_getaffinity(0) == {core} and cores_allowed() == 1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert cores_allowed() == before


def test_what_others_print_does_not_mix_with_the_figures(capfd):
    with output_aside():
        os.write(1, b"a thread pool\n")
    os.write(1, b"figures\n")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("figures\n", "a thread pool\n")


def test_versions_name_what_was_timed_and_what_could_have_been():
    found = versions()
    assert {"warren", "python", "gmp", "gmpy2", "phe", "sf-heu", "cryptography", "openmined-psi"} <= found.keys()
    assert all(found[name] for name in ("warren", "python", "gmp", "gmpy2", "phe", "cryptography"))
