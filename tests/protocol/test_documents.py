"""The documents say what the code does."""

from pathlib import Path

from messages.codec import MESSAGES, kind_of
from messages.unsequenced import UNSEQUENCED
from protocol.contract import MARKS
from protocol.grants import GRANTED
from protocol.table import TRANSITIONS

DOCS = Path(__file__).parents[2] / "docs"


def test_a_machine_takes_exactly_the_kinds_that_the_contract_grants_its_role() -> None:
    for role, table in TRANSITIONS.items():
        labels = {label for row in table.values() for label in row}
        assert {label.split(":", 1)[1] for label in labels if label.startswith(("control:", "bulk:"))} == GRANTED[role]


def test_every_message_of_a_job_is_taken_by_a_machine() -> None:
    labels = {label for table in TRANSITIONS.values() for row in table.values() for label in row}
    taken = {label.split(":", 1)[1] for label in labels if label.startswith(("control:", "bulk:"))}
    assert taken == {kind_of(message) for message in MESSAGES} - UNSEQUENCED


def test_every_mark_is_explained_to_operators() -> None:
    text = (DOCS / "operating.md").read_text(encoding="utf-8")
    assert all(f"`{mark}`" in text for mark in MARKS)
