"""Lists and tokens: what a list must look like, and that both parties find the same rows in the same order."""

import hashlib
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alignment import curve, sets

P = 2**255 - 19
ONE, OTHER = b"\x11" * 32, b"\x77" * 32


def points_of(parts):
    return np.frombuffer(b"".join(parts), dtype=np.uint8).reshape(-1, 32)


def tokens_of(parts):
    return np.frombuffer(b"".join(part.ljust(16, b"\0") for part in parts), dtype=np.uint8).reshape(-1, 16)


def listed(items, scalar):
    return sets.sorted_list(curve.mask_many(curve.map_many(items), scalar))


def align(own, other):
    """The whole exchange between two lists of items: both matches, first the one of `own`."""
    (own_list, own_order), (other_list, other_order) = listed(own, ONE), listed(other, OTHER)
    sets.check_chunk(own_list.tobytes(), None)
    sets.refuse_reflected(other_list, own_list)
    answers_to_own = sets.tokens(curve.mask_many(own_list, OTHER))
    answers_to_other = sets.tokens(curve.mask_many(other_list, ONE))
    return (
        sets.match(answers_to_own, own_order, answers_to_other),
        sets.match(answers_to_other, other_order, answers_to_own),
    )


identifiers = st.lists(st.binary(min_size=1, max_size=3), unique=True, max_size=40)


@given(identifiers, identifiers)
@example([], [])
@example([b"a"], [])
@example([b"a"], [b"a"])
@example([b"a"], [b"b"])
@example([b"a", b"b", b"c"], [b"c", b"b", b"a"])
@settings(max_examples=60, deadline=None)
def test_any_two_lists_meet_in_their_set_intersection_in_one_common_order(own, other):
    mine, theirs = align(own, other)
    assert {own[row] for row in mine.own_rows} == set(own) & set(other)
    assert [own[row] for row in mine.own_rows] == [other[row] for row in theirs.own_rows]
    assert mine.count == theirs.count == len(set(own) & set(other)) == len(mine.own_rows)
    assert mine.digest == theirs.digest


def test_the_common_order_is_not_the_order_of_either_party():
    items = [b"%03d" % row for row in range(200)]
    mine, theirs = align(items, items[::-1])
    assert mine.count == 200
    assert mine.own_rows.tolist() != sorted(mine.own_rows.tolist())
    assert theirs.own_rows.tolist() != sorted(theirs.own_rows.tolist())


def test_other_rows_give_another_digest():
    digests = {align(own, [b"a", b"b"])[0].digest for own in ([], [b"a"], [b"b"], [b"a", b"b"])}
    assert len(digests) == 4
    assert {len(digest) for digest in digests} == {32}


# Trailing zeros and bytes above 0x7F are where byte strings of numpy could compare otherwise than Python's.
edges = st.one_of(
    st.binary(min_size=16, max_size=16),
    st.builds(lambda head: head.ljust(16, b"\0"), st.binary(max_size=2)),
    st.builds(lambda tail: b"\xff" * 12 + tail, st.binary(min_size=4, max_size=4)),
)


@given(st.lists(edges, unique=True, max_size=30), st.lists(edges, unique=True, max_size=30))
@example([bytes(16)], [bytes(16)])
@example([b"\x80" + bytes(15), b"\x7f" + bytes(15)], [b"\x80" + bytes(15)])
def test_matching_equals_python_sets_for_any_tokens(own, other):
    order = np.arange(len(own), dtype=np.int64)[::-1]
    found = sets.match(tokens_of(own), order, tokens_of(other))
    matched = sorted(set(own) & set(other))
    assert [own[len(own) - 1 - row] for row in found.own_rows] == matched
    assert found.own_rows.dtype == np.int64
    head = b"warren matched tokens v1\x00" + len(matched).to_bytes(8, "big")
    assert found.digest == hashlib.sha256(head + b"".join(matched)).digest()


@pytest.mark.parametrize("sizes", [(1_000, 1_000_000), (1_000_000, 1_000)])
def test_a_thousand_against_a_million_match_within_seconds(sizes):
    rng = np.random.default_rng(7)
    own, peer = (rng.integers(0, 256, (size, 16), dtype=np.uint8) for size in sizes)
    peer[::2][:400] = own[:400]
    started = time.process_time()
    found = sets.match(own, np.arange(len(own)), peer)
    assert time.process_time() - started < 3
    assert set(found.own_rows.tolist()) == set(range(400))


@pytest.mark.parametrize("own_repeats", [True, False])
def test_a_token_given_twice_is_refused(own_repeats):
    once, twice = tokens_of([b"a", b"b"]), tokens_of([b"a", b"c", b"a"])
    own, peer = (twice, once) if own_repeats else (once, twice)
    with pytest.raises(sets.ListError) as refused:
        sets.match(own, np.arange(len(own)), peer)
    assert refused.value.code == "align_tokens"


def test_a_point_and_its_sum_with_a_low_order_point_are_caught_as_one_token():
    # Two coordinates, two places in an increasing list, one identifier: clamping clears the cofactor.
    point = int.from_bytes(curve.map_many([b"someone"]).tobytes(), "little")
    shifted = pow(point, -1, P)  # adding the point (0, 0) of order 2 inverts u
    chunk = points_of(sorted(u.to_bytes(32, "little") for u in (point, shifted)))
    sets.check_chunk(chunk.tobytes(), None)
    answers = sets.tokens(curve.mask_many(chunk, ONE))
    with pytest.raises(sets.ListError, match="partner's list"):
        sets.match(tokens_of([b"x"]), np.arange(1), answers)


def test_as_many_rows_as_tokens_are_needed():
    with pytest.raises(ValueError, match="2 tokens for 1 rows"):
        sets.match(tokens_of([b"a", b"b"]), np.arange(1), tokens_of([]))


small_points = st.builds(
    lambda head, tail: head + bytes(28) + tail + b"\x01",
    st.binary(min_size=2, max_size=2),
    st.binary(min_size=1, max_size=1),
)


@given(st.lists(st.one_of(small_points, st.integers(0, P - 1).map(lambda u: u.to_bytes(32, "little"))), unique=True))
@example([bytes(7) + b"\x01" + bytes(24), bytes(32), bytes(31) + b"\x01"])
def test_a_list_is_sorted_by_bytes_and_its_order_leads_back_to_the_rows(parts):
    points, order = sets.sorted_list(points_of(parts))
    assert [point.tobytes() for point in points] == sorted(parts)
    assert [parts[row] for row in order] == sorted(parts)
    assert order.dtype == np.int64


def test_equal_own_points_are_refused_naming_rows_and_not_values():
    points = points_of([b"%032d" % row for row in (5, 3, 9, 3)])
    with pytest.raises(sets.ListError, match="data rows 2 and 4") as refused:
        sets.sorted_list(points)
    assert refused.value.code == "align_duplicate"


def test_the_commitment_is_the_digest_of_the_chunks_put_together():
    points, _ = listed([b"%d" % row for row in range(20)], ONE)
    chunks = [points[start : start + 8].tobytes() for start in range(0, 20, 8)]
    assert sets.commitment(points) == hashlib.sha256(b"".join(chunks)).digest()
    assert sets.commitment(points[:0]) == hashlib.sha256().digest()


def test_a_list_cut_anywhere_passes_chunk_by_chunk():
    points, _ = listed([b"%d" % row for row in range(30)], ONE)
    for size in (1, 7, 30):
        last, passed = None, 0
        for start in range(0, 30, size):
            chunk = points[start : start + size].tobytes()
            passed += len(sets.check_chunk(chunk, last))
            last = chunk[-32:]
        assert passed == 30


def test_an_empty_chunk_passes():
    assert sets.check_chunk(b"", None).shape == (0, 32)
    assert sets.check_chunk(b"", bytes(32)).shape == (0, 32)


@given(st.lists(small_points, min_size=1, max_size=12), st.none() | small_points)
def test_a_chunk_passes_exactly_if_it_increases_strictly_from_the_point_before_it(parts, before):
    whole = parts if before is None else [before, *parts]
    if all(one < two for one, two in pairwise(whole)):
        assert sets.check_chunk(b"".join(parts), before).tobytes() == b"".join(parts)
        return
    with pytest.raises(sets.ListError) as refused:
        sets.check_chunk(b"".join(parts), before)
    assert refused.value.code == "align_order"


def test_a_chunk_that_repeats_the_last_point_of_the_one_before_is_refused():
    points, _ = listed([b"%d" % row for row in range(4)], ONE)
    with pytest.raises(sets.ListError, match="chunk before"):
        sets.check_chunk(points[1:].tobytes(), points[1].tobytes())


@pytest.mark.parametrize("size", [1, 31, 33, 65])
def test_a_chunk_that_is_no_whole_number_of_points_is_refused(size):
    with pytest.raises(sets.ListError) as refused:
        sets.check_chunk(bytes(size), None)
    assert refused.value.code == "align_length"


@pytest.mark.parametrize("bad", [P, P + 1, 2**255 - 1, 2**256 - 1, 2**255 + 12345])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_another_spelling_of_a_point_does_not_pass_the_order_check(bad, place):
    points, _ = listed([b"%d" % row for row in range(4)], ONE)
    parts = [point.tobytes() for point in points]
    parts.insert(place, bad.to_bytes(32, "little"))
    with pytest.raises(curve.PointError) as refused:
        sets.check_chunk(b"".join(parts), None)
    assert refused.value.index == place


@pytest.mark.parametrize("place", [0, 10, 19])
def test_an_own_point_that_comes_back_is_detected(place):
    own, _ = listed([b"%d" % row for row in range(20)], ONE)
    theirs, _ = listed([b"%d" % row for row in range(20)], OTHER)
    sets.refuse_reflected(theirs, own)
    with pytest.raises(sets.ListError) as refused:
        sets.refuse_reflected(np.concatenate([theirs, own[place : place + 1]]), own)
    assert refused.value.code == "align_reflected"
    assert "point 20 " in str(refused.value)


def test_nothing_is_reflected_by_or_from_an_empty_list():
    own, _ = listed([b"a"], ONE)
    sets.refuse_reflected(own, own[:0])
    sets.refuse_reflected(own[:0], own)
