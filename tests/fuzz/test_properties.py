"""Properties of everything that is parsed from files and from the control socket, with the oracles of the targets.

Bytes near valid inputs are the fuzzer's part; here the inputs are whole values, made by their schema or against it.
"""

import io
import json
from typing import Any

import msgpack
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from messages.envelope import Header
from tests.fuzz.identities import PARTNER, identity
from tests.fuzz.samples import contract, envelope, job_of, sample_messages
from tests.fuzz.targets import configuration, control, receiving, stored, tables
from tests.fuzz.targets import contract as contracts
from tests.fuzz.targets import identity as identities

SLOW = settings(max_examples=60, deadline=None)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
ANY_TEXT = st.text(max_size=40)
SCALAR = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | TEXT
VALUE = st.recursive(
    SCALAR | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)
FIELDS: dict[str, Any] = msgpack.unpackb(contract())


@given(st.sampled_from(sorted(FIELDS)), VALUE)
def test_any_value_in_any_field_of_a_contract_is_refused_with_a_code_or_is_canonical(field: str, value: Any) -> None:
    contracts.fuzz_one(msgpack.packb({**FIELDS, field: value}))


@pytest.mark.parametrize("raw", [b"\xa8\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8", b"\xd9\x02\xc3\x28"])
def test_a_contract_with_text_that_is_no_utf8_is_refused_with_a_code(raw: bytes) -> None:
    # msgspec raises UnicodeDecodeError for it, which is none of its own errors.
    for name in ("identifier_schema", "task"):
        contracts.fuzz_one(
            contract().replace(msgpack.packb(name) + msgpack.packb(FIELDS[name]), msgpack.packb(name) + raw)
        )


@SLOW
@given(
    st.sampled_from(control.VERBS) | JSON,
    st.dictionaries(st.sampled_from(["id", "job", "where", "reason", "limit"]) | ANY_TEXT, JSON, max_size=4),
)
@example("cancel", {"id": {}})
@example("cancel", {"id": control.JOB, "reason": "\ud800" * 3})
@example("job", {"id": "\ud800"})
@example("parked", {"limit": 2**70})
@example("parked", {"limit": float("nan")})
def test_every_line_to_the_control_socket_is_answered_with_a_result_or_a_code(verb: Any, arguments: Any) -> None:
    control.fuzz_one(json.dumps({**arguments, "verb": verb}).encode() + b"\n")


@SLOW
@given(st.dictionaries(st.sampled_from([*control.ASKED, "l2", "marks", "key_bits", "expires_in_hours"]), JSON))
def test_every_job_asked_of_the_control_socket_is_refused_by_its_key(job: Any) -> None:
    control.fuzz_one(json.dumps({"verb": "submit", "job": {**control.ASKED, **job}}).encode() + b"\n")


def test_brackets_without_end_do_not_cut_the_line_to_the_control_socket() -> None:
    control.fuzz_one(b"[" * 100_000 + b'\n{"verb": "jobs"}\n')


TOML = st.recursive(
    st.booleans().map(lambda value: str(value).lower())
    | st.integers(-(2**63), 2**63 - 1).map(str)
    | st.floats().map(repr)
    | TEXT.map(lambda text: json.dumps(text, ensure_ascii=True) if text.isascii() else json.dumps("a")),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]"),
    max_leaves=5,
)


@SLOW
@given(st.integers(0, 2), st.data(), TOML)
@example(2, None, "inf")
@example(2, None, "nan")
def test_any_value_of_any_key_of_a_configuration_file_is_refused_by_its_key_or_taken(
    which: int, data: Any, value: str
) -> None:
    text = (configuration.PARTY, configuration.POLICY, configuration.JOB)[which]
    keys = [line.split(b" = ")[0] for line in text.splitlines() if b" = " in line]
    key = b"expires_in_hours" if data is None else data.draw(st.sampled_from(keys))
    lines = [key + b" = " + value.encode() if line.startswith(key + b" =") else line for line in text.splitlines()]
    configuration.fuzz_one(bytes([which]) + b"\n".join(lines))


@pytest.mark.parametrize(
    "line",
    [
        'identity = "."',
        'identity = "\\u0000"',
        'policy = "peers"',
        'policy = "\\u0000"',
        'broker = "amqp://[::1"',
        'broker = "amqps://bank:secretword@[broker.example/"',
        'peers = "\\u001b[2J"',
        "noise_seed = " + "[" * 4000,
    ],
)
def test_a_path_or_url_that_none_can_be_is_refused_as_configuration(line: str) -> None:
    key = line.split(" = ", maxsplit=1)[0].encode()
    lines = [line.encode() if old.startswith(key + b" =") else old for old in configuration.PARTY.splitlines()]
    assert line.encode() in lines
    configuration.fuzz_one(b"\x00" + b"\n".join(lines))


@SLOW
@given(st.sampled_from(["format", "kind", "name", "sign", "receive_x25519", "receive_mlkem768", "more"]), JSON)
def test_any_value_in_any_field_of_an_identity_file_is_refused_without_a_key(field: str, value: Any) -> None:
    fields = json.loads(identity(PARTNER).public.to_json())
    identities.fuzz_one(b"\x00" + json.dumps({**fields, field: value}).encode())
    private = json.loads(identity(PARTNER).to_bytes())
    identities.fuzz_one(b"\x01" + json.dumps({**private, field: value}).encode())


CELL = st.sampled_from([cell.decode("utf-8", "replace") for cell in tables.CELLS]) | ANY_TEXT.filter(str.isascii)


@SLOW
@given(st.integers(0, len(tables.QUESTIONS) - 1), st.lists(st.lists(CELL, min_size=1, max_size=4), max_size=6))
def test_any_cells_of_a_csv_file_are_a_table_or_are_refused_by_their_place(
    question: int, rows: list[list[str]]
) -> None:
    text = "id,y,a,b\n" + "".join(",".join(row) + "\n" for row in rows)
    tables.fuzz_one(bytes([0, question]) + text.encode("utf-8", "surrogatepass"))


COLUMN = st.sampled_from([pl.Int8, pl.UInt64, pl.Int128, pl.Float32, pl.Float64, pl.Boolean, pl.String, pl.Categorical])


@SLOW
@given(st.integers(0, len(tables.QUESTIONS) - 1), st.data(), COLUMN, COLUMN)
def test_any_types_of_a_parquet_file_are_a_table_or_are_refused_by_their_column(
    question: int, data: Any, first: Any, second: Any
) -> None:
    values = data.draw(st.lists(st.none() | st.integers(0, 100), min_size=1, max_size=4))
    frame = pl.DataFrame(
        {
            "id": pl.Series(map(str, range(len(values))), dtype=pl.String),
            "y": pl.Series([place % 2 for place in range(len(values))]),
            "a": _typed(values, first),
            "b": _typed(values, second),
        }
    )
    content = io.BytesIO()
    frame.write_parquet(content)
    tables.fuzz_one(bytes([1, question]) + content.getvalue())


def _typed(values: list[int | None], dtype: Any) -> pl.Series:
    text = dtype in (pl.String, pl.Categorical)
    return pl.Series([value if value is None else str(value) for value in values] if text else values).cast(dtype)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1), st.booleans(), st.binary(max_size=60))
@example(0, 2**62, True, b"segment")
@example(2**62, 2**62, True, b"segment")
@example(-1, 3, True, b"segment")
def test_a_blob_is_what_its_place_and_digest_say_or_is_damaged(
    offset: int, size: int, right: bool, data: bytes
) -> None:
    stored.fuzz_one(stored.head(offset, size, right) + data)


@given(st.sampled_from(["identifiers", "columns", "values", "label", "more"]), VALUE)
def test_any_value_in_any_field_of_a_snapshot_is_damaged_or_fits_the_others(field: str, value: Any) -> None:
    fields = {"identifiers": ["u"], "columns": ["a", "b"], "values": bytes(16), "label": bytes(8)}
    body = msgpack.packb({**fields, field: value})
    stored.fuzz_one(stored.head(0, len(body)) + body)


@SLOW
@given(
    st.lists(
        st.tuples(st.sampled_from(list(sample_messages())), st.sampled_from(receiving.JOBS), st.data()), max_size=4
    )
)
def test_no_delivery_whatever_it_says_is_dropped_without_a_word(said: list[Any]) -> None:
    items = []
    for message, job, data in said:
        fields = {
            name: data.draw(st.integers(0, 70) | st.integers(0, 2**48))
            for name in data.draw(st.sets(st.sampled_from(["sequence", "received", "chunk"])))
        }
        assert set(fields) <= set(Header.__struct_fields__)
        kind = str(message.__struct_config__.tag).rsplit(".v", 1)[0]
        items.append(receiving.delivery(envelope(message, job=job, **fields), kind, job))
    receiving.fuzz_one(receiving.framed(*items))


def test_a_proposal_whose_contract_is_no_text_ends_its_job_and_harms_nobody() -> None:
    good = contract(nonce=b"proposed")
    broken = good.replace(b"exact.v1", b"exact\xff\xfe\xfd")
    assert broken != good
    message = next(sample_messages())
    changed = type(message)(contract=broken)
    job = job_of(good)
    receiving.fuzz_one(receiving.framed(receiving.delivery(envelope(changed, job=job), "job.propose", job)))
