"""The page of a benchmark in a real browser: one file, sorted, narrow, dark, silent; the same as PDF, PNG, LaTeX."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.browser import DESKTOP, PHONE, needs_browser, opened

from seqtrack_lit.cli import report
from seqtrack_lit.data.synthetic.videos import held_out
from seqtrack_lit.data.video.file import VideoFrames
from seqtrack_lit.evaluation.results import read_result, write_result
from seqtrack_lit.evaluation.scores import Scores
from seqtrack_lit.reports import plots
from seqtrack_lit.reports.benchmark import sequences_table

COMMAND = report
GIVEN = ["benchmark.count=3", "+benchmark.length=30", "results=[results]"]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A tracker that fails on the third video and took templates; one without confidences that is a little off."""
    for number, video in enumerate(held_out(3, length=30)):
        ours, other = video.boxes + number, video.boxes + 4.0
        if number == 2:
            ours[10:25, :2] += 500
        updates = np.arange(30) % 10 == 5
        sure = np.linspace(1, 0.2, 30)
        write_result(tmp_path / "results/ours <b>/generated", video.name, ours, np.ones(30), sure, updates=updates)
        folder = tmp_path / "results/other/generated"
        folder.mkdir(parents=True, exist_ok=True)
        np.savetxt(folder / f"{video.name}.txt", other, fmt="%.4f", delimiter=",")
    return tmp_path / "results"


def test_updates_are_kept_beside_the_boxes(results: Path) -> None:
    video = held_out(1, length=30)[0]
    kept = read_result(results / "ours <b>/generated", video.name).updates
    assert kept is not None
    assert np.flatnonzero(kept).tolist() == [5, 15, 25]
    assert read_result(results / "other/generated", video.name).updates is None


@needs_browser
@pytest.mark.parametrize(("size", "dark"), [(DESKTOP, False), (PHONE, True)], ids=["desktop", "dark phone"])
def test_the_page_in_a_browser(size: tuple[int, int], dark: bool, results: Path, tmp_path: Path, run) -> None:
    assert run(*GIVEN, "page=page") == 0
    assert [path.name for path in (tmp_path / "page").iterdir()] == ["index.html"]
    with opened(tmp_path / "page" / "index.html", size=size, dark=dark) as page:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # wide tables scroll by themselves
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(13, 17, 23)" if dark else "rgb(246, 247, 249)")
        page.evaluate("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager'; })")
        page.wait_for_function("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
        table = page.locator("table.sequences")
        names = table.locator("tbody td.video")
        failing = held_out(3, length=30)[2].name
        values = [float(text) for text in table.locator("tbody tr td:nth-child(3)").all_inner_texts()]
        assert values == sorted(values)  # worst first
        assert table.locator("thead th:nth-child(3)").get_attribute("aria-sort") == "ascending"
        head = table.locator("thead th:nth-child(4) button")
        for order in (True, False):
            head.click()
            values = [float(text) for text in table.locator("tbody tr td:nth-child(4)").all_inner_texts()]
            assert values == sorted(values, reverse=order)
        table.locator("thead th:first-child button").click()
        texts = names.all_inner_texts()
        assert texts == sorted(texts)
        row = table.locator("tbody tr", has_text=failing)
        assert row.locator("rect.failed").count() == 1  # of ours; the other one never fails
        assert row.locator("line.update").count() == 3
        title = row.locator("svg.time title").first.text_content()
        assert title == "ours <b>: 15 of 30 frames below 0.1, 3 template updates"
        video = page.locator("video").first
        video.evaluate("(video) => video.play()")
        page.wait_for_function("document.querySelector('video').currentTime > 0")


@needs_browser
def test_ten_trackers_are_named_where_they_are_looked_for(
    results: Path, tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the screen the sequence stays in sight; on paper no name of a tracker is cut into syllables."""
    monkeypatch.setattr(plots, "render", lambda figure, suffix: b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    for number in range(8):
        shutil.copytree(results / "other", results / f"a_long_name_of_a_tracker_{number}")
    assert run(*GIVEN, "page=page") == 0
    with opened(tmp_path / "page" / "index.html") as page:
        assert page.locator("h1").inner_text() == "generated: 10 trackers"
        box = "(node) => node.getBoundingClientRect().left"
        name, table = page.locator("td.video").first, page.locator(".long")
        before = name.evaluate(box)
        table.evaluate("(node) => { node.scrollLeft = 200; }")
        assert table.evaluate("(node) => node.scrollLeft") > 0
        assert name.evaluate(box) == before
        page.emulate_media(media="print")
        named = page.locator("table.sequences th", has_text="a_long_name").all()
        assert len(named) == 8
        for head in named:  # one upright line
            assert head.evaluate("(node) => node.clientHeight > node.clientWidth")
            assert head.evaluate("(node) => getComputedStyle(node).whiteSpace") == "nowrap"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_media_beside_the_page(results: Path, tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "render", lambda figure, suffix: b"")  # drawing takes most of the time
    assert run(*GIVEN, "page=page", "media=linked") == 0
    text = (tmp_path / "page" / "index.html").read_text()
    assert "data:" not in text
    linked = set(re.findall(r'"(media/[^"]+)"', text))
    assert len(linked) == 3 + 2 * 3 + 2 * 3  # pictures, clips with posters, plots
    assert {f"media/{path.name}" for path in (tmp_path / "page" / "media").iterdir()} == linked
    assert len(VideoFrames(tmp_path / "page" / "media" / "worst.mp4")) == 30


def test_other_forms(results: Path, tmp_path: Path, run) -> None:
    assert run(*GIVEN, "save=saved") == 0
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    for kind in ("success", "precision", "norm_precision"):
        assert (tmp_path / f"saved/generated_seqtrack_{kind}.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / f"saved/generated_seqtrack_{kind}.pdf").read_bytes().startswith(b"%PDF")
    assert {"table.tex", "generated_seqtrack_sequences.tex"} <= names
    lines = (tmp_path / "saved" / "generated_seqtrack_sequences.tex").read_text().splitlines()
    assert any(line.startswith("sequence & ") for line in lines)
    assert len([line for line in lines if line.startswith("generated-test")]) == 3


def test_the_papers_numbers_stand_in_the_plots() -> None:
    one = Scores(
        "seqtrack", "ours", "lasot", 280, {"AUC": 60.0, "PNorm": 70.0, "P": 65.0},
        per_sequence={"a": {"AUC": 1.0}, "b": {"AUC": 0.5}},
        curves={"success": [50.0] * 21, "precision": [50.0] * 51, "norm_precision": [50.0] * 51},
    )  # fmt: skip
    figure = plots.curve_plot([one], "precision")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:2] == ["ours  65.0", "SeqTrack-L384 (paper)  79.3"]
    assert len(labels) == 5
    points = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 1]
    assert (points[0].get_xdata()[0], points[0].get_ydata()[0]) == (20, 79.3)
    labels = [text.get_text() for text in plots.curve_plot([one], "success").legends[0].get_texts()]
    assert "SeqTrack-B256 (paper)  69.9" in labels
    assert [row[0] for row in sequences_table([one]).rows] == ["b", "a"]
