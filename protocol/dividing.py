"""The seeds of the rows' division into parts (`learning.parts`), and what came of it. Nothing of it where the
contract divides no rows.

The business is bound to its seed by the contract and shows it when it has those of all providers, so nobody can choose
rows. Of several providers each shows its seed to the others itself, as soon as they may speak to each other: all
compute the division, and the business tells nobody what another's seed is.
"""

from typing import Any

import msgspec

from learning import parts
from messages import schemas
from protocol.contract import JobContract
from protocol.effects import Send
from protocol.peer import Peer
from protocol.state import JobState, Parts
from protocol.steps import Outcome, change, expect, is_business, tell_all, with_peer


def begin_business(state: JobState, contract: JobContract, facts: bytes) -> JobState:
    """Take up the seed that the contract commits to: it follows from the salt of the contract's digests."""
    if not contract.layout.divides:
        return state
    salt: bytes = msgspec.msgpack.decode(facts, type=dict[str, bytes])["salt"]
    return change(state, parts=Parts(own_seed=parts.own_seed(salt)))


def begin_provider(state: JobState, output: dict[str, Any]) -> tuple[JobState, tuple[Send, ...]]:
    """Show the own seed, bound by nothing, as the business has bound itself already. Of several: `all_told`."""
    if not state.terms_of.layout.divides:
        return state, ()
    seed: bytes = output["parts_seed"]
    said = () if state.several else (Send(message=schemas.PartsSeed(seed=seed)),)
    return change(state, parts=Parts(own_seed=seed)), said


def seed_received(state: JobState, message: schemas.PartsSeed, sender: str) -> Outcome:
    """A seed: the business shows its own when it has all others, a provider checks the business's by the contract."""
    contract, peer = state.terms_of, state.peer(sender)
    expect(
        contract.layout.divides and not _seed_of(state, peer),
        "parts_repeated",
        f"{sender} sent a seed for parts that the contract does not have, or a second one",
    )
    if state.several:
        state = with_peer(state, change(peer, seed=message.seed))
    else:
        state = change(state, parts=change(state.parts, partner_seed=message.seed))
    if is_business(state):
        return state, tell_all(state, schemas.PartsSeed(seed=state.parts.own_seed)) if agreed(state) else ()
    expect(
        peer.name != contract.business or parts.commitment(message.seed) == contract.parts_commitment,
        "parts_commitment",
        f"the seed of {sender} is not the one that its contract committed to",
    )
    return state, ()


def agreed(state: JobState) -> bool:
    """Whether nothing of the division is outstanding."""
    terms = state.alignment_terms  # a scoring contract divides nothing
    if not isinstance(terms, JobContract) or not terms.layout.divides:
        return True
    return all(_seed_of(state, peer) for peer in state.peers)


def _seed_of(state: JobState, peer: Peer) -> bytes:
    return peer.seed if state.several else state.parts.partner_seed


def all_told(state: JobState) -> tuple[Send, ...]:
    """One of several providers shows its seed to all, now that providers may speak to each other."""
    return tell_all(state, schemas.PartsSeed(seed=state.parts.own_seed)) if state.parts.own_seed else ()


def arguments(state: JobState) -> dict[str, object]:
    """What the task that finds the common rows is told of their division."""
    contract = state.terms_of
    layout = contract.layout
    if not layout.divides:
        return {}
    seeds = {peer.name: _seed_of(state, peer) for peer in state.peers} | {state.me: state.parts.own_seed}
    return {
        "parts": {
            "seed": parts.joint_seed([seeds[name] for name in contract.parties]),
            "schema": contract.identifier_schema,
            "validation": layout.validation,
            "test": layout.test,
            "blocks": layout.blocks,
            "nested": layout.nested,
        }
    }


def divided(state: JobState, output: dict[str, Any]) -> JobState:
    """Keep how many rows each part has."""
    if "blocks" not in output:
        return state
    sizes = change(state.parts, blocks=tuple(output["blocks"]), validation=output["validation"], test=output["test"])
    return change(state, parts=sizes)
