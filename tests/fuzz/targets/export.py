"""Export files: everything that an auditor does with one, the other file being good.

An input is the file. The seeds are recorded exports; the mutator chains and signs anew with keys of its own, so that
what is inside an entry is looked at.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Final

import msgpack
import msgspec

from services.audit.export_file import MAGIC, ExportError, ExportReader, encode_frame
from services.audit.reconciling import reconcile
from services.audit.replaying import replay
from services.audit.report_page import page
from services.audit.reporting import report
from services.audit.verifying import FINDINGS_MAX, verify
from tests.audit.forging import forge
from tests.fuzz.identities import ME, identity
from tests.fuzz.oracle import HOUSE, bounded_memory, temporary_folder
from tests.fuzz.values import changed_map

MODULES: Final = (
    "services/audit/export_file.py",
    "services/audit/verifying.py",
    "services/audit/reconciling.py",
    "services/audit/replaying.py",
    "services/audit/reporting.py",
    "services/audit/seen.py",
)
HELD: Final = False
INPUT_BYTES_MAX: Final = 40_000

_LOGS: Final = HOUSE / "tests" / "replay" / "logs"
_OTHER: Final = _LOGS / "declined.provider.partner"
_FOLDER: Final = temporary_folder("fuzz-export-")
_TEXT_LETTERS_MAX: Final = 6000


def seeds() -> Iterator[bytes]:
    for path in sorted(_LOGS.iterdir()):
        if path.stat().st_size <= INPUT_BYTES_MAX:
            yield path.read_bytes()


def mutate(data: bytes, size_max: int, chance: Random, plain: Callable[[bytes, int], bytes]) -> bytes:
    if chance.randrange(3) == 0:
        return plain(data, size_max)
    source, made = Path(_FOLDER.name) / "source", Path(_FOLDER.name) / "made"
    source.write_bytes(data)
    made.unlink(missing_ok=True)
    with suppress(Exception):
        forge(source, made, identity(ME), lambda entries: _changed(entries, chance, plain))
        return made.read_bytes()
    return plain(data, size_max)


def _changed(entries: list[Any], chance: Random, plain: Callable[[bytes, int], bytes]) -> list[Any]:
    at = chance.randrange(len(entries))
    pick = chance.randrange(8)
    if pick == 0:
        del entries[at]
    elif pick == 1:
        entries.insert(at, entries[at])
    elif pick == 2:
        chance.shuffle(entries)
    elif pick < 6 and entries[at].event:
        fields = msgpack.unpackb(entries[at].event)
        inner = chance.choice([name for name, value in fields.items() if isinstance(value, bytes)] or [""])
        with suppress(Exception):
            if inner and chance.randrange(2):
                fields[inner] = msgpack.packb(changed_map(msgpack.unpackb(fields[inner]), chance))
                entries[at] = msgspec.structs.replace(entries[at], event=msgpack.packb(fields))
                return entries
        entries[at] = msgspec.structs.replace(entries[at], event=msgpack.packb(changed_map(fields, chance)))
    elif entries[at].header:
        header = msgpack.packb(changed_map(msgpack.unpackb(entries[at].header), chance))
        entries[at] = msgspec.structs.replace(entries[at], header=header)
    else:
        entries[at] = msgspec.structs.replace(entries[at], event=plain(entries[at].event or b"\x00", 4000))
    return entries


def fuzz_one(data: bytes) -> None:
    path = Path(_FOLDER.name) / "export"
    path.write_bytes(data)
    with bounded_memory():
        found = verify(path)
        again = replay(path)
        shown = report(path)
        text = page(shown)
        both = (reconcile(path, _OTHER), reconcile(_OTHER, path))
        _check_frames(path)
    assert len(found.findings) <= FINDINGS_MAX
    said = [*map(str, found.findings), *shown.findings, again.difference, *again.notes]
    said += [str(finding) for one in both for finding in one.findings]
    for sentence in said:
        assert len(sentence) <= _TEXT_LETTERS_MAX, sentence[:300]
        assert sentence.isprintable(), repr(sentence[:300])
    assert "<script" not in text.lower()


def _check_frames(path: Path) -> None:
    """Every frame that is read is written as it was read."""
    data = path.read_bytes()
    with suppress(ExportError), ExportReader(path) as reader:
        place = len(MAGIC)
        for frame in itertools.chain([reader.opening], reader.further, reader.frames()):
            written = encode_frame(frame)
            assert data[place : place + len(written)] == written
            place += len(written)
