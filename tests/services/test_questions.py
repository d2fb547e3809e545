"""Probes: a party that asks more than is answered, or is answered unasked, is heard of in the log."""

from structlog.testing import capture_logs

from messages import unsequenced
from services.engine.notices import Question
from services.store.limits import QUESTIONS_WAITING_MAX

PROBE = unsequenced.PeerProbe(contract=b"")


def answer() -> unsequenced.PeerAnswer:
    return unsequenced.PeerAnswer(
        software_version="1",
        protocol_version=1,
        logic_version=1,
        backend="gmpy2",
        acceptable=True,
        reason_code="ok",
        reason="",
        rows=1,
        columns=3,
        free_bytes=1,
    )


def test_a_probe_beyond_those_that_may_wait_is_dropped_with_a_word(town):
    bank = town().daemon("bank")
    with capture_logs() as lines:
        for number in range(QUESTIONS_WAITING_MAX + 3):
            bank.probes.take(Question("shop", f"probe-{number}", PROBE))
    assert [(line["event"], line["partner"]) for line in lines] == [("probe dropped: too many wait", "shop")] * 3


def test_an_answer_that_nobody_asked_for_is_dropped_with_a_word(town):
    bank = town().daemon("bank")
    with capture_logs() as lines:
        bank.answered(Question("shop", "probe-1", answer()))
    assert [line["partner"] for line in lines] == ["shop"]
