"""Slots: packed, masked, windowed and read again, with every budget check."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paillier.budget import BudgetError, bit_budget
from paillier.keys import generate
from paillier.packing import (
    masks,
    pack_columns,
    plaintexts_per_row,
    read_gradient,
    read_slots,
    share_digits,
    unpack_signed,
    unpack_unsigned,
    window_values,
)
from paillier.randomness import Randomness

RANDOMNESS = Randomness(b"s" * 32)
PUBLIC = generate(512, RANDOMNESS.stream("key"), insecure=True).public
N = PUBLIC.modulus
BUDGET = bit_budget(1000, 512, 2)
L, SLOTS = BUDGET.feature_slot, BUDGET.columns_per_ciphertext
LOW, HIGH = -(1 << (L - 3)), (1 << (L - 2)) + (1 << (L - 3))


def window(columns, release_noise, *parts):
    return window_values(
        columns, BUDGET, N, RANDOMNESS.stream("high", *parts), RANDOMNESS.stream("low", *parts), release_noise
    )


@given(st.lists(st.integers(LOW, HIGH), min_size=SLOTS, max_size=SLOTS))
def test_slots_within_their_bounds_are_read_as_they_were(slots):
    plaintext = sum(slot << (L * at) for at, slot in enumerate(slots)) % N
    assert unpack_signed(plaintext, BUDGET, N, SLOTS) == slots


@pytest.mark.parametrize("at", range(SLOTS))
@pytest.mark.parametrize("slot", [LOW - 1, HIGH + 1])
def test_a_slot_beyond_its_bounds_is_refused_by_number(at, slot):
    with pytest.raises(BudgetError, match=f"plaintext 0: slot {at} is"):
        read_slots([(slot << (L * at)) % N], SLOTS, BUDGET, N)


@given(st.integers(1, SLOTS), st.data())
def test_what_lies_above_the_columns_is_not_read(columns, data):
    slots = data.draw(st.lists(st.integers(LOW, HIGH), min_size=columns, max_size=columns))
    above = data.draw(st.integers(1, (N >> (L * columns)) - 2))
    plaintext = sum(slot << (L * at) for at, slot in enumerate([*slots, above]))
    assert read_slots([plaintext % N], columns, BUDGET, N) == slots


def test_each_column_refuses_every_other_number_that_a_wrong_key_decrypts_to():
    garbage = masks(4000, PUBLIC, RANDOMNESS.stream("garbage"))
    passed = 0
    for number in garbage:
        try:
            unpack_signed(number, BUDGET, N, SLOTS)
            passed += 1
        except BudgetError:
            pass
    expected = len(garbage) / 2**SLOTS
    assert abs(passed - expected) < 4 * expected**0.5


def test_columns_are_packed_row_by_row_lowest_slot_first():
    columns = 2 * SLOTS + 1
    features = np.arange(3 * columns, dtype=np.int16).reshape(3, columns) - 20
    features[0, 0], features[2, -1] = -32767, 32767
    plaintexts = pack_columns(features, BUDGET)
    assert len(plaintexts) == 3 * plaintexts_per_row(columns, BUDGET) == 9
    for row in range(3):
        slots = read_slots([plain % N for plain in plaintexts[3 * row : 3 * row + 3]], columns, BUDGET, N)
        assert slots == features[row].tolist()


def test_a_feature_beyond_16_bits_is_refused():
    for entry in (-32768, 32768):
        with pytest.raises(BudgetError, match="32767"):
            pack_columns(np.array([[entry]]), BUDGET)


def test_unsigned_digits_are_read_from_the_lowest():
    assert unpack_unsigned(0x0302FF, 8, 3) == [0xFF, 2, 3]
    with pytest.raises(BudgetError):
        unpack_unsigned(-1, 8, 3)


@pytest.mark.parametrize("key_bits", [512, 2048])
def test_two_shares_differ_by_the_residual_or_one_unit_more(key_bits):
    chance = random.Random(7)
    public = PUBLIC if key_bits == 512 else generate(2048, RANDOMNESS.stream("full")).public
    budget = bit_budget(2**17, key_bits, 2)
    rows, step, limit = 10_001, budget.rows_per_ciphertext, 1 << budget.residual_bits
    residuals = [chance.choice([limit, -limit, 0, chance.randint(-limit, limit)]) for _ in range(rows)]
    blocks = [residuals[at : at + step] for at in range(0, rows, step)]
    packed = [sum(r << (budget.row_slot * at) for at, r in enumerate(block)) for block in blocks]
    drawn = masks(len(packed), public, RANDOMNESS.stream("masks"))
    summed = [(plain + mask) % public.modulus for plain, mask in zip(packed, drawn, strict=True)]
    period = 1 << budget.share_bits
    for residual, one, other in zip(
        residuals, share_digits(summed, rows, budget), share_digits(drawn, rows, budget), strict=True
    ):
        assert 0 <= one < period
        assert (one - other - residual) % period in {0, 1, period - 1}


def test_shares_take_as_many_plaintexts_as_their_rows():
    with pytest.raises(BudgetError, match="plaintexts, not 1"):
        share_digits([0], BUDGET.rows_per_ciphertext + 1, BUDGET)
    assert share_digits([], 0, BUDGET) == []


def test_masks_are_below_the_modulus_and_never_the_same():
    drawn = masks(200, PUBLIC, RANDOMNESS.stream("m", 1))
    assert all(0 <= mask < N for mask in drawn)
    assert len(set(drawn)) == 200
    assert max(drawn) > N * 0.95
    assert drawn != masks(200, PUBLIC, RANDOMNESS.stream("m", 2))


def test_a_window_covers_every_column_within_its_bounds():
    noise = BUDGET.noise_bound(1 / 32)
    period = 1 << BUDGET.share_bits
    lows, highs = [], []
    for part in range(200):
        values = window(SLOTS, 1 / 32, part)
        assert len(values) == 1
        for slot in unpack_signed(values[0] % N, BUDGET, N, SLOTS):
            low = (slot + period // 2) % period - period // 2
            lows.append(low)
            highs.append((slot - low) >> BUDGET.share_bits)
    assert len(lows) == 200 * SLOTS
    assert all(-noise <= low <= noise for low in lows)
    assert min(lows) < -0.98 * noise < 0.98 * noise < max(lows)
    assert abs(sum(lows)) < 0.1 * noise * len(lows)
    assert all(0 <= high < 1 << BUDGET.high_bits for high in highs)
    assert max(highs) > 0.98 * (1 << BUDGET.high_bits)


@pytest.mark.parametrize("columns", range(1, SLOTS + 1))
def test_above_the_columns_a_window_is_uniform_up_to_the_modulus(columns):
    above = [window(columns, 1 / 32, part)[0] >> (L * columns) for part in range(400)]
    room = N >> (L * columns)
    assert all(0 <= number < room for number in above)
    assert max(above) > 0.98 * room > 50 * min(above)
    assert 0.45 < sum(above) / (len(above) * room) < 0.55
    # Every single bit is covered, not just the number as a whole.
    for bit in range(room.bit_length() - 2):
        assert 120 < sum(number >> bit & 1 for number in above) < 280


def test_a_key_that_the_slots_fill_to_the_last_bit_leaves_no_room_above():
    tight = replace(BUDGET, key_bits=L * SLOTS + 1)
    modulus = (1 << (L * SLOTS)) + 1
    noise = RANDOMNESS.stream("low")
    (found,) = window_values(SLOTS, tight, modulus, RANDOMNESS.stream("high"), noise, 1 / 32)
    period = 1 << BUDGET.share_bits
    for slot in read_slots([found % modulus], SLOTS, tight, modulus):
        assert min(slot % period, -slot % period) <= BUDGET.noise_bound(1 / 32)


def test_without_release_noise_only_the_high_part_is_left():
    for slot in unpack_signed(window(SLOTS, 0)[0] % N, BUDGET, N, SLOTS):
        assert slot % (1 << BUDGET.share_bits) == 0


def test_noise_and_window_come_from_their_own_streams():
    period = 1 << BUDGET.share_bits
    fixed = RANDOMNESS.stream
    one = window_values(SLOTS, BUDGET, N, fixed("a"), fixed("c"), 1 / 32)[0] % N
    other = window_values(SLOTS, BUDGET, N, fixed("b"), fixed("c"), 1 / 32)[0] % N
    found = (unpack_signed(number, BUDGET, N, SLOTS) for number in (one, other))
    for left, right in zip(*found, strict=True):
        assert left % period == right % period
        assert left != right


def test_the_noise_of_a_column_does_not_depend_on_how_many_follow():
    few, many = (window(columns, 1 / 32, "same")[0] for columns in (1, SLOTS))
    assert few % (1 << BUDGET.share_bits) == many % (1 << BUDGET.share_bits)


def cross_term(columns, release_noise, residuals, features):
    """Plain arithmetic of one cross term: the reply, and the receiver's own part."""
    period = 1 << BUDGET.share_bits
    chance = random.Random(3)
    theirs = [chance.randrange(period) for _ in residuals]
    mine = [(residual - share) % period for residual, share in zip(residuals, theirs, strict=True)]
    packed = pack_columns(features, BUDGET)
    width = plaintexts_per_row(columns, BUDGET)
    windows = window(columns, release_noise)
    reply = [
        sum(packed[row * width + at] * share for row, share in enumerate(theirs)) + windows[at] for at in range(width)
    ]
    own = [sum(int(x) * share for x, share in zip(features[:, at], mine, strict=True)) for at in range(columns)]
    return [plain % N for plain in reply], own


@pytest.mark.parametrize("columns", [1, SLOTS, SLOTS + 1])
@pytest.mark.parametrize("release_noise", [0, 1 / 32])
def test_a_windowed_reply_and_the_own_part_make_the_gradient(columns, release_noise):
    chance = np.random.default_rng(columns)
    limit = 1 << BUDGET.residual_bits
    features = chance.integers(-32767, 32768, (1000, columns))
    residuals = chance.integers(-limit, limit + 1, 1000).tolist()
    reply, own = cross_term(columns, release_noise, residuals, features)
    gradient = read_gradient(reply, columns, BUDGET, N, own)
    exact = [sum(int(x) * r for x, r in zip(features[:, at], residuals, strict=True)) for at in range(columns)]
    for entry, truth in zip(gradient, exact, strict=True):
        assert abs(entry - truth) <= BUDGET.noise_bound(release_noise)


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_sums_still_fit(sign):
    features = np.full((1000, SLOTS), sign * 32767)
    residuals = [1 << BUDGET.residual_bits] * 1000
    reply, own = cross_term(SLOTS, 1 / 32, residuals, features)
    gradient = read_gradient(reply, SLOTS, BUDGET, N, own)
    for entry in gradient:
        assert abs(entry - sign * BUDGET.gradient_bound) <= BUDGET.noise_bound(1 / 32)


def test_two_replies_make_a_gradient_for_a_party_without_a_share():
    chance = random.Random(5)
    period = 1 << BUDGET.share_bits
    share = chance.randrange(period)
    first, second = share, (77 - share) % period
    own = read_slots([second], 1, BUDGET, N)
    assert read_gradient([first], 1, BUDGET, N, own, release_noise=0) == [77]


def test_a_gradient_beyond_its_bound_is_refused_by_slot():
    limit = BUDGET.gradient_bound
    assert read_gradient([0], 2, BUDGET, N, [limit, -limit], release_noise=0) == [limit, -limit]
    with pytest.raises(BudgetError, match="slot 1: the gradient"):
        read_gradient([0], 2, BUDGET, N, [limit, limit + 1], release_noise=0)


def test_lengths_that_do_not_agree_are_refused():
    with pytest.raises(BudgetError, match="take 1 plaintexts"):
        read_slots([0, 0], SLOTS, BUDGET, N)
    with pytest.raises(BudgetError, match="own part has 1"):
        read_gradient([0], 2, BUDGET, N, [0])


def test_a_hidden_column_tells_nothing_and_the_others_what_they_did():
    period, told = 1 << BUDGET.share_bits, []
    for number in range(200):
        plain = window(SLOTS, 0.0, number)
        streams = RANDOMNESS.stream("high", number), RANDOMNESS.stream("low", number)
        hiding = window_values(SLOTS, BUDGET, N, *streams, 0.0, hidden={1})
        slots = read_slots([value % N for value in hiding], SLOTS, BUDGET, N)
        told.append(slots[1] % period)
        seen = read_slots([value % N for value in plain], SLOTS, BUDGET, N)
        assert [slot % period for at, slot in enumerate(slots) if at != 1] == [0] * (SLOTS - 1)
        assert [slot % period for slot in seen] == [0] * SLOTS
        own = [5] * SLOTS
        gradient = read_gradient([value % N for value in hiding], SLOTS, BUDGET, N, own, release_noise=0.0, hidden={1})
        assert gradient == [0 if at == 1 else 5 for at in range(SLOTS)]
    quarters = np.bincount([value * 4 // period for value in told], minlength=4)
    assert quarters.min() > 25
