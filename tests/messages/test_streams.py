"""Chunk streams: cut so that each chunk fits its message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages import schemas
from messages.codec import encode
from messages.seal import OVERHEAD_BYTES
from messages.streams import chunk_count, rows_per_chunk


@given(st.integers(0, 10**6), st.integers(1, 5000), st.integers(1, 60))
def test_rows_are_cut_into_the_largest_chunks_that_fit(rows: int, bytes_per_row: int, multiple: int) -> None:
    per_chunk = rows_per_chunk(bytes_per_row, multiple)
    assert per_chunk % multiple == 0
    assert per_chunk * bytes_per_row <= 2**20 < (per_chunk + multiple) * bytes_per_row
    chunks = chunk_count(rows, per_chunk)
    assert (chunks - 1) * per_chunk < max(rows, 1) <= chunks * per_chunk


@pytest.mark.parametrize(("bytes_per_row", "multiple"), [(2**20, 2), (2**20 + 1, 1), (0, 1), (1, 0), (-1, 1)])
def test_rows_that_fit_no_chunk_are_an_error(bytes_per_row: int, multiple: int) -> None:
    with pytest.raises(ValueError, match=r"do not fit|must be positive"):
        rows_per_chunk(bytes_per_row, multiple)


def test_what_stands_around_the_ciphertexts_of_a_chunk_fits_four_kibibytes() -> None:
    # The rooms above cut bodies of 1 MiB - 4096 bytes so that the sealed message stays within 1 MiB.
    cipher = bytes(2**20 - 4096)
    count = 2**48
    for message in (
        schemas.LinkTerms(
            iteration=100_000, first_row=count, rows=count, terms=256, bound=1e300, stretch=1e300, ciphertexts=cipher
        ),
        schemas.FeaturesEncrypted(first_row=count, rows=count, ciphertexts=cipher),
        schemas.ResidualShare(iteration=100_000, first_row=count, rows=count, ciphertexts=cipher),
        schemas.AlignList(points=cipher),
        schemas.AlignEcho(tokens=cipher),
    ):
        assert len(encode(message)) + OVERHEAD_BYTES <= 2**20
