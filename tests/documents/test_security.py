"""The security notes keep to what the software does: each kind of message, who may get it, and the names of rules."""

import re

from messages import unsequenced
from protocol.grants import GRANTED
from protocol.specification import kinds
from protocol.state import BUSINESS, PROVIDER, SCORING_BUSINESS, SCORING_PROVIDER
from tests.documents.blocks import ROOT
from tests.documents.reasons import codes

TEXT = (ROOT / "docs" / "security.md").read_text()
SIDES = {"business": (BUSINESS, SCORING_BUSINESS), "provider": (PROVIDER, SCORING_PROVIDER)}


def rows() -> dict[str, str]:
    """Kind of message -> to whom, of the table of messages."""
    found = {}
    for line in TEXT[TEXT.index("## What each message") : TEXT.index("## What each key")].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        names = re.findall(r"`([a-z.]+)`", cells[0])
        if names and len(cells) == 4:
            assert not set(names) & found.keys(), names
            found.update(dict.fromkeys(names, cells[1]))
    return found


def test_the_table_says_of_every_message_who_may_receive_it():
    told = rows()
    assert told.keys() == {kind for kind, _, _ in kinds()}
    for kind, to in told.items():
        sides = {side for side, roles in SIDES.items() if any(kind in GRANTED[role] for role in roles)}
        if kind in unsequenced.UNSEQUENCED:
            # No messages of a job's machine; those of lookups go one way, the others both.
            assert kind.startswith("score.") or to == "both", kind
        else:
            assert to == ("both" if len(sides) == 2 else "".join(sides)), kind


def test_rules_that_are_named_as_caps_are_reason_codes():
    caps = TEXT[TEXT.index("## What is known to be possible") : TEXT.index("## What to do")]
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", caps)) - {"small_sample", "min_rows", "score_quota", "psi_quota"}
    assert named == {
        "rows_too_close",
        "divisions_spent",
        "fellow_refused",
        "later_fellow_refused",
        "masks_unbound",
        "labels_rare",
        "column_support",
        "column_outlier",
    }
    assert named | {"score_quota", "psi_quota"} <= codes().keys()
