"""The report page: whole runs, runs with parts missing, broken files; self-contained, nothing faked."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from tests.browser import DESKTOP, PHONE, needs_browser, opened

from seqtrack_lit.data.synthetic.videos import held_out
from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.evaluation.ope import GroundTruth
from seqtrack_lit.evaluation.results import Result
from seqtrack_lit.evaluation.scores import score_sequences
from seqtrack_lit.reports import plots
from seqtrack_lit.reports.page import fresh_folder
from seqtrack_lit.reports.run import write_page
from seqtrack_lit.reports.sequences import write_courses
from seqtrack_lit.runs.read import read_metrics, read_run
from seqtrack_lit.tracking.video_io import VideoWriter

VOID = {"meta", "img", "source", "br"}


class Page(HTMLParser):
    """Checks that tags close, and collects what the page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.heads: list[str] = []
        self.feed(text)
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value for name, value in attrs if name in ("src", "href", "srcset", "poster") and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.heads.append(data)


def score(run: Path, tracker: str, noise: float, benchmark: str = "generated") -> Path:
    rng = np.random.default_rng(3)
    boxes = [rng.uniform(20, 60, (10, 4)) for _ in range(3)]
    truths = [
        GroundTruth(f"v{i}", one, resolution=(192, 144), attributes=("A", "B", "C")) for i, one in enumerate(boxes)
    ]
    results = {t.name: np.abs(t.boxes + rng.normal(0, noise, t.boxes.shape)) for t in truths}
    folder = run / "results" / tracker / benchmark
    for convention in ("seqtrack", "got10k_ao"):
        names = {"convention": convention, "tracker": tracker, "benchmark": benchmark}
        score_sequences(truths, results, fps=120.0, **names).save(folder / "scores.json")
    return folder


def tracked(number: int) -> tuple[Video, Result]:
    """Ten frames, of which the third video fails in 3 to 5, with a template taken from frame 7."""
    video = replace(held_out(1, length=10)[0], name=f"v{number}")
    boxes, updates = video.boxes + 1.0, np.zeros(10)
    if number == 2:
        boxes[3:6, :2] += 500
        updates[7] = 1
    return video, Result(boxes, None, np.linspace(1, 0.25, 10), updates)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with everything, in a folder with a blank and an umlaut."""
    run = tmp_path / "runs" / "erster Läufer"
    folder = score(run, "tiny <b>&", 3)
    for tracker, noise in (("static", 20), ("kcf", 9), ("csrt", 5)):
        score(run, tracker, noise)
    with VideoWriter(folder / "media" / "best.mp4") as writer:
        for i in range(6):
            writer.write(np.full((48, 64, 3), 40 * i, dtype=np.uint8))
    (folder / "media" / "look.png").write_bytes(b"png")
    media = {
        "clips": [{"kind": "best", "sequence": "v1", "value": 81.2, "file": "best.mp4"}],
        "attention": [{"file": "look.png", "caption": "frame 5: cx, cy, w, h"}],
    }
    (folder / "media" / "media.json").write_text(json.dumps(media))
    write_courses(folder / "media", [tracked(number) for number in range(3)])
    (run / "pictures").mkdir()
    (run / "pictures" / "val_pairs_0000100.png").write_bytes(b"png")
    rows = ["step,samples,train/loss_cx,train/loss_END,val/pair_iou,val/pair_iou_other,val/reliance,val/auc"]
    rows += [f"{i},{64 * i},{4 / i},{1 / i},,,," for i in range(1, 50)]
    rows += [f"50,3200,,,{60 + i},24,{36 + i},55" for i in range(2)]
    (run / "metrics.csv").write_text("\n".join(rows) + "\n")
    (run / "config.yaml").write_text("seed: 7\nname: <script>alert(1)</script>\n")
    facts = {
        "status": "finished",
        "device": "cpu",
        "environment": {
            "revision": {"commit": "0123456789abcdef", "changed": False},
            "versions": {"torch": "2.15.0"},
            "machine": "Linux, 2 cores",
            "command": ["seqtrack-train", "experiment=quickstart"],
        },
        "data": None,
    }
    (run / "run.json").write_text(json.dumps(facts))
    return run


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots as empty files: drawing takes most of a page's time."""
    monkeypatch.setattr(plots, "render", lambda figure, suffix: b"")


def page_of(run: Path) -> tuple[str, Page]:
    text = write_page(run, linked=True).read_text()
    page = Page(text)
    for reference in page.references:
        assert not re.match(r"[a-z]+:|//|/", reference), f"{reference} is not beside the page"
        assert (run / "report" / unquote(reference)).is_file(), reference
    return text, page


def test_a_whole_run(run: Path):
    text, page = page_of(run)
    assert page.heads == [
        "Scores",
        "Learning",
        "Tracked videos",
        "Sequences, worst first",
        "Attention while the four tokens are predicted",
        "What this shows and what it does not",
        "What was run",
    ]
    assert "class=missing" not in text
    assert text.count("<script") == 1  # the one that sorts tables
    assert "tiny &lt;b&gt;&amp;" in text
    assert text.index(">csrt<") < text.index(">kcf<") < text.index(">static<")  # sorted by AUC
    assert re.search(r"tiny &lt;b&gt;&amp; has AUC [\d.]+ on 3 videos: above .*csrt", text)
    assert "Linux, 2 cores · cpu · revision 0123456789" in text
    assert "v1: 81.2" in text
    assert "frame 5: cx, cy, w, h" in text
    assert "seed: 7" in text
    assert "torch 2.15.0" in text
    assert "<b>37</b>" in text  # template reliance at the end
    assert len([r for r in page.references if r.endswith(".svg")]) == 2 * 6  # light and dark
    assert {r.rsplit(".", 1)[1] for r in page.references} == {"svg", "mp4", "jpg", "png"}


@needs_browser
@pytest.mark.parametrize(("size", "dark"), [(DESKTOP, False), (PHONE, True)], ids=["desktop", "dark phone"])
def test_one_file_in_a_browser(run: Path, size: tuple[int, int], dark: bool) -> None:
    assert "media/" not in write_page(run).read_text()
    assert [path.name for path in (run / "report").iterdir()] == ["index.html"]
    with opened(run / "report" / "index.html", size=size, dark=dark) as page:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        head = page.locator("table.sort thead th", has_text="AUC").first
        column = page.locator("table.sort").first.locator("tbody tr td:nth-child(2)")
        head.locator("button").click()
        values = [float(text) for text in column.all_inner_texts()]
        assert values == sorted(values, reverse=True)
        assert head.get_attribute("aria-sort") == "descending"
        plot = page.locator(f"img.{'ondark' if dark else 'onlight'}").first
        plot.scroll_into_view_if_needed()
        page.wait_for_function("[...document.querySelectorAll('figure img')].some((one) => one.naturalWidth > 0)")
        assert plot.is_visible()
        assert not page.locator(f"img.{'onlight' if dark else 'ondark'}").first.is_visible()
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.querySelector('img.onlight')).display") == "block"
        page.emulate_media(media="screen")
        table = page.locator("table.sequences")
        assert table.evaluate("(table) => table.parentElement.clientHeight < innerHeight")  # long ones scroll
        overlaps = [float(text) for text in table.locator("tbody tr td:nth-child(3)").all_inner_texts()]
        assert overlaps == sorted(overlaps)  # worst first
        row = table.locator("tbody tr", has_text="v2")
        assert row.locator("svg.time").count() == 1  # the baselines have numbers
        assert row.locator("rect.failed").evaluate("(part) => [part.x.baseVal.value, part.width.baseVal.value]") == [
            60,
            60,
        ]
        assert row.locator("line.update").evaluate("(tick) => tick.x1.baseVal.value") == 140
        assert table.locator("rect.failed").count() == 1
        assert row.locator("title").text_content() == "tiny <b>&: 3 of 10 frames below 0.1, 1 template updates"
        image = row.locator("img")
        image.scroll_into_view_if_needed()
        page.wait_for_function(
            "[...document.querySelectorAll('.sequences img')].some((one) => one.naturalWidth === 320)"
        )


@pytest.mark.usefixtures("undrawn")
def test_made_again_the_same_and_without_leftovers(run: Path):
    write_page(run, linked=True)
    first = {path.name: path.read_bytes() for path in (run / "report").rglob("*") if path.is_file()}
    (run / "report" / "media" / "old.mp4").write_bytes(b"")
    write_page(run, linked=True)
    assert {path.name: path.read_bytes() for path in (run / "report").rglob("*") if path.is_file()} == first


MISSING = {
    "metrics.csv": ("No learning curves", "Learning"),
    "run.json": ("There is no run.json", "What was run"),
    "pictures/val_pairs_0000100.png": ("", ""),
    "config.yaml": ("", ""),
    "results/tiny <b>&/generated/media/media.json": ("No clips were found", "Tracked videos"),
    "results/tiny <b>&/generated/media/best.mp4": ("best.mp4 is listed", "Tracked videos"),
    "results/tiny <b>&/generated/media/look.png": ("No pictures of attention", "Attention"),
}


@pytest.mark.parametrize("file", MISSING)
@pytest.mark.usefixtures("undrawn")
def test_what_is_missing_is_said(run: Path, file: str):
    (run / file).unlink()
    text, page = page_of(run)
    sentence, _ = MISSING[file]
    assert sentence in text
    assert len(page.heads) == 7


@pytest.mark.usefixtures("undrawn")
def test_sequences_of_which_nothing_but_scores_is_known(run: Path):
    media = run / "results/tiny <b>&/generated/media"
    (media / "sequences.json").unlink()
    text, page = page_of(run)
    assert "seqtrack-evaluate media=true writes pictures" in text
    assert "over time</th>" not in text
    assert text.count("<td class=video") == 3
    write_courses(media, [tracked(1)])  # of one sequence of three
    (media / "sequences/0001.jpg").unlink()
    text, page = page_of(run)
    assert text.count("<svg class=time") == 1
    assert not [reference for reference in page.references if "sequence-" in reference]


@pytest.mark.usefixtures("undrawn")
def test_training_without_evaluation_and_the_other_way_round(run: Path, tmp_path: Path):
    for name, part in (("only scores", "results"), ("only training", "metrics.csv")):
        half = tmp_path / name
        half.mkdir()
        (run / part).rename(half / part)
        text, page = page_of(half)
        assert "class=missing" in text
        assert page.heads[-1] == "What was run"
    assert "No scores were found" in text
    assert "What this shows" not in text  # said of generated videos only


@pytest.mark.usefixtures("undrawn")
def test_other_benchmarks_are_not_called_toys(tmp_path: Path):
    score(tmp_path / "run", "ours", 3, "lasot")
    text, _ = page_of(tmp_path / "run")
    assert "What this shows" not in text


@pytest.mark.usefixtures("undrawn")
def test_only_baselines(tmp_path: Path):
    score(tmp_path / "run", "kcf", 3)
    page_of(tmp_path / "run")


@pytest.mark.usefixtures("undrawn")
def test_the_place_among_others_is_said_as_it_is(tmp_path: Path):
    for tracker, noise in (("ours", 5), ("kcf", 5), ("csrt", 0.1), ("static", 40)):
        score(tmp_path / "run", tracker, noise)
    text, _ = page_of(tmp_path / "run")
    assert re.search(r"ours has AUC [\d.]+ on 3 videos: above static, level with kcf, below csrt\.", text)
    score(tmp_path / "alone", "ours", 5)
    assert "nothing beside it" in page_of(tmp_path / "alone")[0]


def test_no_run(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*train and evaluate first"):
        write_page(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="holds no run"):
        write_page(tmp_path)
    for name in ("seed-1", "seed-0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
    with pytest.raises(FileNotFoundError, match=r"runs=\[\S+\] compares all 2, run=\S+seed-0 takes one"):
        write_page(tmp_path)


@pytest.mark.parametrize("beside", [[], ["index.html"]])
def test_a_folder_of_something_else_is_not_deleted(run: Path, tmp_path: Path, beside: list[str]):
    for name in ("precious.txt", *beside):
        (tmp_path / name).write_text("x")
    with pytest.raises(ValueError, match="holds no report"):
        write_page(run, tmp_path)
    assert (tmp_path / "precious.txt").read_text() == "x"


def test_an_interrupted_page_is_made_again(tmp_path: Path):
    page = tmp_path / "page"
    fresh_folder(page)
    (page / "media").mkdir()
    (page / "media" / "old.png").write_text("x")
    (page / ".index.part").write_text("x")
    fresh_folder(page)
    assert sorted(one.name for one in page.iterdir()) == [".index.part", "index.html"]


BROKEN = {
    "run.json": ("{", r"run\.json: Invalid JSON: EOF"),
    "results/kcf/generated/scores.json": ('{"AUC": 1}', r"scores\.json: AUC: Input should be an object, got 1; give"),
    "results/tiny <b>&/generated/media/media.json": ("[]", r"media\.json: Input should be an object, got a list of 0"),
    "metrics.csv": ("step,val/auc\n1,high\n", r"metrics\.csv, line 2: val/auc is 'high'"),
}


@pytest.mark.parametrize("file", BROKEN)
def test_broken_files_are_named(run: Path, file: str):
    text, message = BROKEN[file]
    (run / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        write_page(run)


def test_metrics_columns(tmp_path: Path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,epoch,val/auc,train/loss\n10,0,,1.5\n20,0,55.0,\n30,1,,1.0\n")
    columns = read_metrics(path)
    assert set(columns) == {"val/auc", "train/loss"}
    np.testing.assert_array_equal(columns["train/loss"], [[10, 30], [1.5, 1.0]])
    path.write_text("step,val/auc\n")
    assert read_metrics(path) == {}
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no column 'step'"):
        read_metrics(path)


def test_ours_are_not_the_baselines(run: Path):
    found = read_run(run)
    assert {one.tracker for one in found.ours} == {"tiny <b>&"}
    assert [one.tracker for one in found.scores][:2] == ["tiny <b>&"] * 2
