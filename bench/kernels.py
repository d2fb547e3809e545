"""Whether there is a compiled kernel, and which of its paths can be raced."""

from typing import Any

from kernel import library


def kernel_state() -> dict[str, Any]:
    """The path that runs (None: no kernel), all that can run here, and why."""
    loaded = library.load()
    return {
        "path": None if loaded is None else loaded.path,
        "paths": list(library.paths()),
        "reason": library.reason(),
    }
