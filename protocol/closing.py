"""The end of a job: the own target parameters, and that all parties have come to them by the same scalars."""

import msgspec

from learning.arithmetic import masked
from messages import schemas
from protocol import evaluating, handing_over, stopping
from protocol.contract import JobContract
from protocol.effects import BlobRef, Computed, Finish, Send
from protocol.facts import job_arguments, mask_arguments
from protocol.peer import Peer
from protocol.samples import tariff_arguments
from protocol.state import BUSINESS, JobState, Phase
from protocol.steps import (
    Outcome,
    change,
    compute,
    expect,
    is_business,
    output_of,
    progress,
    tell_all,
    waits_for,
    with_peer,
)


def result_names(contract: JobContract, role: str) -> tuple[str, ...]:
    """What the results of a job are called, in the order in which `Finish` names them."""
    names = ["parameters.json", "history.json"]
    if contract.inference:
        names.append("inference.json")
    if contract.evaluate and role == BUSINESS:
        names += ["metrics.json", "scores.csv"]
    return tuple(names)


def close(state: JobState) -> Outcome:
    """Everything is known: take the last step, and tell the partners that this party is done."""
    state = change(state, phase=Phase.CLOSING)
    for peer in state.peers:
        _check_agreement(state, peer)
    if is_business(state):
        return results_when_told(state)
    state, effects = evaluating.start(state)
    state, more = _results(state)
    return state, (*effects, *more)


def results_when_told(state: JobState) -> Outcome:
    """The business needs every provider's part of the intercept first, and its scores if they are evaluated."""
    late = evaluating.outstanding(state)
    missing = [peer.name for peer in state.peers if peer.said is None or late]
    return (state, (progress(state, "finish", waits_for=waits_for(missing)),)) if missing else _results(state)


def _results(state: JobState) -> Outcome:
    facts = [msgspec.to_builtins(fact) for fact in state.facts]
    arguments: dict[str, object] = {
        "iterations": _iterations_trained(state),
        "converged": state.converged,
        "stop_reason": state.stop_reason,
        "facts": facts,
        "combination": state.combination,
        "constant": 0.0,
        "job": job_arguments(state),
        **tariff_arguments(state),
        **({"validation": state.validation} if state.validation else {}),
    }
    if is_business(state):
        constants = _constants(state)
        if state.terms_of.classes:
            arguments["constants"] = list(constants)
            state = change(state, provider_constants=constants) if state.several else state
        else:
            arguments["constant"] = constants[0]
            state = change(state, provider_constant=constants[0])
    elif state.several:
        arguments["masks"] = mask_arguments(state, providers_only=True)
    if state.several:
        arguments["released"] = {peer.name: peer.columns for peer in state.peers}
    arguments.update(_inference_arguments(state))
    arguments.update(stopping.results_arguments(state))
    arguments.update(handing_over.asked(state))
    inputs = (state.snapshot, state.features.history, state.features.preparation, *_inference_inputs(state))
    task = compute("results", "results", arguments, inputs)
    return state, (task, progress(state, "finish"))


def _iterations_trained(state: JobState) -> int:
    """Iterations of training: all but the turns of the stage."""
    return state.iteration if state.inference is None else state.inference.iterations


def _inference_arguments(state: JobState) -> dict[str, object]:
    """What the last task needs to make the table of errors; nothing in a job without the stage."""
    return {} if state.inference is None else {"inference": state.inference.partner_block}


def _inference_inputs(state: JobState) -> tuple[BlobRef, ...]:
    """Its further inputs."""
    current = state.inference
    return () if current is None or current.curvature is None else (current.curvature,)


def _constants(state: JobState) -> tuple[float, ...]:
    """The providers' part of the intercept, of several classes of each one's; of several providers the sum alone."""
    if state.several:
        parts = [peer.intercept_part for peer in state.peers]
        numbers = [[part[i : i + masked.WIDTH] for i in range(0, len(part), masked.WIDTH)] for part in parts]
        return masked.unmasked(numbers)
    return state.peers[0].constants if state.terms_of.classes else (state.peers[0].constant,)


def results_ready(state: JobState, event: Computed) -> Outcome:
    """The own target parameters are stored: say done. The provider's part of the intercept goes along."""
    state = change(state, results=(*event.blobs, *state.evaluation.results))
    output = output_of(event.output)
    said = schemas.JobDone(
        iterations=state.iteration,
        converged=state.converged,
        agreement=state.agreement,
        constant=0.0 if is_business(state) or state.several else output.get("constant", 0.0),
        constants=[] if is_business(state) or state.several else list(output.get("constants", [])),
    )
    sends = tell_all(state, said)
    if state.several and not is_business(state):
        part = Send(message=schemas.InterceptPart(masked=output["masked"]), recipient=state.terms_of.business)
        sends = (part, *sends)
    sends = (*handing_over.said(state, output), *sends)
    state, effects = _finish_when_ready(state)
    return state, (*sends, *effects)


def part_received(state: JobState, message: schemas.InterceptPart, sender: str) -> Outcome:
    """A provider's part of the intercept, which only the sum of all tells."""
    peer = state.peer(sender)
    expect(not peer.intercept_part, "part_repeated", f"{peer.name} sent two parts of the intercept")
    count = max(1, state.terms_of.classes)
    expect(
        len(message.masked) == masked.WIDTH * count,
        "constant_wrong",
        f"{peer.name} says {len(message.masked)} bytes for {count} parts of intercepts of {masked.WIDTH} bytes",
    )
    return with_peer(state, change(peer, intercept_part=message.masked)), ()


def done_received(state: JobState, message: schemas.JobDone, sender: str) -> Outcome:
    """A partner is done; it must have derived the same shared scalars."""
    peer = state.peer(sender)
    # Among three, one may be done while this party still waits for another's row: judged when that is here.
    expect(
        state.phase is Phase.CLOSING or state.several,
        "unexpected_message",
        f"job.done from {peer.name} while {state.role} {state.me} is {state.phase.value}",
    )
    expect(peer.said is None, "done_repeated", f"{peer.name} said job.done twice")
    expect(
        not state.several
        or not (message.constant or message.constants or (is_business(state) and not peer.intercept_part)),
        "constant_wrong",
        f"{peer.name} says its part of the intercept in the clear, or not at all",
    )
    expect(
        not handing_over.missing(state, peer),
        "model_part_missing",
        f"{peer.name} is done without handing over its part of the model, as the contract says",
    )
    said = (message.iterations, message.converged, message.agreement)
    quiet = state.several or peer.name == state.terms_of.business
    expect(
        len(message.constants) == (0 if quiet else state.terms_of.classes),
        "constant_wrong",
        f"{peer.name} says {len(message.constants)} parts of intercepts in a job of {state.terms_of.classes} classes",
    )
    peer = change(peer, said=said, constant=message.constant, constants=tuple(message.constants))
    state = with_peer(state, peer)
    if state.phase is not Phase.CLOSING:
        return state, ()
    _check_agreement(state, peer)
    return results_when_told(state) if is_business(state) else _finish_when_ready(state)


def _check_agreement(state: JobState, peer: Peer) -> None:
    expect(
        peer.said in (None, (state.iteration, state.converged, state.agreement)),
        "agreement_differs",
        f"{peer.name} derived other step coefficients: its software or its journal differs from this party's",
    )


def _finish_when_ready(state: JobState) -> Outcome:
    if not state.results or any(peer.said is None for peer in state.peers):
        return state, ()
    return change(state, phase=Phase.DONE), (Finish(outcome="done", results=state.results),)
