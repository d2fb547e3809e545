"""Fuzzing of everything that is parsed from the wire, from files and from the control socket.

A target is a module in `tests.fuzz.targets` with

- `MODULES`: the files under test, relative to the repository;
- `HELD`: whether its corpus has to reach 95 % of their lines and of their branches;
- `INPUT_BYTES_MAX`: the longest input;
- `seeds()`: valid inputs to begin from;
- `mutate(data, size_max, chance, plain)`: another input near `data` that gets past digests and signatures;
- `fuzz_one(data)`: reads the input and checks what came of it. Whatever it raises is a bug.

Targets know nothing of the fuzzer, so that pytest replays the kept corpus without it. `python -m tests.fuzz`
runs them under atheris, each in a process of its own.
"""
