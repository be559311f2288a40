"""VOT2020 from the command line: evaluation without the toolkit, workspaces for it."""

import json
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml
from tests.campaign.weights import ours
from tests.cli.tiny import call
from tests.data.vot import make_vot

from seqtrack_lit.cli import evaluate, report, vot
from seqtrack_lit.evaluation.scores import Scores

Run = Callable[..., int]
EVALUATE = ("benchmark=vot2020", "complete=false", "paths.data=data", "device=cpu", "vot.eao_lengths=[3,9]")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call a command in a folder with a VOT data set and a tiny checkpoint; gives back the exit code."""
    monkeypatch.chdir(tmp_path)
    make_vot(tmp_path / "data" / "vot2020", sequences=2, frames=12, every=6)
    ours(tmp_path)
    return partial(call, monkeypatch)


def test_the_whole_protocol_by_one_command(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    command = (evaluate, "checkpoint=best.ckpt", "baseline=static", *EVALUATE, "vot.seconds_per_frame=0.1")
    assert run(*command) == 0
    folder = tmp_path / "runs" / "results" / "mine" / "vot2020"
    known = Scores.load_all(folder / "scores.json")
    assert set(known) == {"vot_baseline", "vot_realtime", "vot_unsupervised"}
    assert set(known["vot_baseline"].per_attribute) == {"camera_motion", "occlusion"}
    digits = json.loads((folder / "baseline" / "analysis.json").read_text())
    assert known["vot_baseline"].values["EAO"] == round(100 * digits["values"]["EAO"], 1)
    text = capsys.readouterr().out
    assert "simulated: 100 ms a frame, grace 3" in text
    assert "29.1" in text and "31.9" in text  # noqa: PT018
    assert len(list(folder.glob("baseline/seq0/*.txt"))) == 3  # anchors 0, 6, 11

    removed = folder / "realtime" / "seq1" / "seq1_00000000.txt"
    before = removed.read_text()
    removed.unlink()
    assert run(*command) == 0
    assert removed.read_text() == before
    assert "1 runs tracked" in capsys.readouterr().out

    lines = before.splitlines()
    removed.write_text("\n".join([lines[0], "m1,2", *lines[2:], ""]))
    assert run(*command) == 2
    assert "seq1_00000000.txt, line 2: 'm1,2' is no mask" in (error := capsys.readouterr().err)
    assert "or delete it and track again" in error


def test_masks_have_a_folder_of_their_own(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    command = (evaluate, "baseline=static", *EVALUATE, "vot.experiments=baseline")
    assert run(*command, "vot.masks=rectangle") == 0
    folder = tmp_path / "runs" / "results" / "static_rectangle" / "vot2020" / "baseline"
    assert (folder / "seq0" / "seq0_00000000.txt").read_text().splitlines()[1].startswith("m")
    assert run(*command, "vot.masks=alpha_refine") == 2
    assert "masks=alpha_refine needs weights" in capsys.readouterr().err
    assert run(vot, "init=ws", "checkpoint=best.ckpt", "masks=rectangle") == 2
    assert "add report=mask" in capsys.readouterr().err


def test_trajectories_of_another_clock_are_not_mixed_in(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    command = (evaluate, "baseline=static", *EVALUATE, "vot.experiments=realtime")
    assert run(*command, "vot.seconds_per_frame=0.1") == 0
    assert run(*command, "vot.seconds_per_frame=0.2") == 2
    assert "seconds_per_frame was 0.1, now 0.2" in capsys.readouterr().err
    assert run(*command, "vot.seconds_per_frame=0.2", "replace=true") == 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("vot.experiments=[longterm]", "vot.experiments: no experiment 'longterm'"),
        ("vot.experiments=[]", "vot.experiments is empty"),
        ("vot.eao_lengths=[9]", "vot.eao_lengths must be two numbers"),
        ("vot.eao_lengths=[9,3]", r"vot.eao_lengths[1] must be a whole number >= 10"),
        ("vot.seconds_per_frame=-1", "vot.seconds_per_frame must be a number > 0"),
        ("batch=0", "batch must be a whole number >= 1"),
        ("vot.mask_checkpoint=x", "vot.mask_checkpoint is given without masks; add vot.masks=alpha_refine"),
        ("vot.masks=grabcut", "vot.masks must be one of rectangle"),
        ("convention=pysot", "VOT2020 has its own measures"),
    ],
)
def test_mistakes_are_named(override: str, message: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(evaluate, "baseline=static", *EVALUATE, override) == 2
    assert message in capsys.readouterr().err


def test_a_workspace(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    command = (vot, "init=ws", "checkpoint=best.ckpt", "sequences=data/vot2020", "report=mask", "tracker.name=Se qT")
    assert run(*command) == 0
    assert "vot evaluate Se_qT" in capsys.readouterr().out
    texts = {path.name: path.read_text() for path in (tmp_path / "ws").iterdir()}
    assert f"sequences: {tmp_path}/data/vot2020/sequences" in texts["config.yaml"]
    assert "dataset:" not in texts["stack.yaml"]
    assert f"{tmp_path}/best.ckpt" in texts["trackers.ini"]
    assert "report=mask" in texts["trackers.ini"]
    assert run(*command) == 0  # nothing changes
    assert run(*command, "eao_lengths=[3,9]") == 2
    assert "stack.yaml is there with other content" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "ws")
    assert run(vot, "init=ws", "checkpoint=best.ckpt", "sequences=none") == 0
    assert "dataset: https://" in (tmp_path / "ws" / "stack.yaml").read_text()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("eao_lengths=[5]", "eao_lengths must be two numbers"),
        ("eao_lengths=null", "eao_lengths must be two numbers"),
        ("eao_lengths=[a,b]", "eao_lengths[0] must be a whole number"),
        ("mask_checkpoint=x", "mask_checkpoint is given without masks"),
    ],
)
def test_mistakes_in_a_workspace_are_named(
    override: str, message: str, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(vot, "init=ws", "checkpoint=best.ckpt", override) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "ws").exists()


def test_names_of_folders_that_mean_something_to_yaml_and_shell(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data" / "vot2020").rename(tmp_path / "it's #1: vot")
    assert run(vot, "init='w s'", "checkpoint=best.ckpt", 'sequences="it\'s #1: vot"') == 0
    config = yaml.safe_load((tmp_path / "w s" / "config.yaml").read_text())
    assert config["sequences"] == f"{tmp_path}/it's #1: vot/sequences"
    assert "cd 'w s' && vot" in capsys.readouterr().out
    assert run(vot, "init=other", "checkpoint=best.ckpt", "sequences=null") == 0
    assert "the toolkit downloads them" in capsys.readouterr().out


def test_without_a_checkpoint_or_trax(run: Run, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    assert run(vot, "init=ws") == 2
    assert "no checkpoint: give checkpoint=FILE" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "trax", None)
    assert run(vot, "checkpoint=best.ckpt") == 2
    assert "pip install vot-trax==4.0.2" in capsys.readouterr().err


def _report(run: Run, *arguments: str) -> int:
    return run(report, "benchmark=vot2020", "complete=false", "paths.data=data", *arguments)


def test_the_pack_for_the_server(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(evaluate, "baseline=static", *EVALUATE) == 0
    results = "results=[runs/results/static]"
    assert _report(run, "submit=vot2020", results) == 0
    assert "static_vot2020.zip: 2 videos, in order" in capsys.readouterr().out
    first = (tmp_path / "static_vot2020.zip").read_bytes()
    assert _report(run, "submit=vot2020", results, "zip=again.zip") == 0
    assert (tmp_path / "again.zip").read_bytes() == first
    assert _report(run, "submit=vot2020", "check=again.zip") == 0
    (tmp_path / "runs/results/static/vot2020/baseline/seq1/seq1_00000008.txt").unlink()
    assert _report(run, "submit=vot2020", results) == 2
    assert "1 trajectories are missing, first baseline/seq1/seq1_00000008.txt" in capsys.readouterr().err


def test_results_of_any_tracker_are_scored(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A workspace of the toolkit: results/<tracker>/<experiment>/<sequence>/."""
    assert run(evaluate, "baseline=static", *EVALUATE, "vot.experiments=baseline") == 0
    shutil.copytree(tmp_path / "runs/results/static/vot2020/baseline", tmp_path / "ws/results/Theirs/baseline")
    capsys.readouterr()
    assert _report(run, "results=[ws/results,runs/results]", "vot.eao_lengths=[3,9]", "format=csv", "save=out") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("tracker,EAO,A,R")
    assert lines[1].split(",")[1:4] == lines[2].split(",")[1:4]
    assert {line.split(",")[0] for line in lines[1:3]} == {"Theirs", "static"}
    assert (tmp_path / "out" / "vot2020_vot_baseline_eao.pdf").is_file()
    assert "| occlusion " in (tmp_path / "out" / "vot2020_vot_baseline_attributes.md").read_text()
    assert _report(run, "results=[data]") == 2
    assert "holds no VOT experiments" in capsys.readouterr().err
