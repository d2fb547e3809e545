"""Streams of chunks: how rows are cut."""


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
