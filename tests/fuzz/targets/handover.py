"""Hand-over files: who follows one that is not its partner's own loses the partner's name to somebody else."""

import base64
import functools
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random
from typing import Any, Final

from messages.handover import HandoverError, follow, hand_over, party_of
from messages.identity import Identity, PublicIdentity
from tests.fuzz.identities import OTHER, PARTNER, STRANGER, identity
from tests.fuzz.oracle import bounded_memory, check_text
from tests.fuzz.targets.identity import _names
from tests.fuzz.values import any_value, changed_map

MODULES: Final = ("messages/handover.py",)
HELD: Final = False  # the one branch that is missed wants a file too large to be kept
INPUT_BYTES_MAX: Final = 40_000

_SOURCES: Final = (*MODULES, "messages/identity.py", "messages/keys.py")


@functools.cache
def kept_keys() -> tuple[Identity, ...]:
    """The partner's keys, and those of two rotations, which never change."""
    named = [identity(name) for name in (PARTNER, OTHER, STRANGER)]
    written = [json.loads(one.to_bytes()) for one in named]
    return tuple(Identity.from_bytes(json.dumps({**one, "name": PARTNER}).encode()) for one in written)


@functools.cache
def whole() -> bytes:
    """Two steps."""
    first, second, third = kept_keys()
    return hand_over(second, third, hand_over(first, second))


def seeds() -> Iterator[bytes]:
    first, second, third = kept_keys()
    yield whole()
    yield hand_over(first, second)
    yield hand_over(second, third)
    yield hand_over(second, first)
    yield hand_over(first, identity(OTHER))
    steps = json.loads(whole())["steps"]
    for field in ("signature", "proof"):
        for value in (base64.b64encode(bytes(64)).decode(), "é", 7):
            yield written([{**steps[0], field: value}, steps[1]])
    for field in ("former", "fresh"):
        yield written([{**steps[0], field: {"name": "x"}}])
    for changed in ([], [7], [{}], steps * 60, "steps"):
        yield written(changed)
    yield json.dumps({"format": "warren handover 2", "steps": steps}).encode()
    yield json.dumps([]).encode()
    yield b"\xff{"
    yield b"[" * 15_000
    yield bytes(2_000_000)


def written(steps: Any) -> bytes:
    """A file with these steps."""
    return json.dumps({"format": "warren handover 1", "steps": steps}).encode()


def mutate(data: bytes, size_max: int, chance: Random, plain: Callable[[bytes, int], bytes]) -> bytes:
    if chance.randrange(4) == 0:
        return plain(data, size_max)
    with suppress(ValueError, TypeError, KeyError, IndexError, RecursionError, AttributeError):
        file = json.loads(data)
        steps = file["steps"]
        place = chance.randrange(len(steps))
        pick = chance.randrange(5)
        if pick == 0:
            steps.insert(chance.randrange(len(steps) + 1), steps[place])
        elif pick == 1:
            steps[place]["former"], steps[place]["fresh"] = steps[place]["fresh"], steps[place]["former"]
        elif pick == 2:
            field = chance.choice(("former", "fresh"))
            steps[place][field] = changed_map(steps[place][field], chance)
        elif pick == 3:
            steps[place] = changed_map(steps[place], chance)
        else:
            steps.append(any_value(chance))
        changed = json.dumps(file).encode()
        return changed[:size_max]
    return plain(data, size_max)


def fuzz_one(data: bytes) -> None:
    """Whatever the file is: nobody gets to keys but those that the ones before them signed for."""
    first, second, third = (one.public for one in kept_keys())
    with bounded_memory():
        _told(lambda: party_of(data), data)
        _told(lambda: hand_over(kept_keys()[0], kept_keys()[1], data), data)
        for known, honest in ((first, (first, second, third)), (second, (second, third, first)), (third, (third,))):
            found = _told(lambda known=known: follow(data, known), data)
            if isinstance(found, PublicIdentity):
                assert found in honest, "keys that no former key signed for"
                assert found.name == known.name


def _told(ask: Callable[[], Any], data: bytes) -> Any:
    try:
        return ask()
    except HandoverError as error:
        names = [PARTNER, *_names(data)]
        check_text(str(error), modules=_SOURCES, names=names, chars_max=400)
        return None
