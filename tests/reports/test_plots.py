"""Plots draw what they are given, refuse what they cannot draw, and come out the same each time."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from seqtrack_lit.evaluation.metrics import CONVENTIONS
from seqtrack_lit.evaluation.ope import GroundTruth
from seqtrack_lit.evaluation.scores import Scores, score_sequences
from seqtrack_lit.reports import plots

ATTRIBUTES = ("IV", "POC", "DEF", "MB")


def made(tracker: str, noise: float, convention: str = "seqtrack") -> Scores:
    rng = np.random.default_rng(7)
    truths, results = [], {}
    for i in range(4):
        boxes = np.concatenate([rng.uniform(20, 80, (30, 2)), rng.uniform(20, 40, (30, 2))], axis=1)
        truths.append(GroundTruth(f"v{i}", boxes, resolution=(192, 144), attributes=ATTRIBUTES[: i + 1]))
        results[f"v{i}"] = np.abs(boxes + rng.normal(0, noise, boxes.shape))
    return score_sequences(truths, results, convention=convention, tracker=tracker, benchmark="toy")


def texts(figure) -> str:
    found = [text.get_text() for legend in [*figure.legends, *(a.get_legend() for a in figure.axes)] if legend
             for text in legend.get_texts()]  # fmt: skip
    return "\n".join(found)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_success_plot_by_every_convention(convention: str):
    scores = [made("worse", 9, convention), made("better", 2, convention)]
    figure = plots.curve_plot(scores)
    lines = figure.axes[0].lines
    assert len(lines) == 2
    value = next(iter(scores[0].values))
    assert texts(figure).splitlines() == [f"{s.tracker}  {s.values[value]:.1f}" for s in reversed(scores)]  # best first
    np.testing.assert_allclose(lines[0].get_ydata(), scores[1].curves["success"])
    assert lines[0].get_xdata()[-1] == 1


@pytest.mark.parametrize("convention", ["seqtrack", "trackingnet", "pysot"])
@pytest.mark.parametrize(("kind", "end"), [("precision", 50), ("norm_precision", 0.5)])
def test_precision_plots(kind: plots.Kind, end: float, convention: str):
    figure = plots.curve_plot([made("x", 4, convention)], kind, theme=plots.DARK)
    assert figure.axes[0].lines[0].get_xdata()[-1] == end


def test_what_a_curve_plot_refuses():
    with pytest.raises(ValueError, match="one benchmark by one convention"):
        plots.curve_plot([])
    with pytest.raises(ValueError, match="one benchmark by one convention"):
        plots.curve_plot([made("x", 4), made("x", 4, "pysot")])
    with pytest.raises(ValueError, match="got10k_ao has no curve 'precision'"):
        plots.curve_plot([made("x", 4, "got10k_ao")], "precision")


def columns(rows: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    at = np.arange(rows) * 64.0
    names = ["train/loss_cx", "train/loss_cy", "val/pair_iou", "val/pair_iou_other", "val/auc", "other"]
    return {name: (at, np.linspace(1, 2 + i, rows)) for i, name in enumerate(names)}


@pytest.mark.parametrize("rows", [1, 2, 12, 500])
def test_learning_plot(rows: int):
    figure = plots.learning_plot(columns(rows))
    assert [axes.get_title() for axes in figure.axes] == ["loss by token", "pair IoU, %", "tracked held-out videos, %"]
    assert "template reliance" in texts(figure)
    few = {key: value for key, value in columns(rows).items() if key == "val/pair_iou"}
    assert "template reliance" not in texts(plots.learning_plot(few))
    with pytest.raises(ValueError, match="none of the columns"):
        plots.learning_plot({"other": (np.zeros(1), np.zeros(1))})


def test_running_mean_keeps_to_its_place():
    """A step from 0 to 1 at the middle: 400 points, mean over 10, so the line reaches 1 ten points after it."""
    values = np.repeat([0.0, 1.0], 200)
    figure = plots.learning_plot({"train/loss_cx": (np.arange(400.0), values)})
    smooth = figure.axes[0].lines[1]
    assert smooth.get_xdata()[np.argmax(smooth.get_ydata() > 0.999)] == 209


def test_attribute_radar():
    figure = plots.attribute_radar([made("x", 4), made("y", 8)])
    assert [tick.get_text().split("\n")[0] for tick in figure.axes[0].get_xticklabels()] == list(ATTRIBUTES)
    assert texts(figure).splitlines()[0].startswith("x  ")
    with pytest.raises(ValueError, match="three attributes"):
        plots.attribute_radar([])


@pytest.mark.parametrize("suffix", [".svg", ".pdf", ".png"])
def test_the_same_plot_the_same_file(tmp_path: Path, suffix: str):
    for name in "ab":
        plots.save(plots.curve_plot([made("Zürich", 4)]), tmp_path / f"{name}{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_no_global_state_is_touched():
    from matplotlib import rcParams

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = dict(rcParams)
    plots.curve_plot([made("x", 4)], theme=plots.DARK)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert dict(rcParams) == before


def luminance(color: str) -> float:
    """Relative luminance of sRGB (WCAG 2)."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [plots.LIGHT, plots.DARK])
def test_contrast(theme: plots.Theme):
    """Text at least 7:1 on its ground, lines at least 2.7:1 (each has its own dash, too)."""

    def contrast(color: str) -> float:
        high, low = sorted([luminance(color), luminance(theme.ground)], reverse=True)
        return (high + 0.05) / (low + 0.05)

    assert contrast(theme.ink) >= 7
    assert min(contrast(color) for color in theme.cycle) >= 2.7
