"""Turns of a cross-validation that take the last gradient under another penalty: nobody encrypts anything for them.

So nobody waits for link terms either: of several parties one that has all rows of an iteration sends its row of such a
turn while another still waits for a third one's row. That row is kept until the turn begins here, too.
"""

from messages import schemas
from protocol.facts import job_arguments, mask_arguments
from protocol.peer import Peer, PeerRound
from protocol.samples import own_arguments, turn_of
from protocol.state import JobState, Phase, Round
from protocol.steps import Outcome, change, compute, expect, progress, with_peer


def begin(state: JobState) -> Outcome:
    """The last gradient under another penalty."""
    products = turn_of(state).products
    peers = tuple(change(peer, round=_round_of(peer, products), early_row=None) for peer in state.peers)
    after = Round(differentiating=True)
    state = change(state, phase=Phase.CROSSING, iteration=state.iteration + 1, round=after, peers=peers)
    arguments = {"iteration": state.iteration, "job": job_arguments(state), **own_arguments(state)}
    if state.several:
        arguments["masks"] = mask_arguments(state)
    task = compute(f"gradient/{state.iteration}", "gradient", arguments, (state.features.history,))
    return state, (task, progress(state, "train", total=state.rows))


def ahead(state: JobState, peer: Peer) -> bool:
    """Whether a row from a partner can only be of a turn that has not begun here."""
    waiting = state.phase is Phase.STEPPING and peer.round.masked is not None
    return waiting and peer.early_row is None and bool(state.terms_of.penalties)


def row_kept(state: JobState, peer: Peer, message: schemas.StepMasked) -> JobState:
    """Keep a partner's row of the next turn."""
    expect(
        message.iteration == state.iteration + 1,
        "products_repeated",
        f"{peer.name} sent two rows for iteration {state.iteration}",
    )
    return with_peer(state, change(peer, early_row=(tuple(message.row), message.largest)))


def _round_of(peer: Peer, products: int) -> PeerRound:
    if peer.early_row is None:
        return PeerRound()
    row, largest = peer.early_row
    expect(len(row) == products, "products_wrong", f"{len(row)} products from {peer.name} where {products} are due")
    return PeerRound(masked=row, largest=largest)
