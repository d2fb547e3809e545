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

from learning.solvers import loop, loops
from protocol import evaluating
from protocol.facts import job_arguments
from protocol.samples import plan_of
from protocol.state import JobState, Phase
from protocol.steps import Outcome, change, compute, is_business, progress, waits_for


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
