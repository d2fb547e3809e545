"""`make timing-check`: no branch and no address of the kernel depends on a secret, but those that residues.h names.

Builds constant_time.c with the kernel's sources and lets valgrind's memcheck watch it on the portable path.
"""

import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import gmpy2

from kernel import build_native, library
from paillier.rings import Ring

PROGRAM: Final = Path(__file__).with_name("constant_time.c")
PACKAGES: Final = ("valgrind", "libc6-dbg")
REPORTED: Final = 99
COUNT: Final = 19
"""Of ciphertexts: no multiple of any number of lanes."""
HINT: Final = f"install it as root with `apt-get install {' '.join(PACKAGES)}`, or run this as root on Debian"


class TimingError(Exception):
    """The check cannot be made, or found something; the text says what."""


def ensure_valgrind() -> None:
    """Find valgrind and its headers, or install Debian's package when we are root. Raises TimingError."""
    if _has_valgrind():
        return
    apt_get = shutil.which("apt-get")
    if apt_get is None or os.geteuid() != 0:
        raise TimingError(f"valgrind or valgrind/memcheck.h is not there: {HINT}")
    for command in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        ran = subprocess.run([apt_get, *command], env=environment, capture_output=True, check=False)
        if ran.returncode != 0:
            output = ran.stderr.decode(errors="replace")[-1000:]
            raise TimingError(f"`apt-get {' '.join(command)}` failed; {HINT}:\n{output}")
    if not _has_valgrind():
        raise TimingError(f"valgrind is still not there: {HINT}")


def _has_valgrind() -> bool:
    probe = [*_compiler(), "-E", "-x", "c", "-"]
    try:
        header = subprocess.run(probe, input=b"#include <valgrind/memcheck.h>\n", capture_output=True, check=False)
    except FileNotFoundError as missing:
        raise TimingError(f"no C compiler ({missing.filename}): install gcc or clang") from None
    return header.returncode == 0 and shutil.which("valgrind") is not None


def _compiler() -> list[str]:
    return (os.environ.get("CC") or "cc").split()


def array(name: str, numbers: list[int], words: int) -> str:
    """A C array of numbers, each as `words` little-endian 64-bit words."""
    mask = (1 << 64) - 1
    values = [f"{number >> 64 * at & mask:#x}u" for number in numbers for at in range(words)]
    return f"static const uint64_t {name}[] = {{{', '.join(values)}}};"


def ring_arrays(name: str, n: int, bits: int) -> list[str]:
    """What `wk_ring_new` takes for a modulus n, with log2 R = `bits`."""
    words = math.ceil(n.bit_length() / 64)
    radix = 1 << bits
    powers = [part for k in range(1, 6) for part in reversed(divmod(pow(radix, k, n * n), n))]
    return [
        array(name, [n], words),
        array(f"{name}_POWERS", powers, words),
        array(f"{name}_ABOVE", [-(-radix // n) * n], bits // 64 + 2),
    ]


def numbers(chance: random.Random) -> str:
    """The header of constant_time.c: a key of 512 bits, with everything that the kernel wants to know of it."""
    p, q = (int(gmpy2.next_prime(chance.getrandbits(256) | 3 << 254)) for _ in range(2))
    n, half = p * q, 4
    square_words = 16
    with library.using("portable"):
        loaded = library.load()
        assert loaded is not None
        ring_bits = {size: int(loaded.lib.wk_ring_bits(size)) for size in (256, 512)}
        limb = int(loaded.lib.wk_ring_limb_bits(Ring(loaded, n, square_words).pointer))
    # What `Ring.prepare` computes.
    shift = (2 * 512 - 1) // limb
    wide = math.ceil(2 * ring_bits[512] / 64)
    vector = [chance.randrange(1, n * n) for _ in range(COUNT)]
    plain = [chance.randrange(n) for _ in range(COUNT)]
    lines = [
        "#include <stdint.h>",
        f"enum {{ SQUARE_WORDS = {square_words}, N_BITS = 512, P_BITS = 256, COUNT = {COUNT} }};",
        *ring_arrays("N", n, ring_bits[512]),
        f"enum {{ SHIFT = {shift}, WIDE = {wide} }};",
        array("SQUARE", [n * n], wide),
        array("RECIPROCAL", [(1 << 2 * ring_bits[512] + limb * shift) // (n * n)], wide),
        array("VECTOR", vector, square_words),
        array("N_PLAIN", plain, 8),
        array("P_LESS_ONE", [p - 1], half),
        array("P_SQUARE", [p * p], 2 * half),
    ]
    radix = 1 << ring_bits[256]
    for name, prime, other in (("P", p, q), ("Q", q, p)):
        base = pow(chance.randrange(2, prime * prime), prime, prime * prime)
        lines += [
            *ring_arrays(name, prime, ring_bits[256]),
            array(f"{name}_BASE", [base], square_words),
            array(f"{name}_INVERSE", [pow(base, -1, prime * prime)], square_words),
            array(f"{name}_PLAIN", [value * other * radix % prime for value in plain], half),
        ]
    u = pow(p * p, -1, q * q)
    joints = [joint % (q * q) for joint in (-u * radix, -u * radix**2, u * radix, q * u * radix)]
    lines.append(array("JOINTS", [part for joint in joints for part in reversed(divmod(joint, q))], half))
    return "\n".join(lines) + "\n"


def compile_program(directory: Path) -> Path:
    """constant_time.c and the kernel as one program. Raises TimingError."""
    (directory / "numbers.h").write_text(numbers(random.Random(1)))
    program = directory / "constant_time"
    sources = [PROGRAM, *sorted(build_native.SOURCES.glob("*.c"))]
    flags = [*build_native.FLAGS, "-g", "-DWK_CHECK_CONSTANT_TIME", f"-I{directory}", f"-I{build_native.SOURCES}"]
    command = [*_compiler(), *flags, "-o", str(program), *map(str, sources)]
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    if compiled.returncode != 0:
        raise TimingError(f"constant_time.c does not compile:\n{compiled.stderr[-3000:]}")
    return program


def watch(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run under memcheck; the exit code is REPORTED when it has something to report."""
    command = ["valgrind", f"--error-exitcode={REPORTED}", "--track-origins=yes", "--leak-check=full"]
    return subprocess.run([*command, str(program), *arguments], capture_output=True, text=True, check=False)


def main() -> None:
    """Check and print the entry points. Ends with 1 and what memcheck said when there is something to say."""
    ensure_valgrind()
    if "portable" not in library.paths():
        raise TimingError(f"no compiled kernel: {library.reason()}")
    with tempfile.TemporaryDirectory(prefix="warren-timing-") as name:
        program = compile_program(Path(name))
        caught = watch(program, "branch")
        if caught.returncode != REPORTED:
            raise TimingError(f"memcheck does not see a branch on a secret:\n{caught.stdout}{caught.stderr}")
        checked = watch(program)
    if checked.returncode != 0:
        raise TimingError(f"after {checked.stdout}{checked.stderr}")
    print(checked.stdout + "no branch depends on a secret, and no address but those that residues.h names")


if __name__ == "__main__":
    try:
        main()
    except TimingError as error:
        sys.exit(f"timing-check: {error}")
