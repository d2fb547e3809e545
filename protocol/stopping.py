"""Early stopping: training ends when a metric of held-out rows gets no better, and the best model so far is kept.

A job whose contract names a `stop_metric` pauses after every `stop_every`-th iteration, and where its loop ends. The
model under evaluation is the one that the job would end with if that iteration were its last: a combination of the
gradients so far. The provider sends its scores of the validation rows by that model (`score.partial`, rounded as in a
scoring job; of several providers under masks that cancel in their sum). The business adds its own, computes the metric
at home and says whether to go on and which iteration is the best so far (`stop.decision`). All keep that iteration's
combination, a few numbers; the metric never leaves the business.

Each evaluation is one projection of every validation row: the contract bounds their number, the provider's policy and
its number of columns bound the contract (docs/protocol.md, section 5).
"""

import hashlib

import msgspec

from learning.solvers import loop, loops
from messages import schemas
from protocol import evaluating
from protocol.effects import Computed, Release
from protocol.facts import job_arguments
from protocol.samples import plan_of
from protocol.state import Evaluation, JobState, Phase
from protocol.steps import Outcome, change, compute, expect, is_business, output_of, progress, tell_all, waits_for
from protocol.stop_rules import BETTER_HIGHER


def wanted(state: JobState) -> bool:
    """Whether the job stops early."""
    return bool(state.terms_of.stop_metric)


def due(state: JobState, step: loop.Step) -> bool:
    """Whether the model of the present iteration is evaluated: every so often, and where the loop ends."""
    return wanted(state) and (step.stop or state.iteration % state.terms_of.stop_every == 0)


def candidate(state: JobState, row: tuple[float, ...], largest: float, step: loop.Step) -> tuple[float, ...]:
    """The target parameters that a job would have which had to end with this iteration. `state`: that before it."""
    if step.stop:
        return step.combination
    return loops.advance(plan_of(state), state.loop, row, largest, last=True)[1].combination


def begin(state: JobState, model: tuple[float, ...], step: loop.Step) -> Outcome:
    """An iteration is done and its model is to be evaluated before anything follows."""
    current = change(state.stopping, candidate=model, onward=step.combination, ended=step.reason if step.stop else "")
    state = change(state, phase=Phase.EVALUATING, stopping=current)
    if is_business(state):
        waiting = progress(state, "train", waits_for=waits_for(list(state.partners)))
        state, effects = judge_when_ready(state)
        return state, (waiting, *effects)
    state, effects = evaluating.start(state)
    return state, (*effects, progress(state, "train", waits_for=state.terms_of.business))


def judge_when_ready(state: JobState) -> Outcome:
    """All scores of the validation rows are there, and it is known of which model: compute the metric."""
    if state.phase is not Phase.EVALUATING or not evaluating.complete(state):
        return state, ()
    contract, features = state.terms_of, state.features
    task = compute(
        f"stop.judge/{state.iteration}",
        "stop.judge",
        {
            "metric": contract.stop_metric,
            "combination": state.stopping.candidate,
            "pieces": evaluating.pieces(state),
            "providers": len(state.peers),
            "job": job_arguments(state),
        },
        (features.matrix, features.history, features.label, *evaluating.told(state)),
    )
    return state, (task,)


def judged(state: JobState, event: Computed) -> Outcome:
    """The metric is known: decide, and tell the providers."""
    contract, current = state.terms_of, state.stopping
    figure: float = output_of(event.output)["figure"]
    figures = (*current.figures, figure)
    best = state.iteration
    if current.best:
        former = current.figures[current.evaluated.index(current.best)]
        improved = figure > former if contract.stop_metric in BETTER_HIGHER else figure < former
        best = state.iteration if improved else current.best
    evaluated = (*current.evaluated, state.iteration)
    spent = len(evaluated) >= contract.stop_evaluations_max
    tired = len(evaluated) - 1 - evaluated.index(best) >= contract.patience
    stop = bool(current.ended) or spent or tired
    said = tell_all(state, schemas.StopDecision(iteration=state.iteration, best=best, stop=stop))
    freed = tuple(Release(body=ref) for ref in evaluating.told(state))
    state, effects = _decided(change(state, stopping=change(current, figures=figures)), best, stop=stop)
    return state, (*freed, *said, *effects)


def decision_received(state: JobState, message: schemas.StopDecision, sender: str) -> Outcome:
    """The business has seen the metric."""
    current = state.stopping
    expect(
        message.iteration == state.iteration and evaluating.sent(state),
        "iteration_wrong",
        f"stop.decision of iteration {message.iteration} from {sender} in iteration {state.iteration}, or before the "
        "scores that it is about",
    )
    must = bool(current.ended) or len(current.evaluated) + 1 >= state.terms_of.stop_evaluations_max
    expect(
        message.best in {current.best or state.iteration, state.iteration} and (message.stop or not must),
        "decision_wrong",
        f"stop.decision from {sender} keeps iteration {message.best}, which was neither the best so far nor is the "
        "present one, or goes on beyond the end",
    )
    return _decided(state, message.best, stop=message.stop)


def _decided(state: JobState, best: int, *, stop: bool) -> Outcome:
    """What all parties make of the decision."""
    from protocol import iterating

    current, contract = state.stopping, state.terms_of
    said = msgspec.msgpack.encode((state.iteration, best, stop))
    current = change(
        current,
        evaluated=(*current.evaluated, state.iteration),
        best=best,
        kept=current.candidate if best == state.iteration else current.kept,
        candidate=(),
        onward=(),
    )
    onward = state.stopping.onward
    state = change(
        state,
        stopping=current,
        evaluation=Evaluation(),
        agreement=hashlib.sha256(state.agreement + said).digest(),
    )
    if not stop:
        return iterating.go_on(state, onward)
    spent = len(current.evaluated) >= contract.stop_evaluations_max
    reason = current.ended or ("evaluations" if spent else "patience")
    state = change(state, converged=state.converged and best == state.iteration)
    return iterating.end(state, _padded(state), reason)


def _padded(state: JobState) -> tuple[float, ...]:
    """The kept combination over all gradients that there are now: one class's after the other, of several.

    That of an l1 penalty has a step length at its end (`learning.solvers.history.take_step`).
    """
    plan, kept, last = plan_of(state), state.stopping.kept, 1 if state.terms_of.l1 else 0
    found: tuple[float, ...] = ()
    at = 0
    for before, now in zip(
        loops.gradients(plan, state.loop, state.stopping.best),
        loops.gradients(plan, state.loop, state.iteration),
        strict=True,
    ):
        end = at + before
        found = (*found, *kept[at:end], *(0.0,) * (now - before), *kept[end : end + last])
        at = end + last
    return found


def results_arguments(state: JobState) -> dict[str, object]:
    """What the last task notes in the history; nothing in other jobs. Only the business has the figures."""
    if not wanted(state):
        return {}
    current, contract = state.stopping, state.terms_of
    return {
        "stopping": {
            "metric": contract.stop_metric,
            "patience": contract.patience,
            "every": contract.stop_every,
            "best": current.best,
            "evaluated": current.evaluated,
            **({"figures": current.figures} if is_business(state) else {}),
        }
    }
