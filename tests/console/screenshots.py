"""Makes the pictures of docs/console.md: python -m tests.console.screenshots [DIRECTORY]

A real job on the credit-default example, with keys and noise as in production: it takes a minute or two.
"""

import io
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from PIL import Image
from playwright.sync_api import Browser, Page

from services.daemon.local import BUSINESS, NAMES, PROVIDER
from tests.console.browser import opened, running_browser
from tests.console.office import Office
from tests.parties import example_tables, until
from tests.services import gates

PICTURES: Final = Path(__file__).parents[2] / "docs" / "images"
ROWS: Final = 2_400
COLOURS: Final = 255
PAUSE_AFTER: Final = 4
"""The iteration in which the picture of a running job is taken."""

JOB: Final[dict[str, Any]] = {
    "l2": 1e-3,
    "max_iterations": 20,
    "release_noise": 1 / 32,
    "key_bits": 2048,
    "chunk_rows_max": 540,
    "marks": [],
    "validation": 0.2,
    "evaluate": ["training", "validation"],
}


def picture(found: Page, path: Path) -> None:
    """Keep what is seen, in the colours that are nearest: these pictures are flat."""
    image = Image.open(io.BytesIO(found.screenshot(animations="disabled"))).convert("RGB")
    few = image.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=4, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def make(directory: Path) -> None:
    """All pictures."""
    with tempfile.TemporaryDirectory() as scratch:
        rules = 'automatic_iterations_max = 10\nask_for = ["evaluate"]\n'
        tables = example_tables(Path(scratch), ROWS)
        with Office(Path(scratch) / "office", tables=tables, policy=rules) as office, running_browser() as browser:
            job = office.submit(**JOB)
            approve(office, browser, directory)
            run(office, browser, job, directory)


def approve(office: Office, browser: Browser, directory: Path) -> None:
    """The provider's steward reads the contract and says yes."""
    with opened(browser, office.link(PROVIDER)) as found:
        found.get_by_role("link", name="Approvals").click()
        found.get_by_role("button", name="Approve").wait_for()
        picture(found, directory / "console-approval.png")
        found.get_by_role("button", name="Approve").click()
        found.get_by_role("dialog").get_by_role("button", name="Approve").click()
        found.get_by_text("Nothing waits for a decision").wait_for()


def run(office: Office, browser: Browser, job: str, directory: Path) -> None:
    """The business watches."""

    def far_enough() -> bool:
        progress = office.view(BUSINESS, job)["progress"]
        return bool(progress["iteration"] >= PAUSE_AFTER and progress["done"] > 0)

    address = f"{office.url(BUSINESS)}/#/jobs/{job}"
    with (
        opened(browser, office.link(BUSINESS)) as found,
        opened(browser, office.link(BUSINESS), wide=390, high=844, theme="dark") as small,
    ):
        for one in (found, small):
            one.goto(address)
            one.get_by_role("heading", name="Convergence").wait_for(timeout=120_000)
        until(far_enough, "the job is in the middle of an iteration", 300.0)
        with gates.shut((NAMES[PROVIDER], "link.evaluate"), (NAMES[BUSINESS], "link.terms")):
            found.wait_for_timeout(2_500)
            picture(found, directory / "console-running.png")
            picture(small, directory / "console-phone.png")
        office.ended(job)
        found.get_by_role("heading", name="How good the model is").wait_for()
        found.set_viewport_size({"width": 1280, "height": 1500})
        found.wait_for_timeout(1_500)
        picture(found, directory / "console-finished.png")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURES
    target.mkdir(parents=True, exist_ok=True)
    make(target)
