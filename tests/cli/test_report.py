"""seqtrack-report from the command line: tables from anybody's results, zips, the page, mistakes named."""

import csv
import errno
import json
import os
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from seqtrack_lit.cli import report
from seqtrack_lit.cli.hydra.runtime import ENDED
from seqtrack_lit.data.synthetic.videos import held_out
from seqtrack_lit.evaluation.results import write_result
from seqtrack_lit.evaluation.scores import Scores
from seqtrack_lit.reports import run as analysis

COMMAND = report

Go = Callable[..., int]
FEW = ["benchmark.count=3", "+benchmark.length=10"]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two trackers' results on generated videos: ours, and raw integers with tabs in another layout."""
    root = tmp_path / "all results"
    for i, video in enumerate(held_out(3, length=10)):
        boxes = video.boxes + np.random.default_rng(i).normal(0, 2, video.boxes.shape)
        boxes[:, 2:] = boxes[:, 2:].clip(2)
        write_result(root / "ours" / "generated", video.name, boxes, np.full(10, 0.02), np.ones(10))
        raw = root / "raw" / "static" / "generated" / f"{video.name}.txt"
        raw.parent.mkdir(parents=True, exist_ok=True)
        np.savetxt(raw, np.tile(video.boxes[0], (10, 1)), fmt="%d", delimiter="\t")
    return root


def test_results_of_any_tracker_in_one_table(run: Go, results: Path, capsys: pytest.CaptureFixture[str]):
    assert run(f"results=[{results}]", *FEW, "format=markdown") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "generated, scores in percent"
    assert [head.strip() for head in lines[2].split("|")[1:-1]] == [
        "tracker", "AUC", "PNorm", "P", "OP50", "OP75", "frames/s"
    ]  # fmt: skip
    assert lines[4].startswith("| ours ")
    assert lines[4].endswith(" 50.0 |")
    assert lines[5].startswith("| static ")
    assert "3 sequences" in lines[-1]


@pytest.mark.parametrize("form", ["terminal", "latex", "csv", "json"])
def test_every_format_is_printed(form: str, run: Go, results: Path, capsys: pytest.CaptureFixture[str]):
    assert run(f"results={results / 'ours'}", *FEW, f"format={form}") == 0
    printed = capsys.readouterr().out
    wanted = {"terminal": "frames/s", "latex": r"\toprule", "csv": "tracker,AUC", "json": '"tracker": "ours"'}[form]
    assert wanted in printed
    assert "ours" in printed


def test_saved_scores_are_collected_without_ground_truth(run: Go, results: Path, tmp_path: Path):
    assert run(f"results=[{results}]", *FEW, "conventions=[seqtrack,got10k_otb]", "save=tables") == 0
    saved = tmp_path / "tables"
    assert {path.name for path in saved.iterdir()} >= {
        "table.md", "table.tex", "table.csv", "table.json",
        "generated_seqtrack_success.pdf", "generated_got10k_otb_norm_precision.pdf", "ours", "static",
    }  # fmt: skip
    assert set(Scores.load_all(saved / "ours" / "generated" / "scores.json")) == {"seqtrack", "got10k_otb"}
    with (saved / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["tracker"] for row in rows] == ["ours", "static"]
    assert run("scores=[tables]", "save=again") == 0
    assert (tmp_path / "again" / "table.md").read_text() == (saved / "table.md").read_text()


def test_averages_are_saved_small(run: Go, tmp_path: Path):
    for seed, value in enumerate((50.0, 53.0)):
        one = Scores("seqtrack", "ours", "generated", 40, {"AUC": value}, curves={"success": [0.5] * 21})
        one.save(tmp_path / "sweep" / f"seed-{seed}" / "results" / "ours" / "generated" / "scores.json")
    assert run("scores=[sweep]", "average=true", "save=kept") == 0
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"table.md", "scores.json"}
    assert "51.5 ± 2.1" in (tmp_path / "kept" / "table.md").read_text()
    trackers = json.loads((tmp_path / "kept" / "scores.json").read_text())["results"][0]["trackers"]
    assert trackers == {"ours": {"AUC": {"runs": [50.0, 53.0], "mean": 51.5, "std": 2.1}}}


def test_partial_results(run: Go, results: Path, capsys: pytest.CaptureFixture[str]):
    next((results / "ours" / "generated").glob("*00001.txt")).unlink()
    assert run(f"results=[{results}]", *FEW) == 2
    error = capsys.readouterr().err
    assert "1 of 3 sequences of generated have no result" in error
    assert "partial=true" in error
    assert run(f"results=[{results}]", *FEW, "partial=true", "format=markdown") == 0
    assert "ours only 2" in capsys.readouterr().out


def test_folders_passed_over_are_named(run: Go, results: Path, capsys: pytest.CaptureFixture[str]):
    (results / "raw" / "static" / "generated").rename(results / "raw" / "static" / "unnamed")
    assert run(f"results=[{results}]", *FEW, "format=csv") == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 2
    assert "so these are passed over" in printed.err
    assert "raw/static/unnamed" in printed.err


def got10k_test(root: Path, videos: int = 2, frames: int = 3) -> None:
    """GOT-10k's test set as it lies on disk: list.txt, frames, the first box."""
    names = [f"GOT-10k_Test_{i:06d}" for i in range(1, videos + 1)]
    for name in names:
        place = root / "got10k" / "test" / name
        place.mkdir(parents=True)
        for i in range(1, frames + 1):
            cv2.imwrite(str(place / f"{i:08d}.jpg"), np.zeros((20, 30, 3), np.uint8))
        (place / "groundtruth.txt").write_text("1.0000,2.0000,10.0000,12.0000\n")
    (root / "got10k" / "test" / "list.txt").write_text("\n".join(names) + "\n")


SUBMIT = ["submit=got10k", "benchmark=got10k_test", "paths.data=data", "complete=false"]


@pytest.fixture
def server_results(tmp_path: Path) -> Path:
    got10k_test(tmp_path / "data")
    folder = tmp_path / "results" / "ours" / "got10k_test"
    for i in (1, 2):
        boxes = np.tile([1.0, 2.0, 10.0, 12.0], (3, 1))
        write_result(folder, f"GOT-10k_Test_{i:06d}", boxes, np.full(3, 0.02), np.ones(3))
    return folder


def test_a_zip_for_the_server(run: Go, server_results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(*SUBMIT, "results=[results]") == 0
    assert "ours_got10k.zip: 2 videos, in order" in capsys.readouterr().out
    with zipfile.ZipFile(tmp_path / "ours_got10k.zip") as archive:
        assert "GOT-10k_Test_000002/GOT-10k_Test_000002_time.txt" in archive.namelist()
    assert run(*SUBMIT, "check=ours_got10k.zip") == 0


def test_a_wrong_zip_says_what_is_wrong(
    run: Go, server_results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    boxes = np.tile([1.0, 2.0, 10.0, 12.0], (2, 1))
    write_result(server_results, "GOT-10k_Test_000001", boxes, np.full(2, 0.02), np.ones(2))
    assert run(*SUBMIT, "results=[results]", "zip=deep/my.zip") == 2
    printed = capsys.readouterr()
    assert "GOT-10k_Test_000001_001.txt: 2 lines; the video has 3 frames" in printed.out
    assert "2 problems, printed above; no zip was written" in printed.err
    assert not (tmp_path / "deep").exists()
    (tmp_path / "made.zip").write_bytes(b"nothing")
    assert run(*SUBMIT, "check=made.zip") == 2
    assert "not a zip file" in capsys.readouterr().out


def test_server_benchmarks_are_not_scored_here(run: Go, server_results: Path, capsys):
    assert run("benchmark=got10k_test", "paths.data=data", "complete=false", "results=[results]") == 2
    assert "first boxes only; its server scores: submit=got10k" in capsys.readouterr().err


def test_two_trackers_do_not_fit_in_a_zip(
    run: Go, server_results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "results" / "other").mkdir()
    server_results.rename(tmp_path / "results" / "other" / "got10k_test")
    server_results.mkdir()
    (server_results / "GOT-10k_Test_000001.txt").write_text("1,2,3,4\n")
    assert run(*SUBMIT, "results=[results]") == 2
    assert "holds 2 trackers (other, ours); a zip is of one" in capsys.readouterr().err


def test_the_page_of_a_run(run: Go, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "runs" / "quickstart"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("step,samples,val/auc\n10,480,40.5\n20,960,50\n")
    assert run("run=runs/quickstart") == 0
    assert "runs/quickstart/report/index.html" in capsys.readouterr().out
    assert "Learning" in (folder / "report" / "index.html").read_text()
    assert run("run=runs/quickstart", "page=somewhere/else") == 0
    assert (tmp_path / "somewhere" / "else" / "index.html").is_file()


def test_runs_are_compared(run: Go, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for seed in (0, 1):
        folder = tmp_path / "runs" / "sweep" / f"lr-1__seed-{seed}"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(f"seed: {seed}\n")
        (folder / "metrics.csv").write_text(f"step,samples,val/auc\n10,480,{40 + 4 * seed}\n")
    (tmp_path / "runs" / "sweep" / "empty").mkdir()
    assert run("runs=[runs/sweep]") == 0
    printed = capsys.readouterr().out
    assert "42.0 ± 2.8" in printed
    assert "Not compared: empty: no run in it" in printed
    assert printed.rstrip().endswith("runs/sweep/comparison/index.html")
    assert "<h1>sweep: 2 runs of 1 configuration</h1>" in (tmp_path / "runs/sweep/comparison/index.html").read_text()
    assert run("runs=runs/sweep/lr-1__seed-0", "page=else") == 0
    assert (tmp_path / "else" / "index.html").is_file()


def test_sigterm_leaves_no_page_that_looks_whole(
    run: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Also in the place of a former one; the same command makes it anew."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.csv").write_text("step,samples,val/auc\n10,480,40.5\n20,960,50\n")
    page = tmp_path / "run" / "report" / "index.html"
    for attempt in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(analysis, "write_document", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
            assert run("run=run") == 143, attempt
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err == f"seqtrack-report: {ENDED}\n"
        assert "This page was interrupted; make it again." in page.read_text()
        assert run("run=run") == 0
        assert page.read_text().endswith("</html>\n")
        assert "interrupted" not in page.read_text()
        capsys.readouterr()


MISTAKES = {
    "no such runs": (["runs=[nowhere]"], "runs=nowhere: no such file or folder"),
    "no run in it": (["runs=[.]"], "no run to compare in .: runs= takes folders that seqtrack-train wrote"),
    "nothing asked for": ([], "nothing to report"),
    "no such run": (["run=nowhere"], "no folder nowhere"),
    "no such results": (["results=[nowhere]"], "results=nowhere: no such file or folder"),
    "nothing in it": (["results=[.]", *FEW], "holds no results of generated"),
    "no scores": (["scores=[.]"], "no scores.json in"),
    "unknown convention": (["results=[.]", "conventions=auc", *FEW], "unknown convention 'auc'; one of seqtrack"),
    "unknown format": (["results=[.]", "format=word"], "format=word: allowed are terminal, markdown"),
    "unknown server": (["submit=lasot", "results=[.]"], "submit=lasot: allowed are got10k, trackingnet"),
    "server without its benchmark": (["submit=got10k", "results=[.]"], "add benchmark=got10k_test"),
    "server without results": (["submit=got10k", "benchmark=got10k_test"], "needs results=[FOLDER]"),
    "zip without server": (["zip=a.zip", "results=[.]"], "belong to submit="),
    "unknown key": (["result=[.]"], "result"),
    "unknown benchmark": (["benchmark=lasott"], "lasott"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_one_line(arguments: list[str], message: str, run: Go, capsys: pytest.CaptureFixture[str]):
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("seqtrack-report: ")
    assert error.count("\n") == 1
    assert message in error


def test_a_broken_file_is_named(run: Go, results: Path, capsys: pytest.CaptureFixture[str]):
    file = next((results / "ours" / "generated").glob("*00002.txt"))
    file.write_text(file.read_text().replace("\n", "\n\n", 1))
    assert run(f"results=[{results}]", *FEW) == 2
    assert f"{file.name}, line 2" in capsys.readouterr().err


def test_a_full_disk_is_one_line(run: Go, results: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert run(f"results=[{results}]", *FEW, "save=tables") == 2
    error = capsys.readouterr().err
    assert error.startswith("seqtrack-report: could not write tables/table.md: No space left on device.")
    assert error.count("\n") == 1


def test_help(run: Go, capsys: pytest.CaptureFixture[str]):
    assert run("--help") == 0
    assert "results=[FOLDERS] benchmark=lasot" in capsys.readouterr().out


def test_json_holds_the_papers_rows(run: Go, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    scores = Scores("seqtrack", "ours", "lasot", 280, {"AUC": 60.0, "PNorm": 70.0, "P": 65.0})
    scores.save(tmp_path / "x" / "scores.json")
    assert run("scores=x/scores.json", "format=json", "paper=seqtrack") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {"tracker": "SeqTrack-B256 (paper)", "AUC": 69.9, "PNorm": 79.7, "P": 76.3} in rows
    assert len(rows) == 5
