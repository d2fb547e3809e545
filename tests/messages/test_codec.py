"""The codec: what it writes it reads, and it reads nothing else."""

from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from messages import schemas
from messages.codec import BYTES_MAX, MESSAGES, TYPES, CodecError, decode, encode, kind_of
from messages.schemas import BULK, UNSEQUENCED, Message

FINITE = st.floats(min_value=-1e300, max_value=1e300, allow_nan=False)
COUNT = st.integers(min_value=0, max_value=2**48)
DIGEST = st.binary(min_size=32, max_size=32)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "iteration": st.integers(min_value=1, max_value=100_000),
    "bound": FINITE.map(abs),
    "spread": FINITE.map(abs),
    "stretch": FINITE.map(abs),
    "largest": FINITE.map(abs),
    "products": st.lists(FINITE, max_size=20),
    "codes": st.lists(st.integers(min_value=0, max_value=2**31 - 1), max_size=20),
    "terms": st.integers(min_value=0, max_value=256),
    "slot_bits": st.integers(min_value=1, max_value=4096),
    "columns_per_ciphertext": st.integers(min_value=1, max_value=4096),
    "chunk_items": st.integers(min_value=1, max_value=65_536),
    "reason_code": st.from_regex(r"\A[a-z0-9_]{1,64}\Z"),
    "suite": st.text(max_size=40),
    "software_version": st.text(max_size=40),
    "backend": st.text(max_size=40),
    "reason": st.text(max_size=200),
    "converged": st.booleans(),
    "acceptable": st.booleans(),
    **dict.fromkeys(("contract", "modulus", "proof", "points", "tokens", "ciphertexts"), st.binary(max_size=300)),
}


def value_of(kind: type[Message], field: str) -> st.SearchStrategy[Any]:
    """Values that the field's schema allows."""
    if field in VALUES:
        return VALUES[field]
    annotation = str(kind.__annotations__[field])
    return DIGEST if "min_length=32" in annotation else COUNT


def messages_of(kind: type[Message]) -> st.SearchStrategy[Message]:
    """Any message of one type."""
    return st.builds(kind, **{field: value_of(kind, field) for field in kind.__struct_fields__})


ANY_MESSAGE = st.one_of([messages_of(kind) for kind in MESSAGES])


def plain(message: Message) -> dict[str, Any]:
    """The message as a map."""
    fields: dict[str, Any] = msgpack.unpackb(encode(message))
    return fields


def code_of(data: bytes, **options: int) -> str:
    """The code with which bytes are refused."""
    with pytest.raises(CodecError) as caught:
        decode(data, **options)
    return caught.value.code


@given(ANY_MESSAGE)
def test_every_message_survives_its_bytes(message: Message) -> None:
    assert decode(encode(message)) == message


@given(ANY_MESSAGE, st.data())
def test_a_cut_or_lengthened_message_is_refused(message: Message, data: st.DataObject) -> None:
    encoded = encode(message)
    cut = data.draw(st.integers(min_value=0, max_value=len(encoded) - 1))
    assert code_of(encoded[:cut])
    assert code_of(encoded + b"\x00") == "malformed"


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_with_a_code_and_nothing_worse(data: bytes) -> None:
    assert code_of(data) in {"malformed", "unknown_type", "invalid_field", "too_deep"}


@given(ANY_MESSAGE)
def test_an_unknown_or_missing_field_is_refused(message: Message) -> None:
    fields = plain(message)
    assert code_of(msgpack.packb({**fields, "surprise": 1})) == "invalid_field"
    for field in message.__struct_fields__:
        rest = {name: value for name, value in fields.items() if name != field}
        assert code_of(msgpack.packb(rest)) == "invalid_field"


@given(ANY_MESSAGE)
def test_another_spelling_of_the_same_message_is_refused(message: Message) -> None:
    fields = plain(message)
    doubled = bytearray(msgpack.packb(fields))
    doubled[0:1] = b"\xde\x00" + bytes([len(fields)])  # map 16 where map fix would do
    assert code_of(bytes(doubled)) == "malformed"


@pytest.mark.parametrize("value", ["3", 3.0, True, None, -1, 2**60, [3]])
def test_a_value_of_another_type_is_never_converted(value: object) -> None:
    assert code_of(msgpack.packb({"type": "receipt.v1", "applied": value, "credit": 0})) == "invalid_field"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_no_number_that_is_none_gets_in_or_out(value: float) -> None:
    fields = {"type": "step.products.v1", "iteration": 1, "products": [value], "largest": 0.0}
    assert code_of(msgpack.packb(fields)) == "invalid_field"
    with pytest.raises(CodecError):
        encode(schemas.StepProducts(iteration=1, products=[value], largest=0.0))


def test_an_unknown_tag_is_refused() -> None:
    assert code_of(msgpack.packb({"type": "receipt.v2", "applied": 1, "credit": 1})) == "unknown_type"


def test_what_is_too_large_is_refused_before_it_is_read() -> None:
    assert code_of(b"\x00" * (BYTES_MAX + 1)) == "oversized"
    assert code_of(encode(schemas.Receipt(applied=1, credit=1)), bytes_max=5) == "oversized"


def test_what_is_nested_too_deep_is_refused() -> None:
    deep: object = 1
    for _ in range(12):
        deep = [deep]
    assert code_of(msgpack.packb({"type": "receipt.v1", "applied": deep, "credit": 1})) == "too_deep"


def test_our_bytes_are_those_of_msgspec_so_the_fast_path_stays_open() -> None:
    message = schemas.LinkTerms(
        iteration=3, first_row=0, rows=2, terms=6, bound=2.0, stretch=3.0, ciphertexts=b"\x01" * 2000
    )
    assert encode(message) == msgspec.msgpack.encode(message)


def test_every_message_has_a_version_a_docstring_and_a_class_of_traffic() -> None:
    for tag, kind in TYPES.items():
        assert tag == f"{kind_of(kind)}.v1"
        assert kind.__doc__
    kinds = {kind_of(kind) for kind in MESSAGES}
    assert kinds >= BULK | UNSEQUENCED
    assert len(kinds) == len(MESSAGES)
