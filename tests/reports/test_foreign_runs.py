"""A run folder, scores and results from somebody else: nothing outside is read, written, deleted or shown."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.tiny import call

from seqtrack_lit.cli import report
from seqtrack_lit.evaluation.ope import GroundTruth
from seqtrack_lit.evaluation.scores import Scores, score_sequences
from seqtrack_lit.reports.comparison import summary, write_comparison
from seqtrack_lit.reports.run import write_page
from seqtrack_lit.runs.compare import read_runs
from seqtrack_lit.runs.read import read_metrics
from seqtrack_lit.tracking.video_io import VideoWriter

SECRET = "the key of another house"
RED = "\x1b[31mred\x1b]0;title\x07"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that somebody sent, beside a file of ours."""
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "secret.txt").write_text(SECRET)
    folder = tmp_path / "theirs"
    media = folder / "results" / "tiny" / "generated" / "media"
    media.mkdir(parents=True)
    with VideoWriter(media / "best.mp4") as writer:
        for i in range(3):
            writer.write(np.full((48, 64, 3), 40 * i, dtype=np.uint8))
    (folder / "pictures").mkdir()
    (folder / "metrics.csv").write_text("step,samples,epoch\n1,64,0\n")
    return folder


def listing(folder: Path) -> dict[str, str]:
    """Every file below a folder, and what is in it."""
    return {str(one): one.read_text() for one in sorted(folder.rglob("*")) if one.is_file()}


def media(run: Path, **clip: Any) -> None:
    entry = {"kind": "best", "sequence": "v", "value": "AUC 3", "file": "best.mp4", **clip}
    path = run / "results" / "tiny" / "generated" / "media" / "media.json"
    path.write_text(json.dumps({"clips": [entry], "attention": []}))


def courses(run: Path, **values: Any) -> None:
    """A sequence over time, and scores in which it is."""
    folder = run / "results" / "tiny" / "generated"
    scores("tiny", "generated").save(folder / "scores.json")
    known = {"sequence": "v", "frames": 4, "frame": 0, "file": "x.jpg", "overlap": [1.0], "confidence": [], "failed": 0}
    (folder / "media" / "sequences.json").write_text(json.dumps([{**known, "updates": [], **values}]))


def scores(tracker: str, benchmark: str) -> Scores:
    boxes = np.array([[10.0, 10, 20, 20]] * 4)
    return score_sequences([GroundTruth("v", boxes)], {"v": boxes}, tracker=tracker, benchmark=benchmark)


def link(at: str, to: str) -> Callable[[Path], None]:
    def make(run: Path) -> None:
        place = run / at
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(run.parent / to)

    return make


ATTACKS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a file by its whole path": (
        lambda run: media(run, file=str(run.parent / "ours" / "secret.txt")),
        "media.json: file",
    ),
    "a file above": (lambda run: media(run, file="../../../../../ours/secret.txt"), "media.json: file"),
    "a file of another type": (
        lambda run: media(run, file=7),
        r"media.json: clips.0.file: Input should be a valid string",
    ),
    "a number as kind": (lambda run: media(run, kind=["x"]), r"media.json: clips.0.kind: .* got a list of 1"),
    "a link beside media.json": (
        lambda run: [media(run, file="x.mp4"), link("results/tiny/generated/media/x.mp4", "ours/secret.txt")(run)],
        "x.mp4 is a link",
    ),
    "no video": (lambda run: media(run, file="media.json"), "media.json"),
    "a picture of a sequence above": (
        lambda run: courses(run, file="../../../../../ours/secret.txt"),
        "sequences.json: file",
    ),
    "a line of a million points": (
        lambda run: courses(run, overlap=[0.5] * 1_000_000),
        "sequences.json: 0.overlap: List should have at most 200 items",
    ),
    "a link as sequences": (link("results/a/b/media/sequences.json", "ours/secret.txt"), "sequences.json is a link"),
    "a link as configuration": (link("config.yaml", "ours/secret.txt"), "config.yaml is a link"),
    "a link as facts": (link("run.json", "ours/secret.txt"), "run.json is a link"),
    "a link as numbers": (link("metrics.csv", "ours/secret.txt"), "metrics.csv is a link"),
    "a link to nothing": (link("config.yaml", "ours/none"), "config.yaml is a link"),
    "a link as scores": (link("results/a/b/scores.json", "ours/secret.txt"), "scores.json is a link"),
    "a link as results": (
        lambda run: [media(run), link("results/a", "theirs/results/tiny")(run)],
        "results/a is a link",
    ),
    "a link as picture": (
        lambda run: [
            (run / "metrics.csv").write_text("step,val/auc\n1,2\n"),
            link("pictures/val_pairs_1.png", "ours/secret.txt")(run),
        ],
        "val_pairs_1.png is a link",
    ),
    "a page that is a link": (link("report", "ours"), "report is a link"),
    "a page's file that is a link": (link("report/index.html", "ours/secret.txt"), "index.html is a link"),
    "a page's folder that is a link": (
        lambda run: [link("report/media", "ours")(run), (run / "report" / "index.html").write_text("")],
        "media is a link",
    ),
    "a number that is none, where anything may stand": (
        lambda run: (run / "run.json").write_text('{"environment": {"machine": [NaN]}}'),
        "run.json: environment.machine.0: Input should be a finite number, got nan",
    ),
    "a bomb": (
        lambda run: (run / "run.json").write_text('{"a":' * 100_000),
        "run.json: Invalid JSON: recursion limit exceeded",
    ),
    "a number of thousands of digits": (
        lambda run: (run / "run.json").write_text('{"seconds": ' + "9" * 9000 + "}"),
        "run.json: a number of hundreds of digits",
    ),
    "a run.json of another type": (lambda run: (run / "run.json").write_text('{"environment": "x"}'), "environment"),
    "a count that is none": (
        lambda run: (run / "metrics.csv").write_text("step,val/auc\n1,2\ninf,3\n"),
        "metrics.csv, line 3: step is 'inf', no count",
    ),
    "an absurd number": (
        lambda run: (run / "metrics.csv").write_text("step,val/auc\n1,1e300\n"),
        "metrics.csv, line 2: val/auc is '1e300'",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_page_is_refused_in_one_line(attack: str, run: Path) -> None:
    make, message = ATTACKS[attack]
    make(run)
    before = listing(run.parent / "ours")
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        write_page(run)
    assert SECRET not in str(error.value)
    assert "\n" not in str(error.value)
    assert listing(run.parent / "ours") == before
    written = [Path(at) / name for at, _, names in os.walk(run) for name in names]  # links are not followed
    assert not any(SECRET in path.read_text(errors="ignore") for path in written if not path.is_symlink())


def test_names_are_shown_and_lead_nowhere(run: Path) -> None:
    media(run, kind="../../../../ours/<script>", sequence="<img src=x>", value="<b>")
    before = set(run.rglob("*"))
    text = write_page(run, linked=True).read_text()
    assert text.count("<script") == 1  # the one that sorts tables
    assert "<img src=x" not in text
    assert "../../../../ours/&lt;script&gt;" in text
    written = {str(path.relative_to(run)) for path in set(run.rglob("*")) - before if path.is_file()}
    assert written == {"report/index.html", "report/media/clip-1.mp4", "report/media/clip-1.jpg"}


def test_a_listed_clip_that_is_gone_is_said(run: Path) -> None:
    media(run, file="gone <i>.mp4")
    assert "gone &lt;i&gt;.mp4 is listed, but the file is gone." in write_page(run).read_text()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("tracker", "../../ours", "seqtrack.tracker is '..'"),
        ("tracker", RED, r"seqtrack.tracker is '\\x1b\[31m"),
        ("tracker", "x" * 300, "seqtrack.tracker is .* longer than 200 bytes"),
        ("tracker", 3, "seqtrack.tracker: Input should be a valid string, got 3"),
        ("benchmark", "/tmp/x", "seqtrack.benchmark is '/tmp/x'"),
        ("convention", "pysot", "seqtrack.convention is 'pysot'"),
        ("sequences", "3", "seqtrack.sequences: Input should be a valid integer, got '3'"),
        ("values", {"AUC": "x"}, "seqtrack.values.AUC: Input should be a valid number, got 'x'"),
        ("values", {"AUC": 1e9}, "seqtrack.values.AUC: Input should be less than or equal to 100"),
        ("values", {}, "seqtrack.'values' must hold scores of AUC"),
        ("values", {"<b>": 3.0}, "seqtrack.'values' must hold scores of AUC"),
        ("per_sequence", [1], "seqtrack.per_sequence: Input should be an object"),
        ("per_attribute", {"A": {"AUC": 3}}, "seqtrack.per_attribute.'A' must hold sequences, AUC"),
        ("curves", {"success": [1.0, 2.0]}, "seqtrack.curves.'success' must be one of"),
        ("fps", float("inf"), "seqtrack.fps: Input should be a finite number"),
        ("curves", {"success": None}, "seqtrack.curves.success: Input should be"),
    ],
)
def test_fields_of_scores(field: str, value: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    scores("tiny", "generated").save(path)
    plain = json.loads(path.read_text())
    plain["seqtrack"][field] = value
    path.write_text(json.dumps(plain))
    with pytest.raises(ValueError, match=rf"scores\.json: {message}") as error:
        Scores.load_all(path)
    assert str(error.value).isprintable()


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.chdir(tmp_path)
    return partial(call, monkeypatch, report)


def test_what_is_printed_does_not_steer_the_terminal(go: Callable[..., int], tmp_path: Path, capsys: Any) -> None:
    """Names of folders may hold what names in files may not."""
    for name in (RED, "plain"):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text("step,val/auc\n1,40\n" if name == "plain" else f"step,{RED}\n1,x\n")
    assert go("runs=[runs]") == 0
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert r"Not compared: \x1b[31mred" in printed.out
    assert go(f"run={os.fspath(tmp_path / 'runs' / 'plain')}") == 0
    capsys.readouterr()
    (tmp_path / "runs" / "plain" / "run.json").write_text(json.dumps({"status": [RED]}))
    assert go(f"run={os.fspath(tmp_path / 'runs' / 'plain')}") == 2
    assert "\x1b" not in capsys.readouterr().err


def test_tables_are_saved_inside_the_folder_asked_for(go: Callable[..., int], tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "theirs").mkdir()
    scores("a/b", "generated").save(tmp_path / "theirs" / "scores.json")
    assert go("scores=[theirs]", "save=tables") == 0
    assert (tmp_path / "tables" / "a_b" / "generated" / "scores.json").is_file()
    plain = json.loads((tmp_path / "theirs" / "scores.json").read_text())
    plain["seqtrack"]["tracker"] = "a/../../out"
    (tmp_path / "theirs" / "scores.json").write_text(json.dumps(plain))
    assert go("scores=[theirs]", "save=tables") == 2
    assert "seqtrack.tracker is '..', which cannot name a file" in capsys.readouterr().err
    assert sorted(one.name for one in tmp_path.iterdir()) == ["tables", "theirs"]


def test_folders_in_folders_in_folders(run: Path) -> None:
    (run / "metrics.csv").write_text("step,val/auc\n1,2\n")
    (run.parent / "ours" / "/".join("d" * 900)).mkdir(parents=True)
    assert [one.name for one in read_runs([run, run.parent / "ours"]).members] == ["theirs"]


@pytest.mark.parametrize(
    ("losses", "written"),
    [(("nan", "1.5"), "not finite"), (("inf", "-inf"), "not finite"), (("nan", "nan"), "not finite"),
     (("3e38", "3e38"), "3e+38"), (("1", "2"), "1.500 ± 0.707")],
)  # fmt: skip
def test_runs_that_diverged_are_compared(losses: tuple[str, str], written: str, tmp_path: Path) -> None:
    for seed, loss in enumerate(losses):
        folder = tmp_path / f"seed-{seed}"
        folder.mkdir()
        (folder / "metrics.csv").write_text(f"step,val/loss\n1,3\n2,{loss}\n")
        (folder / "config.yaml").write_text(f"seed: {seed}\nlr: 1\n")
    found = read_runs([tmp_path])
    assert summary(found).rows[0][2] == written
    assert write_comparison(found).is_file()


def test_columns_of_metrics(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,val/loss\n1,nan\n2,inf\n3,1.5\n")  # a loss that is not finite is a fact
    assert read_metrics(path)["val/loss"][1].tolist()[2] == 1.5
    for text, message in (("step,a,a\n1,2,3\n", "two of one name"), ("step,a\n1,2,3\n", "line 2: 3 values in 2")):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_metrics(path)
