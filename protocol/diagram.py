"""Draws the transition tables as Mermaid state diagrams: `python -m protocol.diagram` prints docs/states.md."""

from protocol.state import Phase
from protocol.table import TRANSITIONS

_HEAD = """# State diagrams

Generated from `protocol/table.py` by `make diagrams`; a test compares. Every phase that is not terminal also
goes to `failed` (a check or a task failed, here or at the partner), `cancelled` (an operator decided so) and
`expired` (the contract's expiry passed). A provider that revokes its consent goes to `failed`, too, and to
`declined` as long as it has not accepted. Events that leave a phase as it is are not drawn.
"""


_EVERYWHERE = {"compute_failed", "cancel", "expired", "revoke", "control:job.cancel", "control:job.failed"}


def diagram(role: str) -> str:
    """The Mermaid diagram of one role."""
    table = TRANSITIONS[role]
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> new"]
    for phase in Phase:
        if phase not in table:
            continue
        moves: dict[Phase, list[str]] = {}
        for label, targets in table[phase].items():
            if label in _EVERYWHERE:
                continue
            for target in Phase:
                if target in targets and target is not phase:
                    moves.setdefault(target, []).append(label.replace(":", " "))
        lines += [f"    {phase.value} --> {target.value}: {', '.join(labels)}" for target, labels in moves.items()]
    lines += ["    done --> [*]", "```"]
    return "\n".join(lines)


def document() -> str:
    """The whole of docs/states.md."""
    parts = [_HEAD]
    parts += [f"## {role.capitalize()}\n\n{diagram(role)}\n" for role in TRANSITIONS]
    return "\n".join(parts)


if __name__ == "__main__":
    print(document(), end="")  # noqa: T201
