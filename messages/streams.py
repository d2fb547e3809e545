"""Streams of chunks: how rows are cut, and what may come next."""

import msgspec


class StreamError(ValueError):
    """A chunk that is out of turn, repeated, or of another stream."""


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """How far a stream has come: `next` of `chunks` is expected (0 chunks: not known yet)."""

    chunks: int = 0
    next: int = 0

    @property
    def complete(self) -> bool:
        """Whether every chunk has come."""
        return self.chunks > 0 and self.next == self.chunks


def accept(stream: Stream, chunk: int, chunks: int) -> Stream:
    """The stream after a chunk. Raises StreamError for a gap, a repeat or a changed total."""
    if chunks < 1 or (stream.chunks and chunks != stream.chunks):
        raise StreamError(f"a stream of {stream.chunks} chunks cannot have {chunks}")
    if chunk != stream.next or chunk >= chunks:
        raise StreamError(f"chunk {chunk} of {chunks} came, chunk {stream.next} was expected")
    return Stream(chunks=chunks, next=chunk + 1)


def rows_per_chunk(bytes_per_row: int, multiple_of: int, body_bytes_max: int = 2**20) -> int:
    """Rows that fit a body: a multiple of `multiple_of`, at least one multiple.

    Raises ValueError when not even one multiple fits, or when a width is not positive.
    """
    if bytes_per_row < 1 or multiple_of < 1:
        raise ValueError(f"rows of {bytes_per_row} bytes, {multiple_of} at a time: both must be positive")
    fits = body_bytes_max // bytes_per_row // multiple_of * multiple_of
    if fits < multiple_of:
        raise ValueError(f"{multiple_of} rows of {bytes_per_row} bytes do not fit a body of {body_bytes_max} bytes")
    return fits


def chunk_count(rows: int, per_chunk: int) -> int:
    """Chunks that `rows` take, one at least: an empty stream has one empty chunk, so that its end is seen."""
    return max(1, -(-rows // per_chunk))
