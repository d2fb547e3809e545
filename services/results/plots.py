"""Plots for people: how a job converged, how well a model ranks and how well it is calibrated."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from learning.evaluation import ranking
from learning.evaluation.part_figures import Evaluation
from learning.inference.standard_errors import INTERCEPT, Estimate

T = TypeVar("T")

BUSINESS_COLOUR, PROVIDER_COLOUR, QUIET = "#1f5a99", "#c8641b", "#888888"
# Okabe, Ito (2008): told apart by those who see no red or green; marks and dashes differ as well.
PART_COLOURS = ("#0072b2", "#d55e00", "#009e73")
PART_MARKS = ("o", "s", "^")
PART_DASHES = ("-", (0, (5, 1.5)), (0, (4, 1.5, 1, 1.5)))


def plot_convergence(path: Path, facts: list[dict[str, Any]], tolerance: float) -> None:
    """Largest preconditioned gradient entry of each party, and link-term ciphertexts, by iteration.

    An entry is zero where release noise explains all of the gradient: a hollow mark below all others, since
    a logarithmic axis has no place for it.
    """
    iterations = [fact["iteration"] for fact in facts]
    figure, (above, below) = plt.subplots(2, 1, figsize=(7, 6), sharex=True, height_ratios=(2, 1))
    sizes = {who: np.array([fact[f"largest_{who}"] for fact in facts]) for who in ("business", "provider")}
    edge = min([tolerance, *(size for entries in sizes.values() for size in entries[entries > 0])]) / 3
    for (who, entries), colour in zip(sizes.items(), (BUSINESS_COLOUR, PROVIDER_COLOUR), strict=True):
        above.semilogy(iterations, np.maximum(entries, edge), "-", color=colour, linewidth=1.5)
        for shown, fill in ((entries > 0, colour), (entries <= 0, "white")):
            places = np.array(iterations)[shown]
            above.plot(places, np.maximum(entries, edge)[shown], "o", color=colour, markerfacecolor=fill)
        above.plot([], [], "o-", color=colour, label=who)
    if any((entries <= 0).any() for entries in sizes.values()):
        above.plot([], [], "o", color=QUIET, markerfacecolor="white", label="within release noise")
    above.set_ylim(bottom=edge / 2)
    above.axhline(tolerance, color=QUIET, linestyle="--", linewidth=1, label=f"tolerance {tolerance:g}")
    above.set_ylabel("largest gradient entry\n(preconditioned, beyond release noise)")
    above.legend(frameon=False, loc="upper right")
    below.bar(iterations, [fact["terms"] + 1 for fact in facts], color=BUSINESS_COLOUR, width=0.6)
    below.set_ylabel("ciphertexts per row")
    below.set_xlabel("iteration")
    below.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    below.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
    figure.suptitle("Convergence of the joint model")
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def plot_validation(path: Path, validation: Mapping[str, Any]) -> None:
    """Held-out loss of every fold and their mean by penalty, less that at the strongest; the choice is marked."""
    penalties, figure = validation["penalties"], plt.figure(figsize=(7, 4.5))
    axes = figure.add_subplot()
    for fold in validation["deviances"]:
        axes.plot(penalties, fold, "-", color=QUIET, linewidth=1, alpha=0.7)
    axes.plot([], [], "-", color=QUIET, label="a fold")
    axes.plot(penalties, validation["means"], "o-", color=BUSINESS_COLOUR, label="mean of all held-out rows")
    chosen = validation["chosen"]
    axes.axvline(chosen, color=PROVIDER_COLOUR, linestyle="--", linewidth=1, label=f"chosen: {chosen:g}")
    if min(penalties) > 0.0:
        axes.set_xscale("log")
    else:
        # A logarithmic axis has no place for no penalty.
        axes.set_xscale("symlog", linthresh=min(value for value in penalties if value > 0.0))
        axes.set_xlim(left=0.0)
    axes.set_xlabel("penalty l2")
    axes.set_ylabel("held-out loss, difference")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    figure.suptitle("Cross-validation")
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def plot_stopping(path: Path, stopping: Mapping[str, Any]) -> None:
    """The metric of the validation rows by iteration, in a job that stops early; the iteration kept is marked."""
    figure, axes = plt.subplots(figsize=(7, 4.5))
    iterations = [one["iteration"] for one in stopping["evaluations"]]
    figures = [one["figure"] for one in stopping["evaluations"]]
    best = stopping["best"]
    axes.plot(iterations, figures, "o-", color=BUSINESS_COLOUR, label="validation rows")
    axes.plot(best, figures[iterations.index(best)], "o", color=PROVIDER_COLOUR, markersize=10, label=f"kept: {best}")
    axes.set_xlabel("iteration")
    axes.set_ylabel(stopping["metric"].replace("_", " "))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", alpha=0.25)
    axes.legend(frameon=False)
    axes.set_title("Early stopping")
    _finish(figure, path, axes)


Part = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]
"""Labels (n,), scores (n,) and, where rows have any, weights (n,) of a part."""


def _finish(figure: Figure, path: Path, *every: Axes) -> None:
    for axes in every:
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _styled(parts: Mapping[str, T]) -> Iterator[tuple[str, T, dict[str, Any], str]]:
    """(name, content, line style, mark) of every part."""
    styles = itertools.cycle(zip(PART_COLOURS, PART_DASHES, PART_MARKS, strict=True))
    for (name, content), (colour, dashes, mark) in zip(parts.items(), styles, strict=False):
        yield name, content, {"color": colour, "linestyle": dashes}, mark


SHARE = ("share of rows, highest scores first", "share of the rows' weight, highest scores first")


def plot_roc(path: Path, parts: Mapping[str, Part]) -> None:
    """ROC curve of every part that has both classes, with the point of the KS statistic."""
    figure, axes = plt.subplots(figsize=(5.5, 5.5))
    for name, (labels, scores, weights), style, _ in _styled(parts):
        ranked = ranking.ranking(labels, scores, weights)
        alarms, hits = ranking.roc(ranked)
        gap, at = ranking.ks_point(ranked)
        if not np.isfinite(gap):
            continue
        axes.plot(alarms, hits, **style, label=f"{name}: AUC {ranking.area(ranked):.4f}")
        best = int((ranked.thresholds >= at).sum())
        ends = sorted((float(alarms[best]), float(hits[best])))
        axes.plot([alarms[best]] * 2, ends, color=style["color"], linestyle=":", label=f"KS {gap:.4f}")
    axes.plot([0, 1], [0, 1], color=QUIET, linestyle="--", linewidth=1, label="chance")
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    axes.set_aspect("equal")
    axes.legend(frameon=False, loc="lower right")
    axes.set_title("Receiver operating characteristic")
    _finish(figure, path, axes)


def plot_ks(path: Path, parts: Mapping[str, Part]) -> None:
    """Share of each class at or above a score, by the share of rows: where the curves are furthest apart is KS."""
    figure, every = plt.subplots(1, len(parts), figsize=(4.6 * len(parts) + 0.6, 4.4), squeeze=False, sharey=True)
    for axes, (name, (labels, scores, weights)) in zip(every[0], parts.items(), strict=True):
        ranked = ranking.ranking(labels, scores, weights)
        alarms, hits = ranking.roc(ranked)
        weight = ranked.positives + ranked.negatives
        share = np.concatenate([[0.0], weight / (weight[-1] or 1.0)])
        axes.plot(share, hits, color=BUSINESS_COLOUR, label="label 1")
        axes.plot(share, alarms, color=PROVIDER_COLOUR, label="label 0")
        gap, at = ranking.ks_point(ranked)
        if np.isfinite(gap):
            best = int((ranked.thresholds >= at).sum())
            ends = sorted((float(alarms[best]), float(hits[best])))
            axes.plot([share[best]] * 2, ends, color=QUIET, label=f"KS {gap:.4f} at score {at:.3f}")
        axes.set_xlabel(SHARE[weights is not None])
        axes.set_title(name)
        axes.legend(frameon=False, loc="lower right")
    every[0][0].set_ylabel("share of the class")
    _finish(figure, path, *every[0])


def plot_lift(path: Path, evaluations: Mapping[str, Evaluation]) -> None:
    """Gain (share of the positives found) and lift, by the share of rows taken from the highest scores down."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.4))
    weighted = False
    for name, evaluation, style, mark in _styled(evaluations):
        share = [row.share for row in evaluation.lift]
        left.plot([0.0, *share], [0.0, *(row.gain for row in evaluation.lift)], marker=mark, **style, label=name)
        right.plot(share, [row.cumulative_lift for row in evaluation.lift], marker=mark, **style, label=name)
        weighted = weighted or evaluation.weight != evaluation.rows
    left.plot([0, 1], [0, 1], color=QUIET, linestyle="--", linewidth=1, label="chance")
    right.axhline(1.0, color=QUIET, linestyle="--", linewidth=1)
    left.set_ylabel("gain: share of the sum of labels")
    right.set_ylabel("cumulative lift")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.set_xlabel(SHARE[weighted])
        axes.set_xlim(0, 1.02)
        axes.grid(alpha=0.25)
    left.legend(frameon=False, loc="lower right")
    figure.suptitle("Gain and lift")
    _finish(figure, path, left, right)


def plot_calibration(path: Path, evaluations: Mapping[str, Evaluation]) -> None:
    """Mean label against mean prediction in quantile bins of the predictions; on the diagonal both agree."""
    figure, axes = plt.subplots(figsize=(5.5, 5.5))
    values: list[float] = []
    for name, evaluation, style, mark in _styled(evaluations):
        expected = [row.expected for row in evaluation.calibration]
        observed = [row.observed for row in evaluation.calibration]
        test = evaluation.hosmer_lemeshow
        note = ""
        if test is not None and np.isfinite(test.p):
            note = ": Hosmer-Lemeshow p " + (f"{test.p:.3f}" if test.p >= 0.001 else "< 0.001")
        axes.plot(expected, observed, marker=mark, **style, label=f"{name}{note}")
        values += [*expected, *observed]
    margin = 0.04 * (max(values) - min(values) or 1.0)
    ends = [min(values) - margin, max(values) + margin]
    axes.plot(ends, ends, color=QUIET, linestyle="--", linewidth=1)
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    axes.set_aspect("equal")
    axes.set_xlabel("expected: mean prediction of a bin")
    axes.set_ylabel("observed: mean label of a bin")
    axes.legend(frameon=False, loc="upper left")
    axes.set_title("Calibration")
    _finish(figure, path, axes)


def plot_coefficients(path: Path, estimates: Sequence[Estimate]) -> None:
    """Estimates with their 95 % intervals, each in units of its own error: how many errors it is away from zero.

    Coefficients of columns of different units cannot share an axis; their z-values can. The intercept is left out; a
    coefficient without an error is a hollow mark at zero.
    """
    estimates = [one for one in estimates if one.name != INTERCEPT]
    names = [one.name if len(one.name) <= 32 else one.name[:31] + "…" for one in estimates]
    places = np.arange(len(estimates))[::-1]
    figure, axes = plt.subplots(figsize=(7, 1.4 + 0.28 * len(estimates)))
    axes.axvline(0.0, color=QUIET, linewidth=1)
    for place, one in zip(places, estimates, strict=True):
        if one.z is None:
            axes.plot([0.0], [place], "o", color=QUIET, markerfacecolor="white")
            continue
        clear = one.p_at_most is not None and one.p_at_most < 0.05
        colour = BUSINESS_COLOUR if clear else QUIET
        axes.plot([one.z - 1.96, one.z + 1.96], [place, place], "-", color=colour, linewidth=1.5)
        axes.plot([one.z], [place], "o", color=colour)
    axes.plot([], [], "o-", color=BUSINESS_COLOUR, label="p < 0.05")
    axes.plot([], [], "o-", color=QUIET, label="not clear")
    axes.set_yticks(places, names)
    axes.set_ylim(-0.7, len(estimates) - 0.3)
    axes.set_xlabel("estimate in standard errors, with its 95 % interval")
    axes.grid(axis="x", alpha=0.25)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    _finish(figure, path, axes)
