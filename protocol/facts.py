"""Facts of a job that follow from its contract and the aligned rows: widths, chunks, codes."""

from typing import Final

from learning.codes import FeatureCodeSet
from messages.streams import chunk_count, rows_per_chunk
from paillier.budget import BitBudget, bit_budget
from protocol.state import JobState
from protocol.steps import is_business

FEATURE_CHUNK_ROWS: Final = 4
"""Feature chunks have up to this many times the rows of a link chunk: they have one ciphertext a row."""

BODY_BYTES_MAX: Final = 2**20 - 4096
"""Ciphertext bytes in a chunk's body at most: 1 MiB with room for the message around them and the seal."""


def budget_of(state: JobState) -> BitBudget:
    """Every width of the job, derived in one place (protocol.md section 6)."""
    contract = state.terms_of
    family = contract.family
    return bit_budget(state.rows, contract.key_bits, family.residual_bound, value_bits=family.value_bits)


def cipher_bytes(state: JobState) -> int:
    """Bytes of one ciphertext on the wire."""
    return state.terms_of.key_bits // 4


def columns_business(state: JobState) -> int:
    """Columns of the business, intercept included."""
    return state.own_columns if is_business(state) else state.partner_columns


def columns_provider(state: JobState) -> int:
    """Columns of the provider."""
    return state.partner_columns if is_business(state) else state.own_columns


def ciphertexts_per_row(state: JobState, columns: int) -> int:
    """Feature ciphertexts that one row of `columns` columns takes."""
    return -(-columns // budget_of(state).columns_per_ciphertext)


def feature_chunk_rows(state: JobState, columns: int) -> int:
    """Rows in one chunk of encrypted features of `columns` columns."""
    per_row = ciphertexts_per_row(state, columns) * cipher_bytes(state)
    return min(rows_per_chunk(per_row, 1, BODY_BYTES_MAX), FEATURE_CHUNK_ROWS * state.terms_of.chunk_rows_max)


def own_codes(state: JobState) -> list[int]:
    """This party's codes in the job's feature code set."""
    codes = FeatureCodeSet(business=columns_business(state), provider=columns_provider(state))
    return list(codes.business_codes if is_business(state) else codes.provider_codes)


def own_chunks(state: JobState) -> tuple[int, int]:
    """(rows in a chunk, chunks) of this party's encrypted features."""
    rows = feature_chunk_rows(state, state.own_columns)
    return rows, chunk_count(state.rows, rows)


def partner_chunks(state: JobState) -> tuple[int, int]:
    """(rows in a chunk, chunks) of the partner's encrypted features."""
    rows = feature_chunk_rows(state, state.partner_columns)
    return rows, chunk_count(state.rows, rows)


def link_chunks(state: JobState, terms: int) -> tuple[int, int]:
    """(rows in a chunk, chunks) of an iteration's link terms: within the contract's rows and 1 MiB."""
    width = budget_of(state).rows_per_ciphertext
    fits = rows_per_chunk((terms + 1) * cipher_bytes(state), width, BODY_BYTES_MAX)
    most = max(width, min(fits, state.terms_of.chunk_rows_max // width * width))
    chunks = chunk_count(state.rows, most)
    return rows_of_chunks(state, chunks), chunks


def rows_of_chunks(state: JobState, chunks: int) -> int:
    """Rows in each of `chunks` chunks: the smallest multiple of the packing width that covers all rows.

    The number of chunks stands in the header of every chunk, so the receiver derives the cut from it alone.
    0 when no such cut exists or a chunk would be larger than the contract allows.
    """
    width = budget_of(state).rows_per_ciphertext
    share = -(-state.rows // max(1, chunks))
    rows = width * max(1, -(-share // width))
    covers = chunks >= 1 and chunk_count(state.rows, rows) == chunks
    return rows if covers and rows <= max(width, state.terms_of.chunk_rows_max) else 0


def job_arguments(state: JobState) -> dict[str, object]:
    """What every cryptographic task of a job is told: the facts that fix widths and keys."""
    contract = state.terms_of
    return {
        "rows": state.rows,
        "key_bits": contract.key_bits,
        "insecure": "insecure" in contract.marks,
        "task": contract.task,
        "label_bound": contract.label_bound,
        "role": state.role,
        "own_columns": state.own_columns,
        "partner_columns": state.partner_columns,
        "partner_modulus": state.features.partner_modulus,
        "release_noise": contract.release_noise,
        "reproducible": "reproducible" in contract.marks,
        "l2": contract.l2,
        **contract.family_arguments,
    }
