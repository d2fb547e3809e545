"""What comes of an evaluation: the figures of a job that is over, or, in one that stops early, whether it goes on."""

import hashlib

import msgspec

from learning.solvers import loops
from messages import schemas
from protocol import closing, evaluating, iterating, stopping
from protocol.effects import Computed, Release
from protocol.facts import job_arguments
from protocol.samples import plan_of
from protocol.state import Evaluation, JobState
from protocol.steps import Outcome, change, compute, expect, output_of, progress, tell_all
from protocol.stop_rules import BETTER_HIGHER


def opened(state: JobState, event: Computed) -> Outcome:
    """A chunk of a provider's scores is checked; when all are, add the own scores and compute the figures."""
    state, consumed = evaluating.opened(state, event)
    if evaluating.midway(state):
        state, effects = stopping.judge_when_ready(state)
        return state, (consumed, *effects)
    if not evaluating.complete(state):
        return state, (consumed,)
    features = state.features
    task = compute(
        "evaluate.results",
        "evaluate.results",
        {
            "combination": state.combination,
            "pieces": evaluating.pieces(state),
            "providers": len(state.peers),
            "job": job_arguments(state),
        },
        (
            *(state.snapshot, state.align.rows, features.matrix, features.history, features.label),
            *evaluating.told(state),
        ),
    )
    return state, (consumed, task, progress(state, "finish"))


def evaluated(state: JobState, event: Computed) -> Outcome:
    """The figures are there: the job can end when everything else is."""
    state = change(state, evaluation=change(state.evaluation, results=event.blobs))
    return closing.results_when_told(state)


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
