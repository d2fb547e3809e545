"""The seeds of the rows' division into parts (`learning.parts`), and what came of it. Nothing of it where the
contract divides no rows."""

from typing import Any

import msgspec

from learning import parts
from messages import schemas
from protocol.contract import JobContract
from protocol.effects import Send
from protocol.state import JobState, Parts
from protocol.steps import Outcome, change, expect, is_business


def begin_business(state: JobState, contract: JobContract, facts: bytes) -> JobState:
    """Take up the seed that the contract commits to: it follows from the salt of the contract's digests."""
    if not contract.layout.divides:
        return state
    salt: bytes = msgspec.msgpack.decode(facts, type=dict[str, bytes])["salt"]
    return change(state, parts=Parts(own_seed=parts.own_seed(salt)))


def begin_provider(state: JobState, output: dict[str, Any]) -> tuple[JobState, tuple[Send, ...]]:
    """Show the own seed, bound by nothing: the business has bound itself already."""
    if not state.terms_of.layout.divides:
        return state, ()
    seed: bytes = output["parts_seed"]
    return change(state, parts=Parts(own_seed=seed)), (Send(message=schemas.PartsSeed(seed=seed)),)


def seed_received(state: JobState, message: schemas.PartsSeed, sender: str) -> Outcome:
    """The partner's seed: the business shows its own now, the provider compares it with the contract."""
    contract = state.terms_of
    expect(
        contract.layout.divides and not state.parts.partner_seed,
        "parts_repeated",
        f"{sender} sent a seed for parts that the contract does not have, or a second one",
    )
    state = change(state, parts=change(state.parts, partner_seed=message.seed))
    if is_business(state):
        return state, (Send(message=schemas.PartsSeed(seed=state.parts.own_seed)),)
    expect(
        parts.commitment(message.seed) == contract.parts_commitment,
        "parts_commitment",
        f"the seed of {sender} is not the one that its contract committed to",
    )
    return state, ()


def agreed(state: JobState) -> bool:
    """Whether nothing of the division is outstanding."""
    terms = state.alignment_terms  # a scoring contract divides nothing
    return not isinstance(terms, JobContract) or not terms.layout.divides or bool(state.parts.partner_seed)


def arguments(state: JobState) -> dict[str, object]:
    """What the task that finds the common rows is told of their division."""
    contract = state.terms_of
    layout = contract.layout
    if not layout.divides:
        return {}
    mine, theirs = state.parts.own_seed, state.parts.partner_seed
    seeds = (mine, theirs) if is_business(state) else (theirs, mine)
    return {
        "parts": {
            "seed": parts.joint_seed(seeds),
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
