"""One target under atheris: `python -m tests.fuzz.worker TARGET [libFuzzer's arguments]`."""

import importlib
import sys
from random import Random

import atheris


def main() -> None:
    name = sys.argv[1]
    with atheris.instrument_imports(include=["messages", "services", "protocol"]):
        target = importlib.import_module(f"tests.fuzz.targets.{name}")

    def mutate(data: bytes, size_max: int, seed: int) -> bytes:
        changed: bytes = target.mutate(data, size_max, Random(seed), atheris.Mutate)
        return changed[:size_max]

    atheris.Setup([sys.argv[0], *sys.argv[2:]], target.fuzz_one, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
