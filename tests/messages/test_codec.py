"""The codec: what it writes it reads, and it reads nothing else."""

from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import inspect

from messages import schemas, unsequenced
from messages.codec import BYTES_MAX, DEPTH_MAX, ITEMS_MAX, MESSAGES, CodecError, decode, encode, kind_of, pack, unpack
from messages.schemas import Message

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=40) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | st.binary(max_size=9), inner, max_size=4),
    max_leaves=20,
)


def values_of(field: inspect.Type) -> st.SearchStrategy[Any]:
    """Values that a field's schema allows, its limits included."""
    match field:
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            return st.integers(min_value=field.ge, max_value=field.le)
        case inspect.FloatType():
            return st.floats(min_value=field.ge, max_value=field.le, allow_nan=False)
        case inspect.BytesType():
            return st.binary(min_size=field.min_length or 0, max_size=min(300, field.max_length or 300))
        case inspect.StrType(pattern=str(pattern)):
            return st.from_regex(pattern)
        case inspect.StrType():
            return TEXT
        case inspect.ListType():
            return st.lists(values_of(field.item_type), max_size=20)
    raise TypeError(field)


def messages_of(kind: type[Message]) -> st.SearchStrategy[Message]:
    """Any message of one type."""
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    return st.builds(kind, **{field.name: values_of(field.type) for field in described.fields})


ANY_MESSAGE = st.one_of([messages_of(kind) for kind in MESSAGES])


def plain(message: Message) -> dict[str, Any]:
    """The message as a map."""
    fields: dict[str, Any] = msgpack.unpackb(encode(message))
    return fields


def refused(data: bytes, **options: int) -> CodecError:
    """The error with which bytes are refused."""
    with pytest.raises(CodecError) as caught:
        decode(data, **options)
    return caught.value


def code_of(data: bytes, **options: int) -> str:
    """The code with which bytes are refused."""
    return refused(data, **options).code


def nested(levels: int, *, maps: bool) -> object:
    """A value inside `levels` maps or lists."""
    value: object = 1
    for _ in range(levels):
        value = {"a": value} if maps else [value]
    return value


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_every_message_survives_its_bytes(kind: type[Message], data: st.DataObject) -> None:
    message = data.draw(messages_of(kind))
    encoded = encode(message)
    again = decode(encoded)
    assert again == message
    assert type(again) is kind
    assert encode(again) == encoded


@given(ANY_MESSAGE)
def test_our_bytes_are_those_of_msgspec_so_the_fast_path_stays_open(message: Message) -> None:
    assert encode(message) == msgspec.msgpack.encode(message)


@given(ANY_MESSAGE, st.data())
def test_a_cut_or_lengthened_message_is_malformed(message: Message, data: st.DataObject) -> None:
    encoded = encode(message)
    cut = data.draw(st.integers(min_value=0, max_value=len(encoded) - 1))
    more = data.draw(st.binary(min_size=1, max_size=5))
    assert code_of(encoded[:cut]) == "malformed"
    assert code_of(encoded + more) == "malformed"


@given(ANY_MESSAGE, st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_changed_bytes_are_refused_or_are_exactly_another_message(message: Message, at: int, change: int) -> None:
    data = bytearray(encode(message))
    data[at % len(data)] ^= change
    try:
        other = decode(bytes(data))
    except CodecError:
        return
    assert other != message
    assert encode(other) == data


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_with_a_code_and_nothing_worse(data: bytes) -> None:
    assert code_of(data) in {"malformed", "unknown_type", "invalid_field", "too_deep"}


@given(PLAIN, st.sampled_from(MESSAGES), st.data())
def test_any_value_in_any_place_is_refused_with_a_code_and_nothing_worse(
    value: object, kind: type[Message], data: st.DataObject
) -> None:
    assert code_of(msgpack.packb(value))
    assert code_of(msgpack.packb({"type": value})) in {"malformed", "unknown_type", "too_deep"}
    message = data.draw(messages_of(kind))
    encoded = msgpack.packb({**plain(message), data.draw(st.sampled_from(kind.__struct_fields__)): value})
    try:
        assert encode(decode(encoded)) == encoded
    except CodecError as error:
        assert error.code in {"malformed", "invalid_field", "too_deep"}


@given(ANY_MESSAGE)
def test_an_unknown_or_missing_field_is_refused(message: Message) -> None:
    fields = plain(message)
    assert code_of(msgpack.packb({**fields, "surprise": 1})) == "invalid_field"
    later = message.__struct_defaults__  # what is left out of the bytes where it says nothing
    for field in message.__struct_fields__[: len(message.__struct_fields__) - len(later)]:
        rest = {name: value for name, value in fields.items() if name != field}
        assert code_of(msgpack.packb(rest)) == "invalid_field"


@given(ANY_MESSAGE, st.randoms(use_true_random=False))
def test_fields_in_another_order_are_a_second_spelling_and_refused(message: Message, random: Any) -> None:
    fields = list(plain(message).items())
    shuffled = random.sample(fields, len(fields))
    if shuffled != fields:
        assert code_of(msgpack.packb(dict(shuffled))) == "malformed"


@pytest.mark.parametrize(
    "spelling",
    [
        b"\xde\x00\x03\xa4type\xaareceipt.v1\xa7applied\x01\xa6credit\x02",  # map 16 where fixmap would do
        b"\x83\xd9\x04type\xaareceipt.v1\xa7applied\x01\xa6credit\x02",  # str 8 where fixstr would do
        b"\x83\xa4type\xaareceipt.v1\xa7applied\xcc\x01\xa6credit\x02",  # uint 8 where fixint would do
        b"\x83\xa4type\xaareceipt.v1\xa7applied\xd0\x01\xa6credit\x02",  # int 8, signed
        b"\x84\xa4type\xaareceipt.v1\xa7applied\x01\xa7applied\x01\xa6credit\x02",  # a field twice
    ],
)
def test_a_longer_spelling_of_the_same_message_is_refused(spelling: bytes) -> None:
    shortest = b"\x83\xa4type\xaareceipt.v1\xa7applied\x01\xa6credit\x02"
    assert decode(shortest) == unsequenced.Receipt(applied=1, credit=2)
    assert code_of(spelling) == "malformed"
    with pytest.raises(CodecError) as caught:
        unpack(spelling)
    assert caught.value.code == "malformed"


@pytest.mark.parametrize("largest", [0, 1, msgpack.Timestamp(0, 0)])
def test_a_number_that_is_no_float_64_is_refused_where_one_is_meant(largest: object) -> None:
    fields = {"type": "step.products.v1", "iteration": 1, "products": [], "largest": largest}
    assert code_of(msgpack.packb(fields)) == "malformed"
    single = msgpack.packb({**fields, "largest": 0.5}, use_single_float=True)
    assert code_of(single) == "malformed"


def test_an_integer_in_a_field_of_floats_leaves_as_the_float_that_it_is() -> None:
    message = schemas.StepProducts(iteration=1, products=[0, 1], largest=0)
    as_floats = schemas.StepProducts(iteration=1, products=[0.0, 1.0], largest=0.0)
    assert encode(message) == encode(as_floats)
    assert decode(encode(message)) == message


@pytest.mark.parametrize("value", ["3", 3.0, True, None, -1, 2**60, [3], {}, b"3"])
def test_a_value_of_another_type_is_never_converted(value: object) -> None:
    assert code_of(msgpack.packb({"type": "receipt.v1", "applied": value, "credit": 0})) == "invalid_field"


@pytest.mark.parametrize("value", ["AAAA", "", [1, 2], None, 7])
def test_text_is_never_taken_for_bytes(value: object) -> None:
    assert code_of(msgpack.packb({"type": "align.list.v1", "points": value})) == "invalid_field"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_no_number_that_is_none_gets_in_or_out(value: float) -> None:
    fields = {"type": "step.products.v1", "iteration": 1, "products": [value], "largest": 0.0}
    assert code_of(msgpack.packb(fields)) == "invalid_field"
    assert code_of(msgpack.packb({**fields, "products": [], "largest": value})) == "invalid_field"
    with pytest.raises(CodecError):
        encode(schemas.StepProducts(iteration=1, products=[value], largest=0.0))


@pytest.mark.parametrize(
    "message",
    [
        unsequenced.Receipt(applied=2**70, credit=1),
        unsequenced.Receipt(applied=-1, credit=1),
        unsequenced.Receipt(applied=object(), credit=1),  # type: ignore[arg-type]
        unsequenced.Receipt(applied=1.0, credit=1),  # type: ignore[arg-type]
        schemas.JobCancel(reason="a file name: \udcff"),
        schemas.JobCancel(reason="x" * 2001),
        schemas.JobFailed(reason_code="a code\n", reason=""),
        schemas.AlignList(points="0" * 32),  # type: ignore[arg-type]
    ],
)
def test_what_breaks_its_own_schema_never_leaves(message: Message) -> None:
    with pytest.raises(CodecError) as caught:
        encode(message)
    assert caught.value.code == "invalid_field"
    assert str(caught.value).startswith(kind_of(message))


@given(st.integers(min_value=2**64, max_value=2**4096))
@example(2**64)
def test_big_integers_travel_as_bytes_and_in_no_other_way(modulus: int) -> None:
    raw = modulus.to_bytes(-(-modulus.bit_length() // 8), "big")
    message = schemas.FeaturesCodes(codes=[], modulus=raw, proof=b"", slot_bits=1, columns_per_ciphertext=1)
    again = decode(encode(message))
    assert isinstance(again, schemas.FeaturesCodes)
    assert int.from_bytes(again.modulus, "big") == modulus
    with pytest.raises(OverflowError):
        pack(modulus)


@pytest.mark.parametrize("tag", ["receipt.v2", "receipt", "receipt.v1 ", "", 1, None, [], {}, b"receipt.v1", ["x"]])
def test_an_unknown_tag_is_refused_whatever_its_type(tag: object) -> None:
    assert code_of(msgpack.packb({"type": tag, "applied": 1, "credit": 1})) == "unknown_type"
    assert code_of(msgpack.packb({"applied": 1, "credit": 1})) == "unknown_type"


def test_what_is_too_large_is_refused_before_it_is_read() -> None:
    assert code_of(b"\x00" * (BYTES_MAX + 1)) == "oversized"
    encoded = encode(unsequenced.Receipt(applied=1, credit=1))
    assert decode(encoded, bytes_max=len(encoded))
    assert code_of(encoded, bytes_max=len(encoded) - 1) == "oversized"
    with pytest.raises(CodecError) as caught:
        encode(schemas.AlignList(points=bytes(2**21)))
    assert caught.value.code == "oversized"


@pytest.mark.parametrize("maps", [True, False])
def test_what_is_nested_deeper_than_the_limit_is_refused(maps: bool) -> None:
    assert unpack(pack(nested(DEPTH_MAX, maps=maps)))
    for levels in (DEPTH_MAX + 1, 500):
        with pytest.raises(CodecError) as caught:
            unpack(pack(nested(levels, maps=maps)))
        assert caught.value.code == "too_deep"
    assert code_of(b"\x91" * 100_000 + b"\x01") == "too_deep"
    deep = nested(DEPTH_MAX, maps=maps)
    assert code_of(msgpack.packb({"type": "receipt.v1", "applied": deep, "credit": 1})) == "too_deep"


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd\xff\xff\xff\xff",  # a list that says it has 4 milliard items
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xdd" + (ITEMS_MAX + 1).to_bytes(4, "big") + bytes(ITEMS_MAX + 1),
        b"\xc7\x00\x01",  # extension types, empty and not
        b"\xd4\x01\x00",
        b"\xd6\xff\x00\x00\x00\x01",  # a timestamp
        b"\xc1",  # never used
        b"\xa2\xc3\x28",  # not UTF-8
        b"\x81\x01\x02",  # a key that is a number
        b"",
    ],
)
def test_bytes_that_lie_or_say_what_we_never_say_are_malformed(data: bytes) -> None:
    assert code_of(data) == "malformed"
    with pytest.raises(CodecError) as caught:
        unpack(data)
    assert caught.value.code == "malformed"


@pytest.mark.parametrize("data", [b"\x90", b"\x91\x01", b"\x81\xa1a\x90", b"\x91" * 5 + b"\x90"])
def test_where_no_lists_are_meant_not_even_an_empty_one_gets_in(data: bytes) -> None:
    assert unpack(data) is not None
    with pytest.raises(CodecError) as caught:
        unpack(data, items_max=0)
    assert caught.value.code == "malformed"


def test_a_foreign_text_can_neither_fill_the_log_nor_write_on_the_terminal() -> None:
    field = "\x1b[2J\n" + "x" * 100_000
    error = refused(msgpack.packb({"type": "receipt.v1", "applied": 1, "credit": 1, field: 1}))
    assert error.code == "invalid_field"
    assert len(str(error)) <= 300
    assert str(error).isprintable()


def test_a_value_is_never_in_the_text_of_an_error() -> None:
    data = msgpack.packb({"type": "score.range.v1", "iteration": 1, "bound": -123.25, "spread": 0.0})
    assert "123" not in str(refused(data))
    with pytest.raises(CodecError) as caught:
        encode(schemas.ScoreRange(iteration=1, bound=-123.25, spread=0.0))
    assert "123" not in str(caught.value)
