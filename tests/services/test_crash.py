"""The daemon is killed at every named point, at either party, and the job ends as if nothing had happened."""

import asyncio

import pytest

from services.crash import CRASH_POINTS
from tests.services import story, toy

EXPECTED = repr(list(toy.expected(story.PLAN))).encode()


@pytest.mark.parametrize("who", ["shop", "bank"])
@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_daemon_killed_at_any_point_goes_on_to_the_same_result(tmp_path, point, who):
    if point.startswith("submit.") and who == "bank":
        who = "shop"
    hook = story.CrashAt(point, nth=1 if point.startswith(("submit.", "finish.")) else 3)
    ending = asyncio.run(story.tell(tmp_path, {who: hook}))
    assert hook.crashes == 1
    assert (ending.shop.outcome, ending.bank.outcome) == ("done", "done")
    assert ending.result == EXPECTED
