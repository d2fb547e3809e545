"""Plots for people: how a job converged, and how well a logistic model separates."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

BUSINESS_COLOUR, PROVIDER_COLOUR, QUIET = "#1f5a99", "#c8641b", "#888888"


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


def plot_roc(path: Path, labels: NDArray[np.float64], scores: NDArray[np.float64], metrics: dict[str, float]) -> None:
    """ROC curve on the training rows, with the point of the KS statistic."""
    order = np.argsort(-scores, kind="stable")
    ordered, positive = scores[order], labels[order] > 0
    last_of_ties = np.append(np.diff(ordered) != 0, True)
    hits = np.concatenate([[0.0], np.cumsum(positive)[last_of_ties] / max(1, positive.sum())])
    alarms = np.concatenate([[0.0], np.cumsum(~positive)[last_of_ties] / max(1, (~positive).sum())])
    best = int(np.argmax(hits - alarms))
    figure, axes = plt.subplots(figsize=(5.5, 5.5))
    axes.plot(alarms, hits, color=BUSINESS_COLOUR, label=f"joint model, AUC {metrics['auc']:.4f}")
    axes.plot([0, 1], [0, 1], color=QUIET, linestyle="--", linewidth=1, label="chance")
    gap = hits[best] - alarms[best]
    axes.plot([alarms[best]] * 2, [alarms[best], hits[best]], color=PROVIDER_COLOUR, label=f"KS {gap:.4f}")
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    axes.set_aspect("equal")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    axes.set_title("Receiver operating characteristic, training rows")
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
