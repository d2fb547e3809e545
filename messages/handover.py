"""A party's new keys, signed for by its former ones: partners that know the former ones need no telephone.

Each step is signed by both: the former signing key says which keys follow, the new one that it is really held by
whoever takes over. A file has all steps since the first, so that a partner which missed some catches up.
"""

import base64
import json
from typing import Any, Final

from messages.identity import FILE_BYTES_MAX, Identity, IdentityError, PublicIdentity

FORMAT: Final = "warren handover 1"
STEPS_MAX: Final = 100
_DOMAIN: Final = b"warren identity handover v1\x00"
_FIELDS: Final = frozenset({"former", "fresh", "signature", "proof"})


class HandoverError(IdentityError):
    """A hand-over that is not to be followed. The text says why."""


def hand_over(former: Identity, fresh: Identity, earlier: bytes = b"") -> bytes:
    """The file with one step more. `earlier`: the file so far. Raises HandoverError where that is damaged."""
    said = _said(former.public, fresh.public)
    step = {
        "former": json.loads(former.public.to_json()),
        "fresh": json.loads(fresh.public.to_json()),
        "signature": base64.b64encode(former.sign(said)).decode(),
        "proof": base64.b64encode(fresh.sign(said)).decode(),
    }
    steps = [*(_steps(earlier) if earlier else []), step]
    return (json.dumps({"format": FORMAT, "steps": steps}, indent=2) + "\n").encode()


def follow(data: bytes, known: PublicIdentity) -> PublicIdentity:
    """The newest identity that a chain of steps leads to from the one that is known.

    Raises HandoverError: the file is damaged, is another party's, does not begin at `known`, or a signature is wrong.
    """
    found = known
    for step in _steps(data):
        former, fresh = _identity(step, "former"), _identity(step, "fresh")
        if former != found:
            continue
        if fresh.name != known.name:
            raise HandoverError(f"{known.name} cannot hand over to {fresh.name}: another party needs `warren peer add`")
        said = _said(former, fresh)
        if not former.verify(_bytes(step, "signature"), said):
            raise HandoverError(
                f"the former keys of {known.name} did not sign this: do not use it, and ask by telephone"
            )
        if not fresh.verify(_bytes(step, "proof"), said):
            raise HandoverError(f"the new keys of {known.name} did not sign this: do not use it, and ask by telephone")
        found = fresh
    if found is known and not any(_identity(step, "fresh") == known for step in _steps(data)):
        raise HandoverError(
            f"no step of this file begins at the keys that are known of {known.name}: compare fingerprints by "
            f"telephone, then `warren peer remove {known.name}` and `warren peer add`"
        )
    return found


def party_of(data: bytes) -> str:
    """Whose hand-over a file is. Raises HandoverError."""
    return _identity(_steps(data)[0], "former").name


def _said(former: PublicIdentity, fresh: PublicIdentity) -> bytes:
    return _DOMAIN + former.digest() + fresh.digest()


def _steps(data: bytes) -> list[dict[str, Any]]:
    if len(data) > STEPS_MAX * FILE_BYTES_MAX:
        raise HandoverError(f"this is no hand-over: it has {len(data)} bytes")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise HandoverError("the hand-over is not JSON: was the file damaged on its way?") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT or set(found) != {"format", "steps"}:
        raise HandoverError(f"this is no hand-over: the field format must be {FORMAT!r}")
    steps = found["steps"]
    whole = isinstance(steps, list) and 1 <= len(steps) <= STEPS_MAX
    if not whole or not all(isinstance(step, dict) and set(step) == _FIELDS for step in steps):
        raise HandoverError("field steps: a list of maps with former, fresh, signature and proof is needed")
    return list(steps)


def _identity(step: dict[str, Any], field: str) -> PublicIdentity:
    try:
        return PublicIdentity.from_json(json.dumps(step[field]))
    except IdentityError as error:
        raise HandoverError(f"{field}: {error}") from None


def _bytes(step: dict[str, Any], field: str) -> bytes:
    try:
        return base64.b64decode(step[field], validate=True)
    except (ValueError, TypeError):
        raise HandoverError(f"field {field}: not base64") from None
