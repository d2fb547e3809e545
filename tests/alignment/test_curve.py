"""Points: the RFCs' vectors, and every coordinate that must not get through, alone and inside a chunk."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alignment import curve

P = 2**255 - 19
A = 486662
RFC_DOMAIN = b"QUUX-V01-CS02-with-curve25519_XMD:SHA-512_ELL2_NU_"

# RFC 9380, appendix J.4.2: message, u[0], P.x.
RFC_9380 = [
    (
        b"",
        "608d892b641f0328523802a6603427c26e55e6f27e71a91a478148d45b5093cd",
        "1bb913f0c9daefa0b3375378ffa534bda5526c97391952a7789eb976edfe4d08",
    ),
    (
        b"abc",
        "46f5b22494bfeaa7f232cc8d054be68561af50230234d7d1d63d1d9abeca8da5",
        "7c22950b7d900fa866334262fcaea47a441a578df43b894b4625c9b450f9a026",
    ),
    (
        b"abcdef0123456789",
        "235fe40c443766ce7e18111c33862d66c3b33267efa50d50f9e8e5d252a40aaa",
        "31ad08a8b0deeb2a4d8b0206ca25f567ab4e042746f792f4b7973f3ae2096c52",
    ),
    (
        b"q128_" + b"q" * 128,
        "001e92a544463bda9bd04ddbe3d6eed248f82de32f522669efc5ddce95f46f5b",
        "027877759d155b1997d0d84683a313eb78bdb493271d935b622900459d52ceaa",
    ),
    (
        b"a512_" + b"a" * 512,
        "1a68a1af9f663592291af987203393f707305c7bac9c8d63d6a729bdc553dc19",
        "5fd892c0958d1a75f54c3182a18d286efab784e774d1e017ba2fb252998b5dc1",
    ),
]

# RFC 7748, section 5.2: scalar, u, product. The RFC sets the top bit of the second u and ignores it.
RFC_7748 = [
    (
        "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
        "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
        "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
    ),
    (
        "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
        "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a413",
        "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
    ),
]

LOW_ORDER = {
    "0": bytes(32),
    "1": (1).to_bytes(32, "little"),
    "p-1": (P - 1).to_bytes(32, "little"),
    "order 8": bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    "order 8, the other": bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
}
NOT_CANONICAL = {
    "p": P.to_bytes(32, "little"),
    "p+1": (P + 1).to_bytes(32, "little"),
    "p+18": (2**255 - 1).to_bytes(32, "little"),
    "all ones": b"\xff" * 32,
    "top bit": (2**255 + 9).to_bytes(32, "little"),
    "top bit alone": (2**255).to_bytes(32, "little"),
    "2p-1": (2 * P - 1).to_bytes(32, "little"),
}
SCALAR = bytes(range(1, 33))


def points_of(*parts):
    return np.frombuffer(b"".join(parts), dtype=np.uint8).reshape(-1, 32)


def reference_map(element):
    """RFC 9380 section 6.7.1 as written, with Python integers; then three affine doublings."""
    x1 = -A * pow(1 + 2 * element * element, -1, P) % P
    if x1 == 0:
        x1 = -A % P
    square = x1 * (x1 * x1 + A * x1 + 1) % P
    x = x1 if pow(square, (P - 1) // 2, P) in (0, 1) else (-x1 - A) % P
    for _ in range(3):
        below = 4 * x * (x * x + A * x + 1) % P
        x = (x * x - 1) ** 2 * pow(below, -1, P) % P if below else 0
    return x


@pytest.mark.parametrize(("message", "u", "x"), RFC_9380, ids=lambda value: value[:16])
def test_the_map_gives_the_vectors_of_rfc_9380(message, u, x):
    (element,) = curve.hash_to_field([message], RFC_DOMAIN)
    assert int(element) == int(u, 16)
    assert curve.map_many([message], domain=RFC_DOMAIN)[0].tobytes()[::-1].hex() == x


def test_a_whole_chunk_gives_the_vectors_in_order():
    messages = [message for message, _, _ in RFC_9380]
    points = curve.map_many(messages * 3, domain=RFC_DOMAIN)
    assert [point.tobytes()[::-1].hex() for point in points] == [x for _, _, x in RFC_9380] * 3


@given(st.integers(0, P - 1))
@example(0)
@example(1)
@example(P - 1)
@example(P // 2)
@settings(max_examples=60, deadline=None)
def test_the_map_without_inversions_equals_the_rfc_as_written(element):
    fractions = curve._clear_cofactor([curve._elligator(curve.mpz(element))] * 2)
    first, second = curve._to_bytes(fractions)
    assert int.from_bytes(first.tobytes(), "little") == reference_map(element)
    assert first.tobytes() == second.tobytes()


def test_field_element_zero_maps_to_the_point_of_order_two_and_spoils_no_neighbour():
    # e = 0 gives u = 0 or -A; either way the inversion shared by the chunk must survive it.
    mapped = [curve._elligator(curve.mpz(element)) for element in (7, 0, 8)]
    points = curve._to_bytes(curve._clear_cofactor(mapped))
    assert [int.from_bytes(point.tobytes(), "little") for point in points] == [
        reference_map(element) for element in (7, 0, 8)
    ]


@given(st.lists(st.binary(max_size=200), max_size=20))
@settings(max_examples=30, deadline=None)
def test_mapped_points_lie_on_the_curve_and_not_on_its_twist(items):
    for point in curve.map_many(items):
        u = int.from_bytes(point.tobytes(), "little")
        assert pow(u * (u * u + A * u + 1), (P - 1) // 2, P) == 1


@pytest.mark.parametrize(("scalar", "u", "product"), RFC_7748)
def test_the_mask_gives_the_vectors_of_rfc_7748(scalar, u, product):
    masked = curve.mask_many(points_of(bytes.fromhex(u)), bytes.fromhex(scalar))
    assert masked.tobytes().hex() == product


def test_the_mask_repeated_a_thousand_times_gives_the_vector_of_rfc_7748():
    scalar = point = (9).to_bytes(32, "little")
    for _ in range(1000):
        scalar, point = curve.mask_many(points_of(point), scalar).tobytes(), scalar
    assert scalar.hex() == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"


@pytest.mark.parametrize("name", [*LOW_ORDER, *NOT_CANONICAL])
def test_a_bad_point_alone_is_refused(name):
    bad = {**LOW_ORDER, **NOT_CANONICAL}[name]
    with pytest.raises(curve.PointError) as refused:
        curve.mask_many(points_of(bad), SCALAR)
    assert refused.value.index == 0
    expected = "has low order" if name in LOW_ORDER else "is not canonical: u >= 2^255 - 19"
    assert refused.value.reason == expected


@pytest.mark.parametrize("name", [*LOW_ORDER, *NOT_CANONICAL])
@pytest.mark.parametrize("place", [0, 3, 6])
def test_a_bad_point_inside_a_chunk_is_named_by_its_place(name, place):
    bad = {**LOW_ORDER, **NOT_CANONICAL}[name]
    good = [point.tobytes() for point in curve.map_many([b"%d" % row for row in range(6)])]
    good.insert(place, bad)
    with pytest.raises(curve.PointError, match=f"point {place} ") as refused:
        curve.mask_many(points_of(*good), SCALAR)
    assert refused.value.index == place


def test_the_first_of_several_bad_points_is_the_one_named():
    chunk = points_of(curve.map_many([b"x"]).tobytes(), NOT_CANONICAL["p"], NOT_CANONICAL["all ones"])
    with pytest.raises(curve.PointError, match="point 1 "):
        curve.check_canonical(chunk)


@given(st.lists(st.one_of(st.integers(P - 3, P + 3), st.integers(0, 2**256 - 1)), max_size=12))
@example([P - 1, P - 2])
@example([P - 256, P - 20, 2**255 - 2**248 - 1])
def test_a_chunk_is_canonical_exactly_if_all_its_coordinates_are_below_p(coordinates):
    chunk = points_of(*(u.to_bytes(32, "little") for u in coordinates))
    bad = [index for index, u in enumerate(coordinates) if u >= P]
    if not bad:
        curve.check_canonical(chunk)
        return
    with pytest.raises(curve.PointError) as refused:
        curve.check_canonical(chunk)
    assert refused.value.index == bad[0]


@pytest.mark.parametrize("shape", [(31,), (2, 31), (2, 33), (1, 2, 32)])
def test_an_array_of_another_shape_is_a_programming_error(shape):
    with pytest.raises(ValueError, match="shape"):
        curve.mask_many(np.zeros(shape, dtype=np.uint8), SCALAR)


def test_masks_commute_so_both_parties_get_the_same_points():
    points = curve.map_many([b"a", b"b", b"c"])
    other = bytes(range(32, 64))
    one = curve.mask_many(curve.mask_many(points, SCALAR), other)
    two = curve.mask_many(curve.mask_many(points, other), SCALAR)
    assert one.tobytes() == two.tobytes() != points.tobytes()


def test_the_mask_equals_a_key_exchange_done_by_the_library():
    point = curve.map_many([b"someone"])
    public = curve.X25519PublicKey.from_public_bytes(point.tobytes())
    expected = X25519PrivateKey.from_private_bytes(SCALAR).exchange(public)
    assert curve.mask_many(point, SCALAR).tobytes() == expected


def test_nothing_maps_and_masks_to_nothing():
    assert curve.map_many([]).shape == (0, 32)
    assert curve.mask_many(curve.map_many([]), SCALAR).shape == (0, 32)


def test_each_scalar_depends_on_everything_and_comes_back_after_a_crash():
    base = {
        "master": b"m" * 32,
        "job": "job-1",
        "peer": "bank",
        "role": "provider",
        "snapshot_digest": b"d" * 32,
    }
    changes = {
        "master": b"n" * 32,
        "job": "job-2",
        "peer": "bank2",
        "role": "business",
        "snapshot_digest": b"e" * 32,
    }
    scalars = [curve.derive_scalar(**base), *(curve.derive_scalar(**{**base, key: changes[key]}) for key in changes)]
    assert len(set(scalars)) == 6
    assert {len(scalar) for scalar in scalars} == {32}
    assert curve.derive_scalar(**base) == scalars[0]


def test_moving_a_letter_between_job_and_peer_changes_the_scalar():
    one = curve.derive_scalar(b"m" * 32, "job-a", "b", "business", b"")
    two = curve.derive_scalar(b"m" * 32, "job-", "ab", "business", b"")
    assert one != two


def test_a_short_master_secret_is_refused_without_being_shown():
    with pytest.raises(ValueError, match="31 bytes") as refused:
        curve.derive_scalar(b"secret" * 5 + b"s", "job", "peer", "business", bytes(32))
    assert "secretsecret" not in str(refused.value)


@pytest.mark.parametrize("domain", [b"", b"x" * 256])
def test_a_domain_tag_of_no_or_too_many_bytes_is_refused(domain):
    with pytest.raises(ValueError, match="domain"):
        curve.map_many([b"a"], domain=domain)
