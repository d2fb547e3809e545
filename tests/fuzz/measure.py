"""What a target's inputs reach, as JSON: `python -m tests.fuzz.measure TARGET FOLDER...`.

A process of its own, because coverage.py has to be there before the modules under test are imported.
"""

import dataclasses
import json
import sys
from pathlib import Path

from tests.fuzz.replay import files_of, measure, target_of


def main() -> int:
    name, folders = sys.argv[1], map(Path, sys.argv[2:])
    files = files_of(*folders)
    reached, needed, failed = measure(name, files)
    modules = [
        {**dataclasses.asdict(found), "line_share": found.line_share, "branch_share": found.branch_share}
        for found in reached
    ]
    report = {
        "modules": modules,
        "needed": list(map(str, needed)),
        "failed": list(map(str, failed)),
        "inputs": len(files),
        "held": bool(target_of(name).HELD),
    }
    print(json.dumps(report))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
