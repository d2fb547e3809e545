"""One headless Chromium per test session: Debian's package. Where it cannot be had the tests fail."""

import atexit
import functools
import os
import subprocess
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, sync_playwright

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


@functools.cache
def running_browser() -> Browser:
    """The session's browser, started at the first call and closed when Python ends."""
    ensure_installed()
    playwright = sync_playwright().start()
    atexit.register(playwright.stop)
    browser = playwright.chromium.launch(executable_path=str(CHROMIUM), headless=True, args=list(ARGUMENTS))
    atexit.register(browser.close)
    return browser
