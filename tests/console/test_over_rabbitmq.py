"""What stewards decide, over a real broker: in the browser, and by policy alone."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from broker.private import PrivateBroker
from services.daemon.local import BUSINESS, NAMES, PROVIDER
from tests.console.browser import opened
from tests.console.office import POLICY, Office


def started() -> PrivateBroker:
    """A RabbitMQ that knows both parties."""
    broker = PrivateBroker()
    broker.start()
    broker.add_parties(list(NAMES.values()))
    return broker


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    # The browser has the event loop of this thread.
    with ThreadPoolExecutor(1) as elsewhere:
        broker = elsewhere.submit(started).result()
    try:
        with Office(tmp_path / "parties", policy=POLICY + "max_iterations = 8\n", over=broker) as found:
            yield found
    finally:
        broker.discard()


def test_over_rabbitmq_an_approval_releases_a_job_and_what_is_outside_the_policy_is_declined(
    office: Office, browser: Browser
) -> None:
    outside, asked = office.submit(max_iterations=9), office.submit(max_iterations=6)
    refused = office.over(outside, BUSINESS)
    assert (refused["outcome"], refused["reason_code"]) == ("declined", "iterations_refused")
    assert "max_iterations = 8" in refused["reason"]
    with opened(browser, office.link(PROVIDER)) as page:
        page.get_by_role("link", name="Approvals").click()
        contract = page.get_by_role("article").filter(has_text=asked[:8])
        contract.get_by_role("button", name="Approve").click()
        page.get_by_role("dialog").get_by_role("button", name="Approve").click()
        expect(contract).to_have_count(0)
    assert office.over(asked, BUSINESS)["outcome"] == "done"
