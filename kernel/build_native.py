"""Builds `kernel._native` from all of kernel/src: cffi in its out-of-line API mode, limited API (abi3).

    python -m kernel.build_native [--out DIR] [--sanitize address,undefined]

Imports nothing of ours: the build hook (hatch_build.py) runs this file before anything is installed.
"""

import argparse
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ROOM: Final = Path(__file__).resolve().parent
SOURCES: Final = ROOM / "src"
PUBLIC_HEADERS: Final = ("dispatch.h", "residues.h", "x25519.h")
MODULE: Final = "kernel._native"
# No -march: a file with AVX-512 in it switches it on for itself, and the processor is asked when Warren starts.
FLAGS: Final = ("-O3", "-std=c11", "-fvisibility=hidden", "-fno-math-errno", "-Wno-psabi")
# The oldest Python that Warren runs on; one build serves it and all later ones.
LIMITED_API: Final = "0x030B0000"


class BuildError(Exception):
    """The kernel cannot be built; the text is one sentence."""


def public_headers() -> list[Path]:
    """The headers whose declarations Python sees. Raises BuildError where the sources were not shipped."""
    found = [SOURCES / name for name in PUBLIC_HEADERS]
    if missing := [header.name for header in found if not header.exists()]:
        raise BuildError(f"no {', '.join(missing)} at {SOURCES}; build from a checkout or an unpacked source archive")
    return found


def declarations() -> str:
    """What cffi parses: the public headers without their lines for the preprocessor."""
    text = "\n".join(header.read_text(encoding="utf-8") for header in public_headers())
    return re.sub(r"(?m)^#.*$", "", text)


def build(target_directory: Path, extra_flags: Iterable[str] = ()) -> Path:
    """Compile and link the kernel and put the shared library into `target_directory`, replacing an older one.

    `extra_flags` go to the compiler and to the linker. Compiler: the environment's CC, or what Python was built
    with. Returns the library's path. Raises BuildError, and what setuptools raises when the compiler fails.
    """
    from cffi import FFI
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    flags = [*FLAGS, *extra_flags]
    ffi = FFI()
    ffi.cdef(declarations())
    ffi.set_source(MODULE, "\n".join(f'#include "{header.name}"' for header in public_headers()))
    with tempfile.TemporaryDirectory(prefix="warren-kernel-") as name:
        scratch = Path(name)
        glue = scratch / "_native.c"
        ffi.emit_c_code(str(glue))
        extension = Extension(
            MODULE,
            sources=[str(glue), *(str(path) for path in sorted(SOURCES.glob("*.c")))],
            include_dirs=[str(SOURCES)],
            define_macros=[("Py_LIMITED_API", LIMITED_API)],
            extra_compile_args=flags,
            extra_link_args=flags,
            py_limited_api=True,
        )
        command = build_ext(Distribution({"name": "warren-kernel", "ext_modules": [extension]}))
        command.build_lib, command.build_temp = str(scratch / "lib"), str(scratch / "objects")
        command.ensure_finalized()
        command.run()
        built = Path(command.get_ext_fullpath(MODULE))
        target_directory.mkdir(parents=True, exist_ok=True)
        target = target_directory / built.name
        # Never written in place: a running process has the old one mapped.
        fresh = target_directory / f".{built.name}.{os.getpid()}"
        shutil.copy2(built, fresh)
        fresh.replace(target)
    return target


def main() -> None:
    """The command line; prints where the library is."""
    parser = argparse.ArgumentParser(prog="python -m kernel.build_native", description="Build the compiled kernel.")
    parser.add_argument("--out", type=Path, default=ROOM, help="where the shared library goes (default: here)")
    parser.add_argument("--sanitize", default="", help="what the compiler shall check, as in address,undefined")
    given = parser.parse_args()
    flags: list[str] = []
    if given.sanitize:
        # Python is compiled with -fwrapv, which would make a signed overflow none.
        # At -O3 the checks make two files of the curve compile for minutes.
        flags = ["-O1", "-fno-wrapv", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g"]
        flags.append(f"-fsanitize={given.sanitize}")
    try:
        print(build(given.out, flags))  # noqa: T201
    except BuildError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
