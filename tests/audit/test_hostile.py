"""A file from anybody may say anything: it is named as wrong, and never a fault, a hang or a heap of memory."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from messages.codec import pack
from messages.identity import Identity
from services.audit.export_file import Entry
from services.audit.reconciling import reconcile
from services.audit.replaying import replay
from services.audit.report_page import page
from services.audit.reporting import report
from services.audit.verifying import verify
from services.daemon.local import NAMES
from tests.audit.forging import forge, frames_of, write
from tests.audit.recorded import AUDITOR, BUSINESS, PARTNER, PROVIDER
from tests.replay.record import AUDIENCES, golden

# One iteration: small enough to be read a thousand times.
KINDS = [(role, audience) for role in (BUSINESS, PROVIDER) for audience in AUDIENCES]
FILES = dict(zip(KINDS, golden("full"), strict=True))
SETTINGS = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


def look_at_everything(path: Path, other: Path) -> None:
    """Whatever an auditor would do with a file."""
    verify(path)
    replay(path)
    page(report(path))
    reconcile(path, other)
    reconcile(other, path)


@SETTINGS
@given(data=st.data())
def test_altered_bytes_are_read_without_a_fault(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(FILES[BUSINESS, AUDITOR].read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "altered"
    path.write_bytes(content)
    look_at_everything(path, FILES[PROVIDER, PARTNER])


@SETTINGS
@given(data=st.data())
def test_events_that_are_anything_are_read_without_a_fault(tmp_path: Path, data: st.DataObject) -> None:
    """With digests and chain that fit, so that what is in them is looked at."""
    role = data.draw(st.sampled_from([BUSINESS, PROVIDER]))
    raw = data.draw(st.binary(max_size=60))
    value = data.draw(values)
    field = data.draw(st.sampled_from(["whole", "raw", "output", "message", "contract", "facts", "blobs", "task"]))

    def change(entries: list[Entry]) -> list[Entry]:
        places = [at for at, entry in enumerate(entries) if entry.event]
        at = places[data.draw(st.integers(0, len(places) - 1))]
        event = raw
        if field != "raw":
            fields = msgspec.msgpack.decode(entries[at].event)
            inside = pack(value) if isinstance(fields.get(field), bytes) else value
            event = pack(value if field == "whole" else {**fields, field: inside})
        entries[at] = msgspec.structs.replace(entries[at], event=event or b"\x00")
        return entries

    path = tmp_path / "forged"
    path.unlink(missing_ok=True)
    try:
        forge(FILES[role, AUDITOR], path, Identity.generate(NAMES[role]), change)
    except (OverflowError, ValueError):
        return  # what cannot be written down is in no file
    look_at_everything(path, FILES[PROVIDER if role == BUSINESS else BUSINESS, AUDITOR])


@pytest.mark.parametrize(
    "change",
    [
        {"contract": b""},
        {"contract": b"\xc1" * 100},
        {"party_identity": "{}"},
        {"partner_identity": "no identity"},
        {"role": "broker"},
        {"job": "job-7"},
        {"party": "somebody"},
        {"logic_version": 2**40},
    ],
)
def test_an_opening_that_says_anything_is_named(tmp_path: Path, change: dict[str, Any]) -> None:
    opening, entries, ending = frames_of(FILES[BUSINESS, AUDITOR])
    changed = msgspec.structs.replace(opening, **change)
    path = write(tmp_path / "changed", changed, entries, ending, Identity.generate(NAMES[BUSINESS]))
    look_at_everything(path, FILES[PROVIDER, PARTNER])
    if "logic_version" in change:
        assert not replay(path).same
    else:
        assert not verify(path).holds
