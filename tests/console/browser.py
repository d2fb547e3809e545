"""A headless Chromium, Debian's package. Where it cannot be had the tests fail."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM: Final = Path("/usr/bin/chromium")
ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_HINT: Final = "install it as root with `apt-get install chromium`, or run this as root"


def ensure_installed() -> None:
    """Find Chromium, or install Debian's package when we are root."""
    if CHROMIUM.exists():
        return
    assert os.geteuid() == 0, f"there is no Chromium: {_HINT}"
    for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(["apt-get", *command], env=environment, check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"`apt-get {' '.join(command)}` failed; {_HINT}:\n{done.stderr[-1000:]}"


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser; while it runs, no other event loop can on this thread."""
    ensure_installed()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), headless=True, args=list(ARGUMENTS))
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, link: str, *, wide: int = 1280, high: int = 900, theme: str = "light") -> Iterator[Page]:
    """A page of a browser of its own, entered by a link of `warren console`.

    Fails when the page reached for another host, or when one of its scripts failed.
    """
    scheme: Any = theme
    context = browser.new_context(viewport={"width": wide, "height": high}, color_scheme=scheme)
    asked: list[str] = []
    faults: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    try:
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        # Neither a connection that is refused nor a page that asks for entering is a fault of a script.
        page.on("console", lambda said: faults.append(said.text) if _is_fault(said.type, said.text) else None)
        page.goto(link)
        page.get_by_role("heading", level=1).wait_for()
        yield page
    finally:
        context.close()
    home = urlsplit(link).netloc
    assert [url for url in asked if urlsplit(url).netloc != home] == []
    assert faults == []


def _is_fault(sort: str, text: str) -> bool:
    return sort == "error" and "Failed to load resource" not in text
