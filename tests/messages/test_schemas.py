"""The table of messages: every one is versioned, documented, bounded, and in the documentation."""

import re
from pathlib import Path

import msgspec
import pytest
from msgspec import inspect

from messages.codec import MESSAGES, TYPES, kind_of
from messages.keys import NAME, Traffic, check_kind, traffic_of
from messages.schemas import BULK, Message, Name
from messages.unsequenced import UNSEQUENCED

KINDS = {kind_of(kind): kind for kind in MESSAGES}
BY_NAME = pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"


def documented() -> dict[str, bool]:
    """Kind -> whether it is bulk, from the table "Messages of a job" of docs/protocol.md."""
    section = DOCUMENT.read_text(encoding="utf-8").split("Messages of a job", 1)[1].split("\n## ", 1)[0]
    kinds: dict[str, bool] = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 3 or not re.match(r"[a-z]+\.[a-z]+", cells[1]):
            continue
        family = cells[1].split(".", 1)[0]
        for word in re.split(r"[,/ ]+", cells[1]):
            name = word.rstrip("*")
            kinds[name if "." in name else f"{family}.{name}"] = word.endswith("*")
    return kinds


def unbounded(field: inspect.Type) -> bool:
    """Whether a value of any size fits the field."""
    match field:
        case inspect.IntType() | inspect.FloatType():
            return None in (field.ge, field.le)
        case inspect.BytesType():
            return field.max_length is None
        case inspect.StrType():
            return field.max_length is None and not (field.pattern or "").endswith(r"\Z")
        case inspect.ListType():
            return field.max_length is None or unbounded(field.item_type)
        case inspect.BoolType():
            return False
    return True


@BY_NAME
def test_a_tag_is_the_kind_with_its_version(kind: type[Message]) -> None:
    assert kind.__struct_config__.tag == f"{kind_of(kind)}.v1"
    assert TYPES[f"{kind_of(kind)}.v1"] is kind
    assert check_kind(kind_of(kind)).replace(".", "") == kind.__name__.lower()


def test_no_tag_is_used_twice() -> None:
    assert len(TYPES) == len(KINDS) == len(MESSAGES)


@BY_NAME
def test_every_message_says_who_sends_it(kind: type[Message]) -> None:
    assert re.match(r"(Business|Provider|Either party|Both ways)\b", kind.__doc__ or "")


@BY_NAME
def test_every_message_is_frozen_strict_and_says_no_default(kind: type[Message]) -> None:
    config = kind.__struct_config__
    assert config.frozen
    assert config.forbid_unknown_fields
    assert kind.__struct_fields__
    # A field that came later is left out of the bytes where it says nothing: the messages from before keep theirs.
    assert not kind.__struct_defaults__ or config.omit_defaults


@BY_NAME
def test_every_field_has_a_limit(kind: type[Message]) -> None:
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    assert [field.name for field in described.fields if unbounded(field.type)] == []


@BY_NAME
def test_a_message_is_bulk_when_it_carries_chunks_of_bytes(kind: type[Message]) -> None:
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    carried = [field.type for field in described.fields if isinstance(field.type, inspect.BytesType)]
    bulky = [field for field in carried if field.max_length == 2**21]
    assert len(bulky) == (kind_of(kind) in BULK)
    assert traffic_of(kind_of(kind)) is (Traffic.BULK if bulky else Traffic.CONTROL)


def test_bulk_and_unsequenced_kinds_are_kinds_and_never_both() -> None:
    assert set(KINDS) >= BULK | UNSEQUENCED
    assert not BULK & UNSEQUENCED


def test_the_messages_of_a_job_are_those_of_the_documentation() -> None:
    assert documented() == {kind: kind in BULK for kind in KINDS if kind not in UNSEQUENCED}


@pytest.mark.parametrize("name", ["job-1\n", "", "a" * 41, "Job", "a.b", "a b", "é"])
def test_a_name_is_one_in_the_schemas_exactly_when_it_is_one_in_a_routing_key(name: str) -> None:
    assert not NAME.fullmatch(name)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(name, Name)
