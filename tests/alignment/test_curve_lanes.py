"""Curve25519 in the kernel: the published vectors, and every edge in every lane, on every path."""

import random

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from gmpy2 import mpz
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment import curve, lanes
from kernel import library
from tests.alignment.test_curve import RFC_9380

pytestmark = pytest.mark.kernel

P = 2**255 - 19
ORDER_8 = (
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
LOW_ORDER = (0, 1, P - 1, *ORDER_8)
EDGES = (
    *LOW_ORDER, 2, 9, P - 2, P, P + 1, 2**255 - 1, *range(P, 2**255), 2**254, 2**254 - 1,
    2**51 - 1, 2**51, 2**52 - 1, 2**52, 2**104 - 1, 2**156 - 1, 2**208 - 1, 2**208, (2**47 - 1) << 208,
    2**255 - 2**208, 2**255 - 2**52, sum(1 << (52 * limb) for limb in range(5)), 486662, P - 486662,
)  # fmt: skip


@pytest.fixture(params=library.paths())
def kernel(request):
    with library.using(request.param):
        yield library.load()


def points_of(numbers):
    return np.frombuffer(b"".join(number.to_bytes(32, "little") for number in numbers), dtype=np.uint8).reshape(-1, 32)


def oracle(point, scalar):
    """`cryptography` has no result for low order; RFC 7748 says what it is."""
    try:
        return X25519PrivateKey.from_private_bytes(scalar).exchange(X25519PublicKey.from_public_bytes(point))
    except ValueError:
        return bytes(32)


def assert_products(kernel, points, scalar):
    expected = [oracle(point.tobytes(), scalar) for point in points]
    assert [point.tobytes() for point in lanes.multiply(kernel, points, scalar)] == expected


def reference_map(elements):
    return curve._to_bytes(curve._clear_cofactor([curve._elligator(mpz(element)) for element in elements]))


@pytest.mark.parametrize(
    ("scalar", "point", "product"),
    [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
)
def test_products_are_those_of_rfc_7748_section_5_2(kernel, scalar, point, product):
    points = np.frombuffer(bytes.fromhex(point), dtype=np.uint8).reshape(1, 32)
    assert lanes.multiply(kernel, points, bytes.fromhex(scalar)).tobytes().hex() == product


def test_a_thousand_iterations_end_where_rfc_7748_section_5_2_says(kernel):
    scalar = point = bytes([9]) + bytes(31)
    after = {1: "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"}
    after[1000] = "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"
    for turn in range(1, 1001):
        product = lanes.multiply(kernel, np.frombuffer(point, dtype=np.uint8).reshape(1, 32), scalar).tobytes()
        scalar, point = product, scalar
        if turn in after:
            assert product.hex() == after[turn]


@pytest.mark.parametrize("edge", EDGES)
def test_every_edge_point_is_multiplied_rightly_in_every_lane(kernel, edge):
    chance = random.Random(edge)
    ordinary = [chance.randrange(2**255) for _ in range(8)]
    for lane in range(8):
        numbers = [*ordinary[:lane], edge, *ordinary[lane + 1 :]]
        assert_products(kernel, points_of(numbers), chance.randbytes(32))


@pytest.mark.parametrize("scalar", [bytes(32), b"\xff" * 32, bytes([8, *[0] * 30, 64]), bytes([0xF8, *[0xFF] * 31])])
def test_every_edge_point_is_multiplied_rightly_by_edge_scalars(kernel, scalar):
    assert_products(kernel, points_of(EDGES), scalar)


def test_the_top_bit_of_a_point_is_ignored_as_rfc_7748_asks(kernel):
    points = points_of([number | 1 << 255 for number in (9, P - 2, 2**254)])
    assert_products(kernel, points, bytes(range(32)))


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 255, 256, 257, 300])
def test_any_number_of_points_is_multiplied(kernel, count):
    chance = random.Random(count)
    assert_products(kernel, points_of([chance.randrange(2**255) for _ in range(count)]), chance.randbytes(32))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2**255 - 1), max_size=17), st.binary(min_size=32, max_size=32))
def test_products_agree_with_cryptography_on_any_points(numbers, scalar):
    for path in library.paths():
        with library.using(path):
            assert_products(library.load(), points_of(numbers), scalar)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, P - 1), min_size=1, max_size=17), st.binary(min_size=64, max_size=64))
def test_masks_commute(numbers, scalars):
    for path in library.paths():
        with library.using(path):
            kernel, points = library.load(), points_of(numbers)
            one, other = scalars[:32], scalars[32:]
            first = lanes.multiply(kernel, lanes.multiply(kernel, points, one), other)
            assert (first == lanes.multiply(kernel, lanes.multiply(kernel, points, other), one)).all()


@pytest.mark.parametrize("edge", [edge for edge in EDGES if edge < P])
def test_every_edge_element_is_mapped_rightly_in_every_lane(kernel, edge):
    chance = random.Random(edge)
    for lane in range(8):
        elements = [chance.randrange(P) for _ in range(8)]
        elements[lane] = edge
        assert (lanes.elligator2(kernel, [mpz(element) for element in elements]) == reference_map(elements)).all()


def test_the_map_gives_the_vectors_of_rfc_9380_in_every_lane(kernel):
    for turn in range(8):
        vectors = [RFC_9380[(lane + turn) % len(RFC_9380)] for lane in range(8)]
        points = lanes.elligator2(kernel, [mpz(int(u, 16)) for _, u, _ in vectors])
        assert [point.tobytes()[::-1].hex() for point in points] == [x for _, _, x in vectors]


@pytest.mark.parametrize("count", [0, 1, 8, 9, 31, 257])
def test_any_number_of_elements_is_mapped(kernel, count):
    chance = random.Random(count)
    elements = [chance.randrange(P) for _ in range(count)]
    assert (lanes.elligator2(kernel, [mpz(element) for element in elements]) == reference_map(elements)).all()


def test_identifiers_and_masks_are_the_same_bytes_with_the_kernel_and_without():
    items, scalar = [f"person {number}".encode() for number in range(100)], bytes(range(32))
    with library.using(None):
        mapped = curve.map_many(items)
        masked = curve.mask_many(mapped, scalar)
    for path in library.paths():
        with library.using(path):
            assert (curve.map_many(items) == mapped).all()
            assert (curve.mask_many(mapped, scalar) == masked).all()


@pytest.mark.parametrize("path", [None, *library.paths()])
@pytest.mark.parametrize("edge", LOW_ORDER)
def test_a_point_of_low_order_is_named_by_its_place(path, edge):
    with library.using(path), pytest.raises(curve.PointError, match="point 9 has low order") as refused:
        curve.mask_many(points_of([9, 2, 3, 9, 2, 3, 9, 2, 3, edge, edge]), bytes(range(32)))
    assert refused.value.index == 9
