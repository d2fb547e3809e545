"""A report of figures for people: a table on a terminal, Markdown elsewhere."""

from collections.abc import Sequence
from itertools import groupby

from rich.console import Console, JustifyMethod
from rich.table import Table

from bench.rounds import Column, Report, Row

NOTHING = "-"

Cells = list[list[str]]
"""Lines of a table, the heading first."""


def show(report: Report, out: Console, *, markdown: bool) -> None:
    """Print the report; `markdown` as the text of `to_markdown`, unwrapped."""
    if markdown:
        out.print(to_markdown(report), markup=False, soft_wrap=True)
        return
    for title, times, ratios in _figures(report):
        # Side by side they are too wide for most terminals.
        for heading, cells in ((title, times), (f"{title}: times faster (median)", ratios)):
            _print(out, heading, cells)
    out.print(CALLS)
    for row in report.rows:
        out.print(f"{row.title}: {_calls_of(row, report.columns)}", markup=False)
    out.print()
    for note in notes(report):
        out.print(note, markup=False)


def _print(out: Console, title: str, cells: Cells) -> None:
    table = Table(title=title, title_justify="left", box=None)
    for at, heading in enumerate(cells[0]):
        justify: JustifyMethod = "right" if at else "left"
        table.add_column(heading.replace(" (", "\n("), justify=justify, overflow="fold", no_wrap=not at)
    for line in cells[1:]:
        table.add_row(*line)
    out.print(table)
    out.print()


def to_markdown(report: Report) -> str:
    """The tables and notes as Markdown."""
    tables = [
        (title, [line + more[1:] for line, more in zip(times, ratios, strict=True)], "---:|")
        for title, times, ratios in _figures(report)
    ]
    lines: list[str] = []
    for title, cells, align in (*tables, (CALLS, _calls(report), "---|")):
        lines += [f"**{title}**", "", _line(cells[0]), "|---|" + align * (len(cells[0]) - 1)]
        lines += [_line(each) for each in cells[1:]]
        lines.append("")
    lines += [f"- {note}" for note in notes(report)]
    return "\n".join(lines)


CALLS = "What was timed: call, and items of one batch"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _figures(report: Report) -> list[tuple[str, Cells, Cells]]:
    """(title, microseconds, ratios) of each section, line by line the same operations."""
    return [
        (section, *_section(report.columns, list(rows)))
        for section, rows in groupby(report.rows, key=lambda row: row.section)
    ]


def _section(columns: Sequence[Column], rows: list[Row]) -> tuple[Cells, Cells]:
    """Microseconds by column; how many times faster the first of our own columns is than each peer."""
    measured = {key for row in rows for key in row.figures}
    shown = [column for column in columns if column.key in measured or (column.absent and not column.peer)]
    peers = [column for column in shown if column.peer]
    wanted = any(row.wanted is not None for row in rows)
    times = [["microseconds", "per", *(column.title for column in shown)]]
    ratios = [["ratio", *(f"{peer.title} / own (median)" for peer in peers), *(("wanted", "met") if wanted else ())]]
    for row in rows:
        figures = [row.figures.get(column.key) for column in shown]
        times.append([row.title, row.per, *(_number(one.microseconds) if one else NOTHING for one in figures)])
        own = next(iter(row.ratios.values()), {})
        found = [own.get(peer.key) for peer in peers]
        line = [row.title, *(f"{_number(one.ratio)} ({_number(one.median)})" if one else NOTHING for one in found)]
        if wanted:
            line.append(NOTHING if row.wanted is None else f"{row.wanted:g}")
            line.append(NOTHING if row.met is None else "yes" if row.met else "no")
        ratios.append(line)
    return times, ratios


def _number(value: float) -> str:
    """Three digits where there are fewer before the point, and no 100.0 for what is just below."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _calls(report: Report) -> Cells:
    shown = [column for column in report.columns if any(column.key in row.figures for row in report.rows)]
    lines = [["operation", *(column.title for column in shown)]]
    for row in report.rows:
        cells = [row.figures.get(column.key) for column in shown]
        lines.append([row.title, *(NOTHING if cell is None else f"`{cell.call}`, {cell.batch}" for cell in cells)])
    return lines


def _calls_of(row: Row, columns: Sequence[Column]) -> str:
    """In one line, columns with the same call together."""
    found: dict[str, list[str]] = {}
    for column in columns:
        if column.key in row.figures:
            figure = row.figures[column.key]
            found.setdefault(f"`{figure.call}`, {figure.batch}", []).append(column.title)
    return "; ".join(f"{', '.join(titles)} {call}" for call, titles in found.items())


def notes(report: Report) -> list[str]:
    """Which versions ran on what, and why a column is empty."""
    machine, facts = report.machine, ", ".join(f"{key} {value}" for key, value in report.facts.items())
    core = "not bound to a core" if machine["bound_to_core"] is None else "one core"
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, all columns on {core}; Python {report.versions['python']}; "
        f"{facts}.",
        "Times are the fastest run, for keys the median; ratios in brackets are medians over the rounds.",
    ]
    for column in report.columns:
        if column.absent:
            lines.append(f"{column.title}: not measured, {column.absent}.")
        else:
            threads = "1 thread" if column.threads == 1 else f"{column.threads} threads"
            lines.append(f"{column.title}: {column.version}, {threads}{'; ' if column.note else ''}{column.note}.")
    lines.append(f"Kernel: {report.kernel['path'] or 'none'} ({report.kernel['reason']}).")
    return lines
