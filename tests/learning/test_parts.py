"""Rows to parts: from a seed and the row's identifier, and from nothing else."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning import parts
from learning.parts import Layout

PEOPLE = [f"person-{number}".encode() for number in range(4000)]
SEED = parts.joint_seed([bytes(32), bytes([1]) * 32])

layouts = st.builds(
    Layout,
    validation=st.sampled_from([0.0, 0.1, 0.25]),
    test=st.sampled_from([0.0, 0.2]),
    blocks=st.integers(1, 6),
    nested=st.booleans(),
)


def placed(people: list[bytes], seed: bytes, layout: Layout) -> list[list[bytes]]:
    """The people of every part, blocks first."""
    arranged = parts.arrange(people, seed, layout)
    sizes = [*arranged.blocks, arranged.validation, arranged.test]
    edges = np.cumsum([0, *sizes]).tolist()
    ordered = [people[row] for row in arranged.order]
    return [ordered[first:last] for first, last in itertools.pairwise(edges)]


@given(layouts, st.integers(0, 2**32))
def test_the_order_in_which_rows_come_does_not_matter(layout: Layout, shuffle: int) -> None:
    people = PEOPLE[:300]
    shuffled = [people[row] for row in np.random.default_rng(shuffle).permutation(len(people))]
    assert placed(people, SEED, layout) == placed(shuffled, SEED, layout)


@given(layouts)
def test_a_row_keeps_its_part_whoever_else_is_there(layout: Layout) -> None:
    of_all, of_some = placed(PEOPLE[:600], SEED, layout), placed(PEOPLE[:400], SEED, layout)
    some = set(PEOPLE[:400])
    assert [[one for one in part if one in some] for part in of_all] == of_some


@given(layouts)
def test_every_row_has_one_part(layout: Layout) -> None:
    found = placed(PEOPLE[:500], SEED, layout)
    assert sorted(one for part in found for one in part) == sorted(PEOPLE[:500])


def test_parts_have_the_sizes_that_were_asked_for() -> None:
    arranged = parts.arrange(PEOPLE, SEED, Layout(validation=0.2, test=0.1, blocks=4))
    assert arranged.validation == pytest.approx(800, abs=100)
    assert arranged.test == pytest.approx(400, abs=80)
    assert all(block == pytest.approx(700, abs=100) for block in arranged.blocks)
    assert arranged.training + arranged.validation + arranged.test == 4000


def test_stages_at_least_about_double_and_end_with_all_rows() -> None:
    blocks = parts.arrange(PEOPLE, SEED, Layout(blocks=4, nested=True)).blocks
    assert np.cumsum(blocks) == pytest.approx([500, 1000, 2000, 4000], abs=100)
    assert sum(blocks) == 4000


def test_another_seed_of_any_party_places_the_rows_anew() -> None:
    mine, theirs, other = bytes(32), bytes([1]) * 32, bytes([2]) * 32
    assert len({parts.joint_seed(seeds) for seeds in ([mine, theirs], [theirs, mine], [mine, other])}) == 3
    layout = Layout(validation=0.5)
    first, second = (set(placed(PEOPLE, seed, layout)[0]) for seed in (SEED, parts.joint_seed([mine, other])))
    assert len(first & second) == pytest.approx(1000, abs=150)


def test_a_seed_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        parts.joint_seed([b"short", bytes(32)])


def test_the_commitment_binds_the_seed_and_shows_nothing_of_the_secret() -> None:
    secret = bytes(range(32))
    seed = parts.own_seed(secret)
    assert len({secret, seed, parts.commitment(seed)}) == 3
    assert parts.commitment(seed) != parts.commitment(parts.own_seed(bytes(32)))


def test_row_sets_of_stages_are_nested_and_those_of_batches_are_not() -> None:
    nested = parts.row_sets((2, 3), Layout(blocks=2, nested=True))
    assert nested.sum(axis=0).tolist() == [5, 2, 5]
    batches = parts.row_sets((2, 3), Layout(blocks=2))
    assert batches.sum(axis=0).tolist() == [5, 2, 3]
    assert parts.row_sets((4,), Layout(validation=0.5)).tolist() == [[True]] * 4
