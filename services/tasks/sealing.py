"""Sealing and opening of bulk bodies inside compute tasks, where they may take their time."""

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from messages import codec, seal
from messages.envelope import PROTOCOL_VERSION
from messages.schemas import Message
from services.tasks.compute import TaskContext, TaskRefused

M = TypeVar("M", bound=Message)


PLAIN: Final = "plain_sha256"
"""In a task's output: SHA-256 of the plaintext of the body that its first blob seals.

The seal is randomised and its sender cannot open it. By this digest, in the chain with the rest of the output,
an audit that runs the task again knows that the very same body left the house.
"""


@dataclass(frozen=True, slots=True)
class SealedChunk:
    """A body in the bytes that will travel; `proof` belongs into the task's output."""

    body: bytes = field(repr=False)
    proof: dict[str, Any]


def seal_chunk(context: TaskContext, message: Message, chunk: int, chunks: int) -> SealedChunk:
    """Seal the body of a bulk message to the partner. It must be the task's first blob."""
    kind = codec.kind_of(message)
    info = seal.seal_info(PROTOCOL_VERSION, context.job, context.party, context.partner.name, kind, chunk, chunks)
    plain = codec.encode(message)
    return SealedChunk(context.seal(plain, context.partner, info), {PLAIN: hashlib.sha256(plain).digest()})


def open_chunk(context: TaskContext, sealed: bytes, expected: type[M], chunk: int, chunks: int) -> M:
    """The message inside a bulk body of the partner.

    Raises TaskRefused `seal_broken` or `message_malformed`: the partner signed what cannot be read.
    """
    return open_with_plain(context, sealed, expected, chunk, chunks)[0]


def open_with_plain(
    context: TaskContext, sealed: bytes, expected: type[M], chunk: int, chunks: int, sender: str = ""
) -> tuple[M, bytes]:
    """`open_chunk` with the plaintext body beside the message. `sender`: who sealed it, by default the partner.

    A task keys its randomness with the plaintext, not with the seal around it: HPKE is randomised, and the same
    body sealed twice must not give another mask. Raises as `open_chunk` does.
    """
    kind, sender = codec.kind_of(expected), sender or context.partner.name
    info = seal.seal_info(PROTOCOL_VERSION, context.job, sender, context.party, kind, chunk, chunks)
    where = f"{kind} chunk {chunk} of {chunks} from {sender}"
    try:
        plain = seal.unseal(sealed, context.identity, info)
        message = codec.decode(plain)
    except seal.SealError:
        raise TaskRefused("seal_broken", f"{where} cannot be opened with this party's key") from None
    except codec.CodecError as error:
        raise TaskRefused("message_malformed", f"{where} cannot be read: {error}") from None
    if not isinstance(message, expected):
        raise TaskRefused("message_malformed", f"{where} holds a {codec.kind_of(message)}")
    return message, plain
