"""The whole model at the business, where the contract says so (`whole_model`): each provider hands over its part.

Otherwise every party keeps its own parameters to itself. What is handed over is the whole of a provider's part: names
of its columns, coefficients, grid and preparation, so that the business scores new rows of both tables without it.
"""

from typing import Any

import msgspec

from messages import codec, schemas
from protocol.effects import Send
from protocol.peer import Peer
from protocol.state import JobState
from protocol.steps import Outcome, change, expect, is_business, with_peer


def asked(state: JobState) -> dict[str, object]:
    """For the last task: a provider is to give its part out, the business to take the parts up."""
    if not state.terms_of.whole_model:
        return {}
    if not is_business(state):
        return {"whole_model": len(state.terms_of.providers)}
    return {"partners": {peer.name: msgspec.to_builtins(_part(peer)) for peer in state.peers}}


def _part(peer: Peer) -> schemas.ModelPart:
    message = codec.decode(peer.part)
    assert isinstance(message, schemas.ModelPart)
    return message


def said(state: JobState, output: dict[str, Any]) -> tuple[Send, ...]:
    """A provider's part, before it says that it is done."""
    if "part" not in output:
        return ()
    part = msgspec.convert(output["part"], schemas.ModelPart)
    return (Send(message=part, recipient=state.terms_of.business),)


def received(state: JobState, message: schemas.ModelPart, sender: str) -> Outcome:
    """A provider's part of the model."""
    peer = state.peer(sender)
    expect(
        state.terms_of.whole_model and not peer.part,
        "model_part_unwanted",
        f"{peer.name} hands over its part of a model that the contract leaves with it, or a second time",
    )
    sizes = {len(message.names), len(message.coefficients), len(message.centres), len(message.steps)}
    expect(
        sizes == {peer.columns} and len(set(message.names)) == len(message.names),
        "model_part_wrong",
        f"the part of {peer.name} has {sorted(sizes)} numbers for {peer.columns} columns, or a name twice",
    )
    return with_peer(state, change(peer, part=codec.encode(message))), ()


def missing(state: JobState, peer: Peer) -> bool:
    """Whether a provider said that it is done before it handed over its part."""
    return is_business(state) and state.terms_of.whole_model and not peer.part
