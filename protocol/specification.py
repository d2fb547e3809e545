"""Writes down what is said and when: `python -m protocol.specification` prints docs/specification.md.

The prose around it is in `_HEAD` and `_PARTS`; everything that a schema or a transition table knows is taken from it.
"""

import textwrap
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

from messages import codec, schemas, unsequenced
from messages.envelope import Header
from protocol.contract import LATER_FIELDS, JobContract
from protocol.scoring_contract import ScoringContract
from protocol.table import TRANSITIONS

_HEAD = """# Specification

Generated from the structs in `messages/`, the contracts and `protocol/table.py` by `make diagrams`; a test compares.
What the numbers mean is in [protocol.md](protocol.md), how messages travel in [ARCHITECTURE.md](../ARCHITECTURE.md),
the suite of the alignment in [alignment.md](alignment.md).

## 1. On the wire

A message is published to the topic exchange `warren` under
`from.<sender>.to.<recipient>.<control|bulk>.<job>.<kind>`; names and jobs match `[a-z0-9-]{1,40}`. Its bytes are a
msgpack map of three byte strings: `header`, `signature`, `body`. All msgpack here is canonical: what would not be
written in just these bytes is refused.

- `header`: the bytes of the map below. The signature (Ed25519) is over "warren header 1", a zero byte, and these bytes.
- `body`: sealed with HPKE (RFC 9180) to the recipient by the suite that the header names, with empty associated data;
  version, job, sender, recipient, kind and chunk are bound through `info`. `body_sha256` is of the sealed bytes.
- Opened, the body is a canonical msgpack map: `type`, which is `<kind>.v<version>`, and the fields below, in order.
- A receiver applies a sender's messages of a job in the order of `sequence`, from 1 on, each once. What cannot be
  applied is parked with a reason code ([troubleshooting.md](troubleshooting.md)).
"""

_PARTS = {
    "messages": """## 2. Messages

Each says who sends it, when, and what it reveals to whom. *Bulk* travels in chunks and needs credit; *unsequenced* ones
have sequence 0 and are no events of a job.
""",
    "contracts": """## 3. Contracts

Canonical msgpack, at most 64 KiB, in `job.propose`. The second half of the job's name is the start of the contract's
digest. Fields marked *later* are left out of the bytes where they have their default.
""",
    "tables": """## 4. Transitions

Which event may happen in which phase, and where it may lead. What is not there ends the job with a
reason code. [states.md](states.md) draws the same tables.
""",
}


def kinds() -> Iterator[tuple[str, int, type[schemas.Message]]]:
    """Kind, version and struct of every message, in the order of their modules."""
    for item in codec.MESSAGES:
        kind, _, version = str(item.__struct_config__.tag).rpartition(".v")
        yield kind, int(version), item


def prose(item: type) -> str:
    """A docstring as one paragraph for each of its own."""
    text = textwrap.dedent(f"    {(item.__doc__ or '').strip()}")
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def fields(item: type[msgspec.Struct], later: frozenset[str] = frozenset()) -> str:
    """A table of the fields of a struct: name, type with bounds, default."""
    info = inspect.type_info(item)
    assert isinstance(info, inspect.StructType)
    if not info.fields:
        return "No fields.\n"
    rows = ["| field | type | |", "|---|---|---|"]
    for each in info.fields:
        notes = [] if each.required else [f"default {_default(each)}"]
        notes += ["later"] if each.name in later else []
        rows.append(f"| `{each.encode_name}` | {_words(each.type)} | {', '.join(notes)} |")
    return "\n".join(rows) + "\n"


def _default(each: inspect.Field) -> str:
    if each.default is not msgspec.NODEFAULT:
        return f"`{each.default!r}`"
    factory = each.default_factory
    return f"`{factory()!r}`" if callable(factory) else "empty"


def _words(kind: inspect.Type) -> str:
    """A type in words."""
    match kind:
        case inspect.IntType():
            return f"integer{_range(kind.ge, kind.le)}"
        case inspect.FloatType():
            return f"number{_range(kind.ge, kind.le)}"
        case inspect.BytesType():
            return f"bytes{_lengths(kind)}"
        case inspect.StrType():
            shown = (kind.pattern or "").replace("\\Z", "$").replace("|", "\\|")
            return f"text `{shown}`" if shown else f"text{_lengths(kind)}"
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType():
            return "one of " + ", ".join(f"`{value}`" for value in kind.values)
        case _:
            return _words_of_many(kind)


def _words_of_many(kind: inspect.Type) -> str:
    """A type that is made of others."""
    match kind:
        case inspect.ListType() | inspect.VarTupleType():
            return f"list{_lengths(kind)} of ({_words(kind.item_type)})"
        case inspect.TupleType():
            return "(" + ", ".join(map(_words, kind.item_types)) + ")"
        case inspect.DictType():
            return f"map{_lengths(kind)} from ({_words(kind.key_type)}) to ({_words(kind.value_type)})"
        case inspect.UnionType():
            return " or ".join(map(_words, kind.types))
        case inspect.StructType():
            inside = ", ".join(f"`{each.encode_name}`: {_words(each.type)}" for each in kind.fields)
            return f"map ({inside})"
        case _:
            raise TypeError(f"no words for {kind}")


def _range(least: Any, most: Any) -> str:
    return "" if least is None and most is None else f", {_short(least)} to {_short(most)}"


def _short(value: Any) -> str:
    """A bound: powers of two as such.

    0 and 0.0 are one: `typing` keeps the first of equal annotations of a process, whoever made it.
    """
    if value is None:
        return "any"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**60:
        value = int(value)
    if isinstance(value, int) and value >= 4096 and value & (value - 1) == 0:
        return f"2^{value.bit_length() - 1}"
    return str(value)


def _lengths(kind: Any) -> str:
    least, most = kind.min_length, kind.max_length
    if least is None and most is None:
        return ""
    if least == most:
        return f", {least} long"
    return f", {'' if least is None else f'{least} to '}{_short(most)} long{'' if least is not None else ' at most'}"


def messages_part() -> Iterator[str]:
    """Section 2."""
    yield _PARTS["messages"]
    for kind, version, item in kinds():
        marks = [name for name, of in (("bulk", schemas.BULK), ("unsequenced", unsequenced.UNSEQUENCED)) if kind in of]
        yield f"### {kind} (version {version}{', ' if marks else ''}{', '.join(marks)})\n"
        yield f"{prose(item)}\n"
        yield fields(item)


def tables_part() -> Iterator[str]:
    """Section 4."""
    yield _PARTS["tables"]
    for role, table in TRANSITIONS.items():
        yield f"### {role}\n"
        rows = ["| phase | event | leads to |", "|---|---|---|"]
        for phase, row in table.items():
            for label, targets in sorted(row.items()):
                where = ", ".join(sorted(target.value for target in targets))
                rows.append(f"| {phase.value} | `{label}` | {where} |")
        yield "\n".join(rows) + "\n"


def document() -> str:
    """The whole of docs/specification.md."""
    parts = [_HEAD, "### Header\n", f"{prose(Header)}\n", fields(Header), *messages_part(), _PARTS["contracts"]]
    for title, item, later in (("Training", JobContract, LATER_FIELDS), ("Scoring", ScoringContract, frozenset[str]())):
        parts += [f"### {title}\n", f"{prose(item)}\n", fields(item, later)]
    return "\n".join([*parts, *tables_part()])


if __name__ == "__main__":
    print(document(), end="")  # noqa: T201
