"""What came of the rounds, as tables for people; they are Markdown as well."""

import math
from statistics import median

from rich import box
from rich.table import Table

from tests.chaos.faults import FAULTS
from tests.chaos.rounds import IDENTICAL, Incident, Results
from tests.chaos.stages import Stage


def recovery_table(results: Results) -> Table:
    """A row for each fault in each stage."""
    heads = ("fault", "stage", "times", "next event, s", "max", "next message, s", "max", "model identical")
    table = Table(*heads, box=box.MARKDOWN)
    for column in table.columns[2:]:
        column.justify = "right"
    for fault in FAULTS:
        for stage in Stage:
            found = [each for each in results.incidents if (each.fault, each.stage) == (fault.name, stage)]
            if found:
                table.add_row(fault.name, stage, str(len(found)), *_seconds(found), _identical(found))
    return table


def _seconds(found: list[Incident]) -> tuple[str, str, str, str]:
    events, messages = [each.event_s for each in found], [each.message_s for each in found]
    return _plain(median(events)), _plain(max(events)), _plain(median(messages)), _plain(max(messages))


def _plain(seconds: float) -> str:
    return f"{seconds:.2f}" if math.isfinite(seconds) else "never"


def _identical(found: list[Incident]) -> str:
    same = sum(each.outcome == IDENTICAL for each in found)
    return "yes" if same == len(found) else f"{same} of {len(found)}"


def coverage_table(results: Results) -> Table:
    """How often each fault happened in each stage."""
    table = Table("fault", *Stage, box=box.MARKDOWN)
    for column in table.columns[1:]:
        column.justify = "right"
    for fault in FAULTS:
        table.add_row(fault.name, *(str(results.count(fault.name, stage)) for stage in Stage))
    return table


def closing_line(results: Results) -> str:
    """The verdict in one line."""
    stages = len({each.stage for each in results.incidents} & set(Stage))
    return (
        f"{results.rounds} rounds, {len(results.incidents)} faults in {stages} stages, "
        f"{len(results.different)} differing models, {len(results.lost)} lost jobs"
    )
