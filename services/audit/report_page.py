"""The report as one HTML page: nothing from elsewhere, readable by day and by night, on paper and on a telephone."""

import time
from html import escape
from typing import Final

from services.audit.reporting import Fact, Line, Report

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --paper: #fff; --rule: #d1d9e0; --bad: #b3261e;
  --bad-paper: #fdecea; --good: #1a7f37; --head: #f6f8fa; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --paper: #0d1117; --rule: #3d444d;
  --bad: #ff8a80; --bad-paper: #3b1715; --good: #56d364; --head: #161b22; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0; } .soft { color: var(--soft); }
.verdict { font-weight: 600; margin: 1rem 0; padding: .6rem .9rem; border-left: 4px solid var(--good);
  background: var(--head); }
.verdict.bad { border-color: var(--bad); background: var(--bad-paper); color: var(--bad); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .35rem 1.25rem .35rem .4rem;
  border-bottom: 1px solid var(--rule); vertical-align: top; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td:first-child, th:first-child { width: 14rem; }
td.number, th.number { width: 8rem; text-align: right; font-variant-numeric: tabular-nums; }
tr.bad td, tr.bad th { background: var(--bad-paper); color: var(--bad); font-weight: 600; }
li.bad { color: var(--bad); font-weight: 600; }
code { font: 13px ui-monospace, monospace; overflow-wrap: anywhere; }
@media print { body { max-width: none; padding: 0; } }
"""
_DIRECTIONS: Final = (("sent", "What left the house"), ("received", "What came in"))


def page(report: Report) -> str:
    """The whole page. Everything that is not this module's own text is escaped: a kind or reason may be anything."""
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(report.exported_at)) if report.exported_at else ""
    verdict = (
        '<p class="verdict">Everything is within the signed contract, and nothing is missing or altered.</p>'
        if report.within
        else '<p class="verdict bad">Something is outside the contract, missing or altered: it is in red below.</p>'
    )
    parts = [
        f"<h1>Audit of job {escape(report.job)}</h1>",
        f'<p class="soft">{escape(report.role)} {escape(report.party)} with {escape(", ".join(report.partners))}; '
        f"the job is {escape(report.outcome)}; export for the {escape(report.audience)}, {escape(when)}</p>",
        verdict,
        _findings(report),
        "<h2>Against the contract</h2>",
        _facts(report.facts),
        *(
            f"<h2>{title}</h2>{_lines([line for line in report.lines if line.direction == direction])}"
            for direction, title in _DIRECTIONS
        ),
        "<h2>Whose signatures these are</h2>",
        *(f"<p>{escape(name)}: <code>{escape(text)}</code></p>" for name, text in report.fingerprints.items()),
        f'<p class="soft">Head of the chain: <code>{escape(report.head)}</code></p>',
    ]
    title = f"Audit of job {escape(report.job)}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _findings(report: Report) -> str:
    if not report.findings:
        return ""
    items = "".join(f'<li class="bad">{escape(text)}</li>' for text in report.findings)
    return f"<h2>Missing or altered</h2><ul>{items}</ul>"


def _facts(facts: list[Fact]) -> str:
    rows = "".join(
        f"<tr{_bad(fact.outside)}><th>{escape(fact.name)}</th><td>{escape(fact.value)}</td>"
        f"<td>{escape(fact.contract)}</td></tr>"
        for fact in facts
    )
    return f'<div class="wide"><table>{rows}</table></div>'


def _lines(lines: list[Line]) -> str:
    if not lines:
        return '<p class="soft">Nothing.</p>'
    rows = "".join(
        f"<tr{_bad(bool(line.outside))}><td>{escape(line.kind)}</td><td>{escape(line.partner)}</td>"
        f'<td class="number">{line.messages:,}</td><td class="number">{escape(line.bytes_text)}</td>'
        f'<td class="number">{escape(line.rows_text)}</td><td>{escape(line.sealed_text)}</td>'
        f"<td>{escape('; '.join(line.outside))}</td></tr>"
        for line in lines
    )
    return (
        '<div class="wide"><table><thead><tr><th>kind</th><th>partner</th><th class="number">messages</th>'
        '<th class="number">bytes</th><th class="number">rows</th><th>sealed</th><th>outside the contract</th></tr>'
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def _bad(outside: bool) -> str:
    return ' class="bad"' if outside else ""
