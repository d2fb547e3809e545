"""Identity files, public and private. An input is a byte that says which, and the file's text."""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random
from typing import Any, Final

from messages.identity import FILE_BYTES_MAX, Identity, IdentityError, PublicIdentity
from messages.keys import check_name
from tests.fuzz.identities import ME, PARTNER, identity
from tests.fuzz.oracle import bounded_memory, check_text
from tests.fuzz.values import any_value, changed_map

MODULES: Final = ("messages/identity.py",)
HELD: Final = True
INPUT_BYTES_MAX: Final = 20_000

_SOURCES: Final = (*MODULES, "messages/keys.py")


def seeds() -> Iterator[bytes]:
    public, private = identity(PARTNER).public.to_json().encode(), identity(ME).to_bytes()
    yield from (b"\x00" + public, b"\x01" + private, b"\x00" + private, b"\x01" + public)
    for field in ("sign", "receive_x25519", "receive_mlkem768"):
        fields = json.loads(public)
        size = len(base64.b64decode(fields[field]))
        for key in (bytes(size), b"\x01" + bytes(size - 1), b"\xff" * size, bytes(size - 1)):
            yield b"\x00" + json.dumps({**fields, field: base64.b64encode(key).decode()}).encode()
    yield b"\x00" + public.replace(b'"name"', b'"kind"')
    yield b"\x00" + b"[" * 15_000
    yield b"\x00" + bytes(FILE_BYTES_MAX + 1)


def mutate(data: bytes, size_max: int, chance: Random, plain: Callable[[bytes, int], bytes]) -> bytes:
    which, text = data[:1] or b"\x00", data[1:]
    if chance.randrange(3) == 0:
        return plain(data, size_max)
    try:
        fields: Any = json.loads(text)
    except (ValueError, RecursionError):
        return plain(data, size_max)
    if isinstance(fields, dict) and chance.randrange(2):
        field = chance.choice(("sign", "receive_x25519", "receive_mlkem768"))
        with suppress(KeyError, TypeError, ValueError):
            raw = plain(base64.b64decode(fields[field]), 2000)
            fields[field] = base64.b64encode(raw).decode()
    else:
        fields = changed_map(fields, chance) if isinstance(fields, dict) else any_value(chance)
    with suppress(ValueError, TypeError, RecursionError):
        return which + json.dumps(fields).encode()
    return plain(data, size_max)


def fuzz_one(data: bytes) -> None:
    private, text = bool(data and data[0] & 1), data[1:]
    read: Any = Identity.from_bytes if private else PublicIdentity.from_json
    with bounded_memory():
        try:
            found = read(text)
        except IdentityError as error:
            check_text(str(error), modules=_SOURCES, names=_names(text), chars_max=300)
            return
        written = found.to_bytes() if private else found.to_json().encode()
        again = read(written)
        assert (again.to_bytes() if private else again.to_json().encode()) == written
        assert check_name(found.name)
        public = found.public if private else found
        assert public == PublicIdentity.from_json(public.to_json())
        assert len(public.digest()) == 32
        assert len(public.fingerprint.split()) == 10
        assert public == again.public if private else hash(public) == hash(again)
        assert base64.b64encode(bytes(8)).decode() not in repr(found)
        if private:
            assert public.verify(found.sign(b"text"), b"text")
            assert not public.verify(found.sign(b"text"), b"other")


def _names(text: bytes) -> Iterator[str]:
    """What an error may show: names of fields, and a format, kind or name that is none."""
    found: list[str] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found.extend(field for field, _ in pairs)
        found.extend(str(value) for field, value in pairs if field in {"format", "kind", "name"})
        return dict(pairs)

    with suppress(ValueError, RecursionError):
        json.loads(text, object_pairs_hook=collect)
    yield from found
