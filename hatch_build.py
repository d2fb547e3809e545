"""Builds the compiled kernel with the package, where there is a C compiler; goes on without it where there is none.

How it went stands in `kernel/_build.json`, which `kernel.library` reads: {"built", "reason", "compiler"}.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

AGAIN = "and run `make setup` again"
RECORD = "_build.json"


class KernelBuildHook(BuildHookInterface[Any]):
    """The wheel is a platform's (abi3) with the kernel in it, and pure without; editable installs build in the tree."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before every wheel is built; `version` is "standard" or "editable"."""
        room = Path(self.root, "kernel")
        # A wheel leaves the tree alone: somebody may be running Warren from it.
        target = room if version == "editable" else Path(tempfile.mkdtemp(prefix="warren-wheel-"))
        for stale in target.glob("_native*"):
            stale.unlink()
        record = attempt(room, target)
        (target / RECORD).write_text(json.dumps(record) + "\n", encoding="utf-8")
        if version != "editable":
            for made in target.iterdir():
                build_data["force_include"][str(made)] = f"kernel/{made.name}"
            self._scratch = target
            if record["built"]:
                build_data["pure_python"] = False
                # By the limited API that build_native.py asks for: Python 3.11 and later.
                build_data["tag"] = f"cp311-abi3-{self.build_config.builder.get_best_matching_tag().rsplit('-', 1)[1]}"
        if not record["built"]:
            self.app.display_warning(f"Without the compiled kernel, which is slower: {record['reason']}")

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Called when the wheel is written."""
        if version != "editable":
            shutil.rmtree(self._scratch)


def attempt(room: Path, target: Path) -> dict[str, Any]:
    """Build the kernel of `room` into `target`; whatever goes wrong becomes the record's reason."""
    try:
        command, about, complaint = find_compiler()
        if complaint:
            return without(complaint, about)
        # In a process of its own: all that it says is the compiler's.
        done = subprocess.run(  # noqa: S603
            [sys.executable, str(room / "build_native.py"), "--out", str(target)],
            env=os.environ | {"CC": command},
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        return without(f"The C compiler could not be run ({error}); mend that {AGAIN}.")
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        # The last one that is about the source; setuptools adds the compiler's exit code.
        errors = [line for line in lines if "error:" in line and "failed with exit code" not in line]
        said = (errors or lines or ["no message"])[-1]
        return without(f"The kernel did not compile when Warren was installed ({said}); mend that {AGAIN}.", about)
    return {"built": True, "reason": "Compiled when Warren was installed.", "compiler": about}


def without(reason: str, compiler: str = "") -> dict[str, Any]:
    """The record of an installation without the kernel."""
    return {"built": False, "reason": reason, "compiler": compiler}


def find_compiler() -> tuple[str, str, str]:
    """The compiler's command, the first line of its version, and, if it cannot be used, why and what to do.

    The command is the environment's CC or cc. Raises OSError when it is there and cannot be run.
    """
    if os.environ.get("WARREN_NO_COMPILER"):
        return "", "", f"WARREN_NO_COMPILER was set when Warren was installed; unset it {AGAIN}."
    command = os.environ.get("CC") or "cc"
    found = shutil.which(shlex.split(command)[0])
    if found is None:
        missing = f"No C compiler ({command}) was found when Warren was installed"
        return "", "", f"{missing}; install gcc or clang {AGAIN}."
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    about = (version.stdout.splitlines() or [found])[0]
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        missing = "Python's headers (Python.h) were not found when Warren was installed"
        return command, about, f"{missing}; install them (Debian: python3-dev) {AGAIN}."
    return command, about, ""
