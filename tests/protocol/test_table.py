"""The transition tables: total, closed, and the same as the picture of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages import codec, schemas, unsequenced
from protocol import diagram, specification
from protocol.effects import CancelDecided, ComputeFailed, ControlReceived, Expired, Finish, Send
from protocol.machines import HANDLERS, ROLES, step
from protocol.state import TERMINAL, JobState, Phase
from protocol.table import TRANSITIONS

ROLE_PHASES = [(role, phase) for role, table in TRANSITIONS.items() for phase in table]
ENDINGS = {"compute_failed", "cancel", "expired", "control:job.cancel", "control:job.failed"}


def state_in(role: str, phase: Phase) -> JobState:
    """A state of a job in some phase."""
    return JobState(role=role, job="job-1", me="me", partner="partner", partners=("partner",), phase=phase)


def test_every_row_of_the_table_has_a_handler_and_every_handler_a_row() -> None:
    for role, table in TRANSITIONS.items():
        labels = {label for row in table.values() for label in row} - ENDINGS
        assert labels == set(HANDLERS[role])


def test_every_phase_can_be_reached_and_left() -> None:
    for table in TRANSITIONS.values():
        reached = {target for row in table.values() for targets in row.values() for target in targets}
        assert set(table) - {Phase.NEW} <= reached
        assert Phase.DONE in reached
        assert not set(table) & TERMINAL


@given(st.sampled_from(ROLE_PHASES))
def test_an_operator_can_cancel_in_every_phase(place: tuple[str, Phase]) -> None:
    state, effects = step(state_in(*place), CancelDecided(reason="no longer needed"))
    assert state.phase is Phase.CANCELLED
    assert [type(effect) for effect in effects] == [Send, Finish]


@given(st.sampled_from(ROLE_PHASES))
def test_expiry_ends_every_phase(place: tuple[str, Phase]) -> None:
    state, effects = step(state_in(*place), Expired())
    assert state.phase is Phase.EXPIRED
    assert isinstance(effects[-1], Finish)


@given(st.sampled_from(ROLE_PHASES))
def test_a_failed_task_ends_the_job_and_tells_the_partner(place: tuple[str, Phase]) -> None:
    event = ComputeFailed(task="t", function="f", reason_code="column_constant", reason="column 3")
    state, effects = step(state_in(*place), event)
    assert state.phase is Phase.FAILED
    assert isinstance(effects[0], Send)


@given(st.sampled_from(ROLE_PHASES), st.sampled_from(["step.products", "score.range", "align.result", "job.done"]))
def test_a_message_that_may_not_come_now_fails_the_job_and_nothing_else(place: tuple[str, Phase], kind: str) -> None:
    role, phase = place
    if f"control:{kind}" in TRANSITIONS[role][phase]:
        return
    event = ControlReceived(kind=kind, message=codec.encode(schemas.JobCancel(reason="x")))
    state, effects = step(state_in(role, phase), event)
    assert state.phase is Phase.FAILED
    assert isinstance(effects[-1], Finish)
    assert effects[-1].reason_code == "unexpected_message"
    assert kind in effects[-1].reason


@given(st.sampled_from(sorted(TERMINAL)), st.sampled_from(sorted(ROLES)))
def test_what_comes_after_the_end_changes_nothing(phase: Phase, role: str) -> None:
    state = state_in(role, phase)
    assert step(state, Expired()) == (state, ())


def test_a_state_survives_its_bytes() -> None:
    for role in ROLES.values():
        state = role.initial("job-1", "me", ("partner",))
        assert role.decode(role.encode(state)) == state


@pytest.mark.parametrize(("name", "made"), [("states", diagram.document), ("specification", specification.document)])
def test_what_the_docs_show_of_schemas_and_tables_is_what_they_are(name: str, made: Callable[[], str]) -> None:
    path = Path(__file__).parents[2] / "docs" / f"{name}.md"
    assert path.read_text(encoding="utf-8") == made(), "run `make diagrams`"


def test_the_specification_has_every_message_and_every_phase() -> None:
    text = specification.document()
    for kind in (*schemas.BULK, *unsequenced.UNSEQUENCED, "job.propose", "step.products"):
        assert f"### {kind} (version " in text, kind
    for table in TRANSITIONS.values():
        for phase, row in table.items():
            assert all(f"| {phase.value} | `{label}` |" in text for label in row)
