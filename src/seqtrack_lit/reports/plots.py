"""Plots of scores and of learning, for light and for dark ground, in colours that colour-blind readers distinguish.

Every function makes a matplotlib Figure and touches no global state; `save` writes it.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from seqtrack_lit.checks import printable
from seqtrack_lit.evaluation import ope, toolkits
from seqtrack_lit.evaluation.scores import Scores
from seqtrack_lit.evaluation.tables import paper_rows
from seqtrack_lit.files import write_atomic
from seqtrack_lit.runs.read import Columns, Curve


@dataclass(frozen=True)
class Theme:
    """Colours of a plot; the cycle is that of Okabe and Ito (2008), lightened for dark ground."""

    ground: str
    ink: str
    faint: str
    cycle: tuple[str, ...]


LIGHT = Theme("#ffffff", "#1c2430", "#d8dde3", ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b07d00", "#3a8fc2"))
DARK = Theme("#161b22", "#e6e9ee", "#3a424d", ("#56b4e9", "#ff8c42", "#2fc79a", "#e39cc4", "#f0c043", "#9fd3f5"))
_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))

Kind = Literal["success", "precision", "norm_precision", "eao"]
KINDS: tuple[Kind, ...] = ("success", "precision", "norm_precision", "eao")

# What stands on the axes; the score in the legend is the one read from this curve.
_AXES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "success": ("overlap threshold (IoU)", "frames above it, %", ("AUC", "AO", "IoU")),
    "precision": ("location error threshold, pixels", "frames within it, %", ("P",)),
    "norm_precision": ("location error threshold, target sizes", "frames within it, %", ("PNorm",)),
    "eao": ("frames", "expected average overlap, %", ("EAO",)),
}
_READ_AT = {"precision": 20.0, "norm_precision": 0.2}  # thresholds of P and PNorm
_MARKERS = ("o", "s", "^", "D")
_TITLES = {
    "success": "success",
    "precision": "precision",
    "norm_precision": "normalised precision",
    "eao": "expected average overlap",
}


def _thresholds(kind: Kind, convention: str) -> Float64[np.ndarray, "T"]:
    if convention == "trackingnet":
        steps = {"precision": toolkits.TRACKINGNET_PRECISION, "norm_precision": toolkits.TRACKINGNET_NORM}
        return steps.get(kind, ope.SUCCESS_THRESHOLDS)
    if kind == "success":
        return toolkits.AO_THRESHOLDS if convention == "got10k_ao" else ope.SUCCESS_THRESHOLDS
    return ope.PRECISION_THRESHOLDS if kind == "precision" else ope.NORM_THRESHOLDS


def curve_plot(scores: Sequence[Scores], kind: Kind = "success", *, theme: Theme = LIGHT) -> Figure:
    """A curve of several trackers on one benchmark, best first in the legend; VOT's EAO over frames among them.

    Where the paper has numbers of this benchmark, those of its trackers stand below; P and PNorm are points of their
    curve and are drawn at the threshold they are read at, AUC is an area and is only told.

    Raises:
        ValueError: no scores, other benchmarks or conventions than the first's, or no such curve (AO has success only).
    """
    if not scores or len({(s.benchmark, s.convention) for s in scores}) > 1:
        raise ValueError("a plot shows one benchmark by one convention; choose the scores first")
    if any(kind not in s.curves for s in scores):
        raise ValueError(f"convention {scores[0].convention} has no curve {kind!r}")
    along, up, names = _AXES[kind]
    name = next((name for name in names if name in scores[0].values), names[0])
    figure, (axes,) = _canvas(theme, 1, (6.4, 4.4))
    order = sorted(range(len(scores)), key=lambda i: -scores[i].values[name])
    for i in order:
        one = scores[i]
        axes.plot(
            np.arange(len(one.curves[kind])) if kind == "eao" else _thresholds(kind, one.convention),
            one.curves[kind],
            color=theme.cycle[i % len(theme.cycle)],
            linestyle=_STYLES[i % len(_STYLES)],
            linewidth=2,
            label=_plain(f"{one.tracker}  {one.values[name]:.1f}"),
        )
    at = None if scores[0].convention == "trackingnet" else _READ_AT.get(kind)  # there all three are areas
    for i, (tracker, values) in enumerate(paper_rows(scores[0].benchmark, scores[0].convention).items()):
        if (published := values.get(name)) is not None and kind != "eao":
            marker = _MARKERS[i % len(_MARKERS)] if at is not None else ""
            label = _plain(f"{tracker} (paper)  {published:.1f}")
            where = ([at], [published]) if at is not None else ([], [])
            axes.plot(*where, color=theme.ink, marker=marker, markerfacecolor="none", linestyle="", label=label)
    axes.set(xlabel=along, ylabel=up, ylim=(0, 102), title=_plain(f"{scores[0].benchmark}: {_TITLES[kind]} ({name})"))
    axes.margins(x=0)
    _legend_below(figure, axes, theme)
    return figure


def learning_plot(columns: Columns, *, theme: Theme = LIGHT) -> Figure:
    """Loss per token position; pair IoU with the right and with another template; tracked scores.

    Args:
        columns: metrics.csv by column name as (training pairs seen, values); what is missing is left out.
        theme: colours.

    Raises:
        ValueError: nothing to draw.
    """
    losses = {key: key.removeprefix("train/loss_") for key in columns if key.startswith("train/loss_")}
    wanted = {"loss by token": losses, "pair IoU, %": _PAIRS, "tracked held-out videos, %": _TRACKED}
    panels = {title: {key: of[key] for key in of if key in columns} for title, of in wanted.items()}
    panels = {title: of for title, of in panels.items() if of}
    if not panels:
        raise ValueError("metrics.csv has none of the columns of the learning plot: train/loss_..., val/...")
    figure, all_axes = _canvas(theme, len(panels), (4.1 * len(panels), 3.7))
    for axes, (title, of) in zip(all_axes, panels.items(), strict=True):
        for number, (key, label) in enumerate(of.items()):
            _line(axes, *columns[key], label=label, color=theme.cycle[number % len(theme.cycle)], number=number)
        if of.keys() == _PAIRS.keys():
            _shade_reliance(axes, columns, theme)
        axes.set(xlabel="training pairs seen", title=title)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(FuncFormatter(_count))
        axes.legend(frameon=False, fontsize="small", labelcolor=theme.ink)
    return figure


def runs_plot(groups: Sequence[Sequence[Curve]], title: str, *, theme: Theme = LIGHT) -> Figure:
    """One number of several configurations over training: their mean, and thin lines for the single runs.

    Args:
        groups: of each configuration the curves of its runs, as (training pairs seen, values); may be empty.
        title: what the number is.
        theme: colours; there is no legend, see `run_style`.
    """
    figure, (axes,) = _canvas(theme, 1, (4.6, 3.3))
    few = len(groups) <= 8
    for number, runs in enumerate(groups):
        color, dashes = run_style(number, theme)
        style: dict[str, Any] = {"color": color, "linestyle": (0, dashes) if dashes else "-"}
        thinned = [_thinned(*curve) for curve in runs if len(curve[0])]
        for at, values in thinned if len(runs) > 1 else ():
            axes.plot(at, values, color=color, linewidth=0.7, alpha=0.45)
        for at, values in _mean_curve(thinned):
            axes.plot(
                at,
                values,
                linewidth=1.8 if few else 1.3,
                marker="o" if few and len(at) < 30 else "",
                markersize=3,
                **style,
            )
    axes.set(xlabel="training pairs seen", title=title)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(_count))
    return figure


def run_style(number: int, theme: Theme = LIGHT) -> tuple[str, tuple[float, ...]]:
    """Colour and dashes (in line widths; none: solid) of a configuration; 24 can be told apart."""
    colors = (*theme.cycle[:5], theme.ink)
    return colors[number % len(colors)], _DASHES[number // len(colors) % len(_DASHES)]


_DASHES: tuple[tuple[float, ...], ...] = ((), (4, 1.5), (1, 1.2), (6, 1.5, 1, 1.5))


def _thinned(at: Float64[np.ndarray, "rows"], values: Float64[np.ndarray, "rows"]) -> Curve:
    """At most about 100 points, means of their neighbours: less noise and smaller files."""
    size = -(-len(at) // 100)
    starts = np.arange(0, len(at), size)
    counts = np.diff(np.append(starts, len(at)))
    with np.errstate(invalid="ignore", over="ignore"):  # of a training that diverged
        return np.add.reduceat(at, starts) / counts, np.add.reduceat(values, starts) / counts


def _mean_curve(curves: Sequence[Curve]) -> list[Curve]:
    """The mean of the curves that go furthest, so that it has no jumps where a run was stopped; none of none."""
    end = max((at[-1] for at, _ in curves), default=0.0)
    whole = [curve for curve in curves if curve[0][-1] == end]
    if not whole:
        return []
    first = whole[0][0]
    with np.errstate(invalid="ignore", over="ignore"):
        return [(first, np.mean([np.interp(first, at, values) for at, values in whole], axis=0))]


def _count(value: float, _: int) -> str:
    """A number of samples in thousands or millions."""
    scale, unit = (1e6, "M") if value >= 1e6 else (1e3, "k") if value else (1, "")
    return f"{value / scale:g}{unit}"


_PAIRS = {"val/pair_iou": "its own template", "val/pair_iou_other": "another sample's template"}
_TRACKED = {"val/auc": "AUC", "val/ao": "AO"}


def _line(
    axes: Axes,
    at: Float64[np.ndarray, "rows"],
    values: Float64[np.ndarray, "rows"],
    *,
    label: str,
    color: str,
    number: int,
) -> None:
    """A line; of many points a running mean, over the points themselves in a faint tone."""
    style: dict[str, Any] = {
        "color": color,
        "linestyle": _STYLES[number % len(_STYLES)],
        "linewidth": 1.8,
        "label": label,
    }
    window = len(values) // 40
    if window < 2:
        axes.plot(at, values, marker="o" if len(values) < 30 else "", markersize=3, **style)
        return
    axes.plot(at, values, color=color, linewidth=0.6, alpha=0.3)
    kernel = np.ones(window) / window
    axes.plot(at[window - 1 :], np.convolve(values, kernel, mode="valid"), **style)


def _shade_reliance(axes: Axes, columns: Columns, theme: Theme) -> None:
    """The area between the two lines: what the right template is worth."""
    (at, own), (other_at, other) = columns["val/pair_iou"], columns["val/pair_iou_other"]
    below = np.interp(at, other_at, other)
    axes.fill_between(at, own, below, color=theme.cycle[0], alpha=0.15, label="template reliance")


def attribute_radar(scores: Sequence[Scores], value: str | None = None, *, theme: Theme = LIGHT) -> Figure:
    """One value of several trackers by attribute, as the paper's Fig. 4; each spoke has its own best in its label.

    Raises:
        ValueError: no scores, or fewer than three attributes that all trackers were scored by.
    """
    first = scores[0].per_attribute if scores else {}
    names = [name for name in first if all(name in one.per_attribute for one in scores)]
    if len(names) < 3:
        raise ValueError("an attribute radar needs a benchmark with at least three attributes")
    name = value or next(iter(scores[0].values))
    angles = np.linspace(0, 2 * np.pi, len(names), endpoint=False)
    around = np.append(angles, angles[:1])
    with rc_context(_rc(theme)):
        figure = Figure(figsize=(6.4, 6.0), layout="constrained")
        axes = figure.add_subplot(projection="polar")
        assert isinstance(axes, PolarAxes)
        for i, one in enumerate(scores):
            values = np.array([one.per_attribute[attribute][name] for attribute in names])
            color = theme.cycle[i % len(theme.cycle)]
            label = _plain(f"{one.tracker}  {one.values[name]:.1f}")
            style = _STYLES[i % len(_STYLES)]
            axes.plot(around, np.append(values, values[:1]), color=color, linestyle=style, linewidth=2, label=label)
            axes.fill(around, np.append(values, values[:1]), color=color, alpha=0.06)
        best = [max(one.per_attribute[attribute][name] for one in scores) for attribute in names]
        axes.set_xticks(angles, [f"{_plain(a)}\n{top:.1f}" for a, top in zip(names, best, strict=True)])
        axes.tick_params(axis="x", pad=12)
        low = min(one.per_attribute[attribute][name] for one in scores for attribute in names)
        axes.set_ylim(max(0.0, np.floor(low / 10) * 10 - 10), max(10.0, np.ceil(max(best) / 10) * 10))
        axes.set_title(_plain(f"{scores[0].benchmark}: {name} by attribute"), pad=16)
        axes.set_rlabel_position(180 / len(names))  # between two spokes
        axes.yaxis.set_major_locator(MaxNLocator(4))
    _legend_below(figure, axes, theme)
    return figure


def _plain(text: str) -> str:
    """A name as it stands: matplotlib reads formulas between dollars and hides labels that begin with a dash."""
    return (" " if text.startswith("_") else "") + printable(text).replace("$", r"\$")


def _legend_below(figure: Figure, axes: Axes, theme: Theme) -> None:
    """A legend that never hides a curve."""
    handles = axes.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=2, frameon=False, labelcolor=theme.ink)


def save(figure: Figure, path: Path) -> None:
    """Write a figure whole or not at all; the suffix says how (.svg, .pdf, .png). The same figure, the same bytes."""
    write_atomic(path, render(figure, path.suffix))


def render(figure: Figure, suffix: str) -> bytes:
    """The content of the file that `save` would write."""
    out = io.BytesIO()
    with rc_context({"svg.hashsalt": "seqtrack-lit"}):
        stamp = {"Date": None} if suffix == ".svg" else {"CreationDate": None} if suffix == ".pdf" else {}
        figure.savefig(out, format=suffix.removeprefix("."), dpi=160, metadata=stamp)
    return out.getvalue()


def _canvas(theme: Theme, panels: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    with rc_context(_rc(theme)):
        figure = Figure(figsize=size, layout="constrained")
        axes = [figure.add_subplot(1, panels, i + 1) for i in range(panels)]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(visible=True)
    return figure, axes


def _rc(theme: Theme) -> dict[str, Any]:
    return {
        "figure.facecolor": theme.ground,
        "axes.facecolor": theme.ground,
        "savefig.facecolor": theme.ground,
        "text.color": theme.ink,
        "axes.labelcolor": theme.ink,
        "axes.edgecolor": theme.ink,
        "axes.titlesize": "medium",
        "xtick.color": theme.ink,
        "ytick.color": theme.ink,
        "grid.color": theme.faint,
        "grid.linewidth": 0.7,
        "axes.axisbelow": True,
        "font.size": 10.5,
    }
