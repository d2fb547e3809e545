"""Identifiers as the bytes that are compared: named, versioned schemas (docs/alignment.md, "Rules").

A schema's name is part of the contract and its digest opens the alignment, so both parties normalise alike.
What a schema of one version does never changes; a different rule gets another version.

| schema | takes | gives |
|---|---|---|
| `exact.v1` | any text | its UTF-8 bytes, nothing trimmed: "007" and "7" differ |
| `phone-e164.v1` | international numbers: "+" or "00", country code, separators | 7 to 15 digits (ITU-T E.164) |
| `email.v1` | addresses | NFKC, case folded, NFKC again, trimmed |
| `composite.v1(a,b,...)` | tuples of text, one field per schema named | each field with its length before it |

Values that are refused are counted and their rows named; the values themselves never enter an error text.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Final

Value = str | tuple[str, ...]

IDENTIFIER_BYTES_MAX: Final = 1024
COMPOSITE_FIELDS_MAX: Final = 8
_ROWS_NAMED_MAX: Final = 5

_COMPOSITE: Final = re.compile(r"composite\.v1\(([a-z0-9.,-]+)\)")
_PHONE_SEPARATORS: Final = re.compile(r"[\s().\-/]")
_PHONE: Final = re.compile(r"(?:\+|00)([1-9][0-9]{6,14})")
_EMAIL: Final = re.compile(r"[^\s@]+@[^\s@]+")


class IdentifierError(ValueError):
    """Identifiers that cannot be compared.

    Attributes:
        code: identifier_empty, identifier_malformed, identifier_duplicate or identifier_schema.
        count: rows concerned; 0 for identifier_schema.

    """

    def __init__(self, code: str, message: str, count: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.count = count


class _MalformedError(ValueError):
    """A value that its schema does not take. Never leaves this module, and carries no value."""


def _exact(value: str) -> str:
    return value


def _phone(value: str) -> str:
    # "(0)" stands for a trunk prefix that is not dialled from abroad: dropping the brackets would keep the 0.
    plain = unicodedata.normalize("NFKC", value)
    found = None if "(0)" in plain else _PHONE.fullmatch(_PHONE_SEPARATORS.sub("", plain))
    if found is None:
        raise _MalformedError
    return found[1]


def _email(value: str) -> str:
    # Case folding can undo a composition; the second NFKC makes the result a fixed point.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", value).casefold()).strip()
    if not _EMAIL.fullmatch(folded):
        raise _MalformedError
    return folded


SCHEMAS: Final[dict[str, Callable[[str], str]]] = {
    "exact.v1": _exact,
    "phone-e164.v1": _phone,
    "email.v1": _email,
}
"""The schemas of one field. A composite is put together from these."""


def normalise(values: Sequence[Value], schema: str) -> list[bytes]:
    """Normalise each value: one item of 1 to 1024 bytes per value, in the same order.

    Args:
        values: identifiers as written in the data set; tuples of fields for a composite schema.
        schema: name of the schema, see the table above.

    Raises:
        IdentifierError: the schema is unknown (identifier_schema); values are empty or nothing but white space
            (identifier_empty), or are not what the schema takes (identifier_malformed). Rows are counted from 1.

    """
    convert = _converter(schema)
    items: list[bytes] = []
    empty: list[int] = []
    malformed: list[int] = []
    for row, value in enumerate(values, start=1):
        fields = (value,) if isinstance(value, str) else value
        if not all(field.strip() for field in fields):
            empty.append(row)
            continue
        try:
            items.append(convert(value))
        except (_MalformedError, UnicodeEncodeError):
            malformed.append(row)
    if empty:
        raise _refusal("identifier_empty", f"empty; {schema} needs one in every row", empty, len(values))
    if malformed:
        raise _refusal("identifier_malformed", f"not what {schema} takes", malformed, len(values))
    return items


def _converter(schema: str) -> Callable[[Value], bytes]:
    """The function that makes one item of one value."""
    if schema in SCHEMAS:
        return lambda value: _field(value, SCHEMAS[schema])
    composite = _COMPOSITE.fullmatch(schema)
    names = composite[1].split(",") if composite else []
    if not 2 <= len(names) <= COMPOSITE_FIELDS_MAX or any(name not in SCHEMAS for name in names):
        known = ", ".join([*SCHEMAS, "composite.v1(...)"])
        raise IdentifierError("identifier_schema", f"the identifier schema is unknown; known are {known}")
    return lambda value: _composite(value, [SCHEMAS[name] for name in names])


def _field(value: Value, normal_form: Callable[[str], str]) -> bytes:
    if not isinstance(value, str):
        raise _MalformedError
    item = normal_form(value).encode("utf-8")
    if not 0 < len(item) <= IDENTIFIER_BYTES_MAX:
        raise _MalformedError
    return item


def _composite(value: Value, normal_forms: list[Callable[[str], str]]) -> bytes:
    # Without the lengths, ("ab", "c") and ("a", "bc") would be one item.
    if isinstance(value, str) or len(value) != len(normal_forms):
        raise _MalformedError
    fields = [_field(field, form) for field, form in zip(value, normal_forms, strict=True)]
    item = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    if len(item) > IDENTIFIER_BYTES_MAX:
        raise _MalformedError
    return item


def _refusal(code: str, what: str, rows: list[int], total: int) -> IdentifierError:
    named = ", ".join(str(row) for row in rows[:_ROWS_NAMED_MAX])
    more = f" and {len(rows) - _ROWS_NAMED_MAX} more" if len(rows) > _ROWS_NAMED_MAX else ""
    return IdentifierError(code, f"{len(rows)} of {total} identifiers are {what} (data rows {named}{more})", len(rows))
