"""Which code does the heavy work here, and why: for `warren doctor` and the daemon's log."""

from dataclasses import dataclass

from alignment import lanes
from kernel import library
from paillier import choice


@dataclass(frozen=True)
class BackEnd:
    """What does one kind of work (`paillier`, `alignment`), by name.

    `why` is a reason, `advice` says what would make it faster; empty for the fastest. `fallen_back`: this machine
    could do better than what runs.
    """

    work: str
    name: str
    why: str
    advice: str = ""
    fallen_back: bool = False


def back_ends() -> tuple[BackEnd, BackEnd]:
    """Those of Paillier and of the alignment. Raises kernel.library.KernelError for a choice that cannot be had."""
    kernel, why, advice = library.load(), library.reason(), _advice()
    paillier = choice.select().name
    if kernel is None:
        return (
            BackEnd("paillier", paillier, why, advice, fallen_back=True),
            BackEnd("alignment", "cryptography", why, advice, fallen_back=True),
        )
    back = kernel.path != library.paths()[-1]
    compiled = f"compiled ({kernel.path})"
    if lanes.fast() is not None:
        alignment = BackEnd("alignment", compiled, why, advice, back)
    else:
        slower = f"on the path {kernel.path} the kernel would be slower"
        alignment = BackEnd("alignment", "cryptography", slower, advice, back)
    return BackEnd("paillier", compiled, why, advice, back), alignment


def _advice() -> str:
    kernel = library.load()
    if kernel is None:
        return "Results are the same, but take several times longer: do what the reason says."
    if kernel.path == library.PATHS[-1]:
        return ""
    if kernel.path != library.paths()[-1]:
        return f"Unset {library.CHOICE}: this machine can run {library.paths()[-1]}."
    return "Nothing is missing here; processors with AVX-512 IFMA (Intel Ice Lake, AMD Zen 4 and later) are faster."
