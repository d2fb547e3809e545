"""Pairs of an alignment: what is between this party and each partner that it aligns with."""

from messages.streams import chunk_count
from protocol.peer import PairAlignment, Peer
from protocol.state import JobState
from protocol.steps import change, is_business, whole, with_peer


def pairs(state: JobState) -> tuple[Peer, ...]:
    """The partners that this party aligns with: providers with the business only."""
    return state.peers if is_business(state) else state.peers[:1]


def own_chunks(state: JobState) -> int:
    """Chunks of the own list."""
    return chunk_count(state.own_rows, state.alignment_terms.align_chunk_items)


def tokens_whole(state: JobState, align: PairAlignment) -> bool:
    """Whether the tokens of both lists of a pair are there."""
    return len(align.partner_tokens) == align.partner_chunks and whole(align.own_tokens, own_chunks(state))


def aligned(state: JobState, peer: Peer, align: PairAlignment) -> JobState:
    """The state with what is known of the alignment with a partner replaced."""
    return with_peer(state, change(peer, align=align))
