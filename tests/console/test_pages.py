"""The console in a real Chromium, on two daemons with real jobs."""

import itertools
import json
from collections.abc import Iterator
from typing import Any, Final, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from services.daemon.local import BUSINESS, NAMES, PROVIDER
from tests.console.browser import opened
from tests.console.office import HOSTILE, Office
from tests.parties import until
from tests.services import gates

LINK_TERMS = (NAMES[PROVIDER], "link.evaluate")
PATIENCE_MS = 120_000
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture
def business(office: Office, browser: Browser) -> Iterator[Page]:
    with opened(browser, office.link(BUSINESS)) as page:
        yield page


@pytest.fixture
def provider(office: Office, browser: Browser) -> Iterator[Page]:
    with opened(browser, office.link(PROVIDER)) as page:
        yield page


@pytest.fixture(scope="module")
def done(office: Office) -> str:
    """A job that is over, with figures of its model."""
    job = office.submit(evaluate=["training"])
    office.ended(job)
    for role in NAMES:
        until(lambda role=role: office.ask(role, "job", id=job)["results"], "its results are written")
    return job


def show(office: Office, page: Page, role: str, job: str) -> None:
    page.goto(f"{office.url(role)}/#/jobs/{job}")
    expect(page.get_by_role("code").filter(has_text=job).first).to_be_visible()


def test_a_running_job_is_shown_as_it_goes(office: Office, business: Page) -> None:
    with gates.shut(LINK_TERMS):
        job = office.submit()
        card = business.get_by_role("listitem").filter(has_text=job[:8])
        expect(card).to_contain_text("Training, iteration 1 of at most 3")
        expect(card.get_by_role("progressbar")).to_be_visible()
        expect(card).to_contain_text("Waits for provider-a since")
        # The link terms of the first iteration have been made; those of the second wait behind another gate.
        with gates.shut((NAMES[BUSINESS], "link.terms")):
            gates.open_one(LINK_TERMS)
            expect(card).to_contain_text("Training, iteration 2 of at most 3")
            card.get_by_role("link").click()
            expect(business.get_by_role("heading", level=1)).to_have_text("Logistic model with provider-a")
            plot = business.get_by_role("img", name="Largest gradient entry by iteration")
            expect(plot.locator("circle")).to_have_count(2)
            expect(business.get_by_text("1 of at most 3 iterations so far")).to_be_visible()
            expect(business.locator("[aria-current=step]")).to_contain_text("Train")
            business.evaluate("window.sameDocument = true")
    expect(business.get_by_text("3 of at most 3 iterations")).to_be_visible()
    expect(plot.locator("circle")).to_have_count(6)
    expect(business.get_by_role("heading", name="How it ended")).to_be_visible()
    assert business.evaluate("window.sameDocument") is True
    assert office.over(job)["outcome"] == "done"


def test_what_left_the_house_is_shown_against_the_contract(office: Office, provider: Page, done: str) -> None:
    show(office, provider, PROVIDER, done)
    expect(provider.get_by_text("Everything so far is within the signed contract.")).to_be_visible()
    # 3 gradients of 14 entries (13 columns and the intercept) and the numbers of the Gram rows.
    expect(provider.get_by_text("Numbers that business-a can read:")).to_be_visible()
    provider.get_by_text("Left:").click()
    line = provider.get_by_role("listitem").filter(has_text="features.encrypted").first
    expect(line).to_contain_text("120 rows")
    expect(line).to_contain_text("columns, encrypted under the sender's own key")


def test_the_contract_is_there_in_plain_words(office: Office, provider: Page, done: str) -> None:
    show(office, provider, PROVIDER, done)
    for sentence in office.ask(PROVIDER, "job", id=done)["contract"]:
        expect(provider.get_by_text(sentence, exact=True)).to_be_visible()


def test_the_files_of_a_finished_job_are_named_with_their_place_as_seen_from_party_toml(
    office: Office, business: Page, done: str
) -> None:
    show(office, business, BUSINESS, done)
    expect(business.get_by_text("Results: history.json, metrics.json, parameters.json")).to_be_visible()
    expect(business.get_by_role("code").filter(has_text=f"data/results/{done}")).to_have_text(f"data/results/{done}")


def test_figures_of_the_model_are_at_the_business_and_nowhere_else(
    office: Office, business: Page, provider: Page, done: str
) -> None:
    results = office.parties[BUSINESS].data_directory / "results" / done
    auc = json.loads((results / "metrics.json").read_text())["parts"]["training"]["metrics"]["auc"]
    show(office, business, BUSINESS, done)
    expect(business.get_by_role("row", name=f"auc {auc:.4f}")).to_be_visible()
    expect(business.get_by_role("img", name="Gain.")).to_be_visible()
    show(office, provider, PROVIDER, done)
    expect(provider.get_by_role("heading", name="How it ended")).to_be_visible()
    expect(provider.get_by_text("How good the model is")).to_have_count(0)


def test_the_metric_of_a_job_that_stops_early_is_drawn_at_the_business_alone(
    office: Office, business: Page, provider: Page
) -> None:
    job = office.submit(validation=0.3, stop_metric="log_loss", stop_every=1, patience=3)
    show(office, business, BUSINESS, job)
    plot = business.get_by_role("img", name="log loss of the validation rows by iteration")
    expect(plot.locator("circle")).to_have_count(3)
    expect(business.get_by_role("heading", name="How it ended")).to_be_visible()
    show(office, provider, PROVIDER, job)
    expect(provider.get_by_role("img", name="Largest gradient entry by iteration")).to_be_visible()
    expect(provider.get_by_role("img", name="log loss")).to_have_count(0)


def test_an_approval_in_the_console_releases_the_job(office: Office, provider: Page) -> None:
    job = office.submit(max_iterations=6)
    card = provider.get_by_role("listitem").filter(has_text=job[:8])
    card.get_by_role("link", name="Read and decide").click()
    contract = provider.get_by_role("article").filter(has_text=job[:8])
    expect(contract).to_contain_text("At most 6 iterations are computed")
    expect(contract).to_contain_text("6 iterations are more than automatic_iterations_max = 5")
    assert office.view(PROVIDER, job)["progress"]["stage"] == "approval"
    contract.get_by_role("button", name="Approve").click()
    provider.get_by_role("dialog").get_by_role("button", name="Approve").click()
    expect(contract).to_have_count(0)
    office.ended(job)
    assert office.over(job, BUSINESS)["outcome"] == "done"


def test_a_reason_for_declining_is_read_by_the_partner_and_is_no_markup(
    office: Office, provider: Page, business: Page
) -> None:
    job = office.submit(max_iterations=6)
    provider.get_by_role("link", name="Approvals").click()
    provider.get_by_role("article").filter(has_text=job[:8]).get_by_role("button", name="Decline").click()
    dialog = provider.get_by_role("dialog")
    dialog.get_by_role("button", name="Decline").click()
    assert office.view(PROVIDER, job)["status"] == "running", "a reason is needed"
    dialog.get_by_label("Reason").fill(HOSTILE)
    dialog.get_by_role("button", name="Decline").click()
    expect(dialog).to_have_count(0)
    assert office.over(job, BUSINESS)["outcome"] == "declined"
    for page, role in ((business, BUSINESS), (provider, PROVIDER)):
        show(office, page, role, job)
        is_inert(page)
        page.get_by_role("link", name="All jobs").click()
        expect(page.get_by_role("listitem").filter(has_text=job[:8])).to_contain_text("declined")
        is_inert(page)


def test_a_job_rests_while_it_is_paused_and_goes_on_after_it(office: Office, business: Page) -> None:
    with gates.shut(LINK_TERMS):
        job = office.submit()
        show(office, business, BUSINESS, job)
        expect(business.get_by_text("Training, iteration 1 of at most 3").last).to_be_visible()
        business.get_by_role("button", name="Pause").click()
        expect(business.get_by_text("Paused here: nothing is computed or sent for it.")).to_be_visible()
    assert office.view(BUSINESS, job)["waiting"]["why"] == "paused"
    business.get_by_role("button", name="Resume").click()
    expect(business.get_by_role("heading", name="How it ended")).to_be_visible()
    assert office.over(job)["outcome"] == "done"


def test_a_business_cancels_its_job(office: Office, business: Page) -> None:
    with gates.shut(LINK_TERMS):
        job = office.submit()
        show(office, business, BUSINESS, job)
        business.get_by_role("button", name="Cancel job").click()
        dialog = business.get_by_role("dialog")
        dialog.get_by_label("Reason").fill("not needed any more")
        dialog.get_by_role("button", name="Cancel job").click()
        expect(business.get_by_role("heading", name="How it ended")).to_be_visible()
    over = office.over(job)
    assert (over["outcome"], "not needed any more" in over["reason"]) == ("cancelled", True)


def test_a_provider_takes_all_consents_back_and_allows_jobs_again(office: Office, provider: Page) -> None:
    provider.get_by_role("link", name="Partners").click()
    with gates.shut(LINK_TERMS):
        job = office.submit()
        until(lambda: stands(office, job) == "train", "the job trains")
        provider.get_by_role("button", name="Revoke all consents").click()
        dialog = provider.get_by_role("dialog")
        dialog.get_by_label("Reason").fill("our lawyers ask")
        dialog.get_by_role("button", name="Revoke").click()
        expect(provider.get_by_text("our lawyers ask")).to_be_visible()
    assert "our lawyers ask" in office.over(job, BUSINESS)["reason"]
    again = office.over(office.submit(), BUSINESS)
    assert again["outcome"] != "done"
    provider.get_by_role("button", name="Allow jobs again").click()
    provider.get_by_role("dialog").get_by_role("button", name="Allow").click()
    expect(provider.get_by_role("button", name="Revoke all consents")).to_be_visible()
    job = office.submit()
    assert office.over(job, BUSINESS)["outcome"] == "done"


def test_the_name_of_a_column_is_no_markup(office: Office, provider: Page) -> None:
    job = office.submit(partner=f"{NAMES[PROVIDER]}/hostile")
    assert "<img" in office.over(job)["reason"]
    show(office, provider, PROVIDER, job)
    is_inert(provider)


def is_inert(page: Page) -> None:
    """The hostile text is there to be read, and was not taken for anything else."""
    expect(page.get_by_text("<img src=x onerror=").first).to_be_visible()
    assert page.locator("main img, main script").count() == 0
    assert page.title() not in {"1", "2"}
    assert "\u202e" not in page.locator("main").inner_text()


# -- without a mouse -----------------------------------------------------------------------------------------


def tab_to(page: Page, name: str) -> None:
    """Press Tab until an element that says `name` has the focus, and the focus can be seen."""
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        found: dict[str, Any] = page.evaluate(
            "(e => ({text: e.textContent.trim(), outline: getComputedStyle(e).outlineStyle}))(document.activeElement)"
        )
        seen.append(found["text"][:40])
        if found["text"].startswith(name):
            assert found["outline"] != "none", f"nobody sees where the focus is on {name}"
            return
    raise AssertionError(f"{name} cannot be reached by keyboard: {seen}")


def test_a_contract_is_approved_and_revoked_by_keyboard_alone(office: Office, provider: Page) -> None:
    job = office.submit(max_iterations=7)
    with gates.shut((NAMES[PROVIDER], "align.mask")):
        tab_to(provider, "Approvals")
        provider.keyboard.press("Enter")
        expect(provider.get_by_role("heading", level=1)).to_have_text("Approvals")
        expect(provider.get_by_role("article")).to_be_visible()
        tab_to(provider, "Approve")
        provider.keyboard.press("Enter")
        expect(provider.get_by_role("dialog")).to_be_visible()
        provider.keyboard.press("Escape")
        expect(provider.get_by_role("dialog")).to_have_count(0)
        assert provider.evaluate("document.activeElement.textContent") == "Approve"
        provider.keyboard.press("Enter")
        tab_to(provider, "Approve")
        provider.keyboard.press("Enter")
        expect(provider.get_by_text("Nothing waits for a decision.")).to_be_visible()
        tab_to(provider, "Jobs")
        provider.keyboard.press("Enter")
        tab_to(provider, "Logistic model with business-a")
        provider.keyboard.press("Enter")
        expect(provider.get_by_role("code").filter(has_text=job)).to_be_visible()
        tab_to(provider, "Revoke consent")
        provider.keyboard.press("Enter")
        provider.keyboard.type("a mistake")
        tab_to(provider, "Revoke consent")
        provider.keyboard.press("Enter")
        expect(provider.get_by_role("heading", name="How it ended")).to_be_visible()
    assert "a mistake" in office.over(job, BUSINESS)["reason"]


def test_what_is_open_and_focused_stays_so_while_the_page_is_refreshed(
    office: Office, business: Page, done: str
) -> None:
    show(office, business, BUSINESS, done)
    business.get_by_text("Counters").click()
    business.get_by_text("Counters").focus()
    other = office.submit()
    expect(business.locator("#said")).to_contain_text("Logistic model with provider-a")
    office.ended(other)
    assert business.evaluate("document.activeElement.textContent") == "Counters"
    expect(business.get_by_text("Head of the chain")).to_be_visible()


# -- for everybody -------------------------------------------------------------------------------------------

PLACES = ("jobs", "approvals", "partners", "models", "system")


SIZES = (390, 1280)
THEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")


def is_accessible(page: Page, where: str) -> None:
    """axe-core finds nothing serious on a telephone and on a desk, by day and by night, and nothing is cut off."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(Axe().axe_script)
    for wide, theme in itertools.product(SIZES, THEMES):
        page.set_viewport_size({"width": wide, "height": 844})
        page.emulate_media(color_scheme=theme)
        violations = page.evaluate("axe.run({resultTypes: ['violations']}).then(found => found.violations)")
        found = [
            f"{one['id']} ({one['impact']}): {one['nodes'][0]['html'][:200]}"
            for one in violations
            if one["impact"] in {"serious", "critical"}
        ]
        assert found == [], (where, wide, theme)
        reached = page.evaluate("document.documentElement.scrollWidth")
        assert reached <= wide, f"{where} is {reached} wide on a screen of {wide}"


@pytest.fixture(scope="module")
def busy(office: Office) -> Iterator[dict[str, str]]:
    """A job that runs, and stands still, and one that waits for the provider's steward."""
    with gates.shut(LINK_TERMS):
        jobs = {"waiting": office.submit(max_iterations=6), "running": office.submit()}
        for name, stage in (("waiting", "approval"), ("running", "train")):
            job = jobs[name]
            until(lambda job=job, stage=stage: stands(office, job) == stage, f"the job is {name}")
        yield jobs
        for job in jobs.values():
            office.ask(PROVIDER, "cancel", id=job, reason="looked at")


def stands(office: Office, job: str) -> str:
    """The stage of a job at the provider."""
    return str((office.view(PROVIDER, job).get("progress") or {}).get("stage"))


def test_every_page_is_accessible(office: Office, browser: Browser, done: str, busy: dict[str, str]) -> None:
    with opened(browser, office.link(PROVIDER)) as page:
        for place in PLACES:
            page.goto(f"{office.url(PROVIDER)}/#/{place}")
            expect(page.get_by_role("heading", level=1)).to_have_text(place.capitalize())
            expect(page.get_by_text("Reading…")).to_have_count(0)
            is_accessible(page, place)
        for job in (busy["running"], done):
            show(office, page, PROVIDER, job)
            expect(page.get_by_role("heading", name="Convergence")).to_be_visible()
            page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
            is_accessible(page, f"job {job}")
        page.goto(f"{office.url(PROVIDER)}/#/approvals")
        page.get_by_role("article").get_by_role("button", name="Decline").click()
        is_accessible(page, "the question before declining")


def test_who_has_not_entered_finds_an_accessible_page(office: Office, browser: Browser) -> None:
    with opened(browser, office.url(BUSINESS)) as page:
        expect(page.get_by_role("heading", level=1)).to_have_text("This browser has not entered")
        is_accessible(page, "the locked page")


def test_a_theme_that_was_chosen_stays(office: Office, business: Page) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    light = business.evaluate(paper)
    button = business.get_by_role("button", name="Theme")
    button.click()
    button.click()
    expect(button).to_have_text("Theme: dark")
    dark = business.evaluate(paper)
    assert dark != light
    business.reload()
    expect(business.get_by_role("heading", level=1)).to_be_visible()
    assert business.evaluate(paper) == dark


def test_nothing_moves_for_who_wants_no_motion(business: Page) -> None:
    business.emulate_media(reduced_motion="reduce")
    moving = "[...document.querySelectorAll('*')].filter(e => getComputedStyle(e).transitionDuration !== '0s').length"
    assert business.evaluate(moving) == 0


# -- when something is away ----------------------------------------------------------------------------------


def test_a_page_says_that_the_daemon_is_away_and_is_fresh_again_by_itself(
    office: Office, browser: Browser, done: str
) -> None:
    with opened(browser, office.link(BUSINESS)) as page:
        card = page.get_by_role("listitem").filter(has_text=done[:8])
        expect(card).to_be_visible()
        office.stop(BUSINESS)
        banner = page.get_by_role("alert")
        expect(banner).to_contain_text("The daemon does not answer")
        expect(card).to_be_visible()  # what it said last
        office.start(BUSINESS)
        expect(banner).to_be_hidden()
        expect(page.locator("#said")).to_contain_text("started again")
        expect(card).to_be_visible()


def test_a_link_that_was_used_shows_what_to_do(office: Office, browser: Browser) -> None:
    link = office.link(BUSINESS)
    with opened(browser, link):
        pass
    with opened(browser, link) as page:
        expect(page.get_by_role("heading", level=1)).to_have_text("This browser has not entered")


def test_this_month_and_the_one_before_are_told_for_every_partner(office: Office, business: Page, done: str) -> None:
    business.goto(f"{office.url(BUSINESS)}/#/partners")
    row = business.get_by_role("row").filter(has_text="provider-a")
    expect(row).to_be_visible()
    expect(row.get_by_role("cell").nth(1)).to_have_text(str(len(office.ask(BUSINESS, "jobs"))))
    business.get_by_role("button", name="Month before").click()
    expect(business.get_by_text("Nothing in this month.")).to_be_visible()
    business.get_by_role("button", name="Month after").click()
    expect(row).to_be_visible()


def test_fingerprints_are_those_of_the_identities(office: Office, business: Page) -> None:
    business.goto(f"{office.url(BUSINESS)}/#/partners")
    party = office.parties[BUSINESS]
    for identity in (party.identity.public, *party.peers.values()):
        groups = identity.fingerprint.split()
        block = business.locator(".fingerprint").filter(has_text=groups[0])
        expect(block.locator("span")).to_have_text(groups)
