"""Which back end is taken."""

from kernel import library
from paillier.backend import Backend, BackendError
from paillier.compiled_backend import CompiledBackend
from paillier.gmpy2_backend import Gmpy2Backend


def select(name: str = "auto", threads: int = 1) -> Backend:
    """The back end of this name, or the fastest there is: "compiled" where the kernel was built, else "gmpy2".

    `threads` share a batch of the compiled one. Raises BackendError for a name that is unknown or not there.
    """
    kernel = None if name == Gmpy2Backend.name else library.load()
    if name not in {"auto", Gmpy2Backend.name, CompiledBackend.name}:
        raise BackendError(f"no back end {name!r}: auto, {CompiledBackend.name} or {Gmpy2Backend.name}")
    if kernel is not None:
        return CompiledBackend(kernel, threads)
    if name == CompiledBackend.name:
        raise BackendError(f"no compiled back end: {library.reason()}")
    return Gmpy2Backend()
