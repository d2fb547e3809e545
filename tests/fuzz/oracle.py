"""What every target checks: the text of a refusal, and how much memory a reading took."""

import ast
import functools
import re
import resource
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

HOUSE: Final = Path(__file__).resolve().parents[2]
MEMORY_BYTES_MAX: Final = 192 * 2**20
"""What one input may add to the largest memory that the process ever had."""

MSGPACK_ERRORS: Final = (
    "UnicodeDecodeError ValueError TypeError OverflowError ExtraData FormatError OutOfData UnpackValueError BufferFull",
)
"""What the codec says of bytes that are no msgpack: the type of the library's error, never its text."""

_WORD: Final = re.compile(r"[^\W\d_]{4,}")
_NUMBER: Final = re.compile(r"\d{16,}")

# The words with which msgspec says what is wrong; what it quotes besides are names of fields.
_MSGSPEC: Final = frozenset(
    _WORD.findall(
        "expected object array bytes float bool null missing required unknown field contains invalid enum value "
        "matching regex length message pack data malformed input truncated trailing characters byte integer "
        "range large small number strict extension none messagepack opcode"
    )
)


@functools.cache
def words_of(*modules: str) -> frozenset[str]:
    """Every word that the texts of these modules are made of: literals, docstrings and names."""
    found: set[str] = set()
    for module in modules:
        for node in ast.walk(ast.parse((HOUSE / module).read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.update(word.lower() for word in _WORD.findall(node.value))
            elif isinstance(node, ast.AnnAssign | ast.ClassDef | ast.Name):
                name = node.target if isinstance(node, ast.AnnAssign) else node
                text = getattr(name, "id", "") or getattr(name, "name", "")
                found.update(word.lower() for word in _WORD.findall(text))
    return frozenset(found)


def check_text(text: str, *, modules: Iterable[str], names: Iterable[str] = (), chars_max: int) -> None:
    """A refusal is short and printable, and shows nothing of the input but the names that it may show."""
    assert len(text) <= chars_max, f"{len(text)} letters: {text[:200]!r}"
    assert text.isprintable(), f"writes on the terminal: {text[:200]!r}"
    named = "\n".join(shown for name in names for shown in (name, repr(name), _printable(name))).lower()
    known = words_of(*modules) | _MSGSPEC
    foreign = {word for word in _WORD.findall(text) if word.lower() not in known and word.lower() not in named}
    assert not foreign, f"words of the input in {text[:300]!r}: {sorted(foreign)[:5]}"
    numbers = [number for number in _NUMBER.findall(text) if number not in named]
    assert not numbers, f"a number of the input in {text[:300]!r}"


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


@contextmanager
def bounded_memory(limit: int = MEMORY_BYTES_MAX) -> Iterator[None]:
    """Reading an input makes the process larger by no more than `limit` bytes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown <= limit, f"one input took {grown} bytes of memory, {limit} at most"


def temporary_folder(prefix: str) -> "tempfile.TemporaryDirectory[str]":
    """A folder that is gone with the process; in memory where that can be had, since inputs come by the thousand."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix=prefix, dir=memory if memory.is_dir() else None)
