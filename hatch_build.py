"""Builds the compiled kernel with the package, where there is a C compiler; goes on without it where there is none.

How it went stands in `kernel/_build.json`, which `warren doctor` reads.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

AGAIN = "and run `make setup` again (or install Warren again)"


class KernelBuildHook(BuildHookInterface):
    """The wheel is a platform's (abi3) with the kernel in it, and pure without; editable installs build in the tree."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before every build; `version` is "standard" or "editable"."""
        room = Path(self.root) / "kernel"
        for stale in room.glob("_native*"):
            stale.unlink()
        compiler, complaint = find_compiler()
        record: dict[str, Any] = {"built": False, "reason": complaint, "compiler": compiler}
        if not complaint:
            try:
                record["built"] = bool(self.compile(room))
            except Exception as error:
                lines = [line for line in str(error).splitlines() if line.strip()]
                record["reason"] = f"The C compiler could not build the kernel: {lines[-1] if lines else error!r}"
        (room / "_build.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
        build_data["artifacts"] += ["kernel/_build.json", "kernel/_native*"]
        if record["built"]:
            build_data["pure_python"] = False
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"cp{sys.version_info.major}{sys.version_info.minor}-abi3-{platform}"
        if record["reason"]:
            self.app.display_warning(f"Without the compiled kernel, which is slower: {record['reason']}")

    def compile(self, room: Path) -> Path:
        """Run the builder of the kernel's room in a process of its own: its output is the compiler's."""
        done = subprocess.run(  # noqa: S603
            [sys.executable, str(room / "build_native.py"), "--out", str(room)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            text = done.stderr.splitlines()
            raise RuntimeError("\n".join([line for line in text if "error" in line.lower()] or text))
        return next(room.glob("_native*"))


def find_compiler() -> tuple[str, str]:
    """(first line of the compiler's version, "") or ("", why there is none and what to do)."""
    if os.environ.get("WARREN_NO_COMPILER"):
        return "", f"WARREN_NO_COMPILER was set when Warren was installed; unset it {AGAIN}"
    name = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    found = shutil.which(name) or shutil.which("cc")
    if found is None:
        return "", f"No C compiler ({name}) was found when Warren was installed; install gcc or clang {AGAIN}"
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not header.exists():
        return "", f"Python.h was not found when Warren was installed; install Python's development files {AGAIN}"
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    return (version.stdout.splitlines() or [found])[0], ""
