"""Facts of a job that follow from its contract and the aligned rows: widths, chunks, codes, the chain of providers."""

from typing import Final

from learning.columns.codes import FeatureCodeSet
from messages.streams import chunk_count, rows_per_chunk
from paillier.budget import BitBudget, bit_budget
from protocol.peer import Peer
from protocol.state import JobState
from protocol.steps import is_business

FEATURE_CHUNK_ROWS: Final = 4
"""Feature chunks have up to this many times the rows of a link chunk: they have one ciphertext a row."""

BODY_BYTES_MAX: Final = 2**20 - 4096
"""Ciphertext bytes in a chunk's body at most: 1 MiB with room for the message around them and the seal."""


def budget_of(state: JobState) -> BitBudget:
    """Every width of the job, derived in one place (protocol.md section 6)."""
    contract = state.terms_of
    family, chain = contract.family, len(contract.providers)
    return bit_budget(
        state.rows, contract.key_bits, family.residual_bound, providers=chain, value_bits=family.value_bits
    )


def cipher_bytes(state: JobState) -> int:
    """Bytes of one ciphertext on the wire."""
    return state.terms_of.key_bits // 4


def all_columns(state: JobState) -> dict[str, int]:
    """Columns of every party, in the contract's order; those of the business with its intercept."""
    known = {peer.name: peer.columns for peer in state.peers} | {state.me: state.own_columns}
    return {name: known[name] for name in state.terms_of.parties}


def partner_columns(state: JobState) -> int:
    """Columns of all other parties together."""
    return sum(peer.columns for peer in state.peers)


def codes_of(state: JobState, party: str) -> list[int]:
    """A party's codes in the job's feature code set."""
    business, *providers = all_columns(state).values()
    codes = FeatureCodeSet(business=business, provider=providers[0], further=tuple(providers[1:]))
    return list(codes.codes_of(state.terms_of.parties.index(party)))


# -- the chain: business, first provider, ..., last provider, and back to the business ----------------------------


def holds_share(state: JobState, party: str = "") -> bool:
    """Whether a party (this one by default) holds one of the two shares of the residuals."""
    return (party or state.me) in state.terms_of.holders


def holders_besides(state: JobState) -> tuple[Peer, ...]:
    """The partners that hold a share, in the contract's order: one for a holder, two for everybody else."""
    return tuple(state.peer(name) for name in state.terms_of.holders if name != state.me)


def before_in_chain(state: JobState) -> Peer:
    """Whom this provider gets link terms from."""
    parties = state.terms_of.parties
    return state.peer(parties[parties.index(state.me) - 1])


def after_in_chain(state: JobState) -> Peer:
    """Whom link terms go on to, or, from the last provider, the shares."""
    parties = state.terms_of.parties
    return state.peer(parties[(parties.index(state.me) + 1) % len(parties)])


# -- chunks ---------------------------------------------------------------------------------------------------------


def ciphertexts_per_row(state: JobState, columns: int) -> int:
    """Feature ciphertexts that one row of `columns` columns takes."""
    return -(-columns // budget_of(state).columns_per_ciphertext)


def feature_chunk_rows(state: JobState, columns: int) -> int:
    """Rows in one chunk of encrypted features of `columns` columns."""
    per_row = ciphertexts_per_row(state, columns) * cipher_bytes(state)
    return min(rows_per_chunk(per_row, 1, BODY_BYTES_MAX), FEATURE_CHUNK_ROWS * state.terms_of.chunk_rows_max)


def own_chunks(state: JobState) -> tuple[int, int]:
    """(rows in a chunk, chunks) of this party's encrypted features."""
    rows = feature_chunk_rows(state, state.own_columns)
    return rows, chunk_count(state.rows, rows)


def partner_chunks(state: JobState, peer: Peer) -> tuple[int, int]:
    """(rows in a chunk, chunks) of a partner's encrypted features."""
    rows = feature_chunk_rows(state, peer.columns)
    return rows, chunk_count(state.rows, rows)


def link_chunks(state: JobState, terms: int) -> tuple[int, int]:
    """(rows in a chunk, chunks) of an iteration's link terms: within the contract's rows and 1 MiB."""
    width, classes = packed_rows(state), len(state.round.sample.classes) or 1
    fits = rows_per_chunk((terms + 1) * classes * cipher_bytes(state), width, BODY_BYTES_MAX)
    most = max(width, min(fits, state.terms_of.chunk_rows_max // width * width))
    chunks = chunk_count(state.round.sample.rows or state.rows, most)
    return rows_of_chunks(state, chunks), chunks


def packed_rows(state: JobState) -> int:
    """Rows whose residuals fill a ciphertext: with several classes, rows with the residuals of all of them."""
    return max(1, budget_of(state).rows_per_ciphertext // (len(state.round.sample.classes) or 1))


def rows_of_chunks(state: JobState, chunks: int) -> int:
    """Rows in each of `chunks` chunks: the smallest multiple of the packing width that covers the iteration's.

    The number of chunks stands in the header of every chunk, so the receiver derives the cut from it alone.
    0 when no such cut exists or a chunk would be larger than the contract allows.
    """
    width, iteration_rows = packed_rows(state), state.round.sample.rows or state.rows
    share = -(-iteration_rows // max(1, chunks))
    rows = width * max(1, -(-share // width))
    covers = chunks >= 1 and chunk_count(iteration_rows, rows) == chunks
    return rows if covers and rows <= max(width, state.terms_of.chunk_rows_max) else 0


def job_arguments(state: JobState, peer: Peer | None = None) -> dict[str, object]:
    """What every cryptographic task of a job is told: the facts that fix widths and keys.

    `peer`: the partner whose columns and key are meant, the first by default. `sources`: whose noise the own
    gradient carries, one holder's or both.
    """
    contract = state.terms_of
    other = peer or state.peers[0]
    return {
        "rows": state.rows,
        "key_bits": contract.key_bits,
        "insecure": "insecure" in contract.marks,
        "task": contract.task,
        "label_bound": contract.label_bound,
        "role": state.role,
        "own_columns": state.own_columns,
        "partner": other.name if state.several else "",
        "partner_columns": other.columns,
        "partner_modulus": other.features.modulus,
        "providers": len(contract.providers),
        "sources": len(holders_besides(state)),
        "release_noise": contract.release_noise,
        "reproducible": "reproducible" in contract.marks,
        "l2": contract.l2,
        **contract.family_arguments,
    }


def mask_arguments(state: JobState, *, providers_only: bool = False) -> dict[str, object]:
    """What a task needs to mask what only a sum may tell: the other parties' keys, and who adds which mask."""
    keys = {peer.name: peer.features.mask_key for peer in state.peers}
    if providers_only and not is_business(state):
        keys.pop(state.terms_of.business)
    people = {"people": state.align.people} if state.align.people else {}
    return {"me": state.me, "order": list(state.terms_of.parties), "keys": keys, **people}
