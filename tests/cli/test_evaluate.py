"""seqtrack-evaluate from the command line: the official answers, scores, going on, mistakes named."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tests.data.vot import make_vot

from seqtrack_lit.cli import evaluate
from seqtrack_lit.cli.hydra.runtime import config_folder
from seqtrack_lit.evaluation.results import read_result
from seqtrack_lit.evaluation.scores import Scores
from seqtrack_lit.models.description import build_model

COMMAND = evaluate

GOLDEN = Path(__file__).parents[1] / "golden" / "model"


def golden_folder(root: Path, case: str) -> Path:
    """The recorded video as a folder data set."""
    golden = np.load(GOLDEN / case / "golden.npz")
    place = root / "vidéo one"
    place.mkdir(parents=True)
    for index, image in enumerate(golden["frames"], 1):
        cv2.imencode(".png", image[..., ::-1])[1].tofile(place / f"{index:05d}.png")
    boxes = np.concatenate([golden["init_box"][None], golden["gt"][1:]])
    np.savetxt(place / "groundtruth.txt", boxes, fmt="%.6f", delimiter=",")
    return root


@pytest.mark.parametrize("case", ["s1", "s2"])
def test_writes_the_official_tracker_s_boxes(case: str, tmp_path: Path, run) -> None:
    root = golden_folder(tmp_path / "my videos", case)
    golden = np.load(GOLDEN / case / "golden.npz")
    code = run(
        f"checkpoint={GOLDEN / case / 'SEQTRACK_ep0007.pth.tar'}",
        f"official_config={GOLDEN / case / 'cfg.yaml'}",
        "benchmark=folder",
        f"benchmark.root={root}",
        "benchmark.name=mine",
        "device=cpu",
        f"out={tmp_path / 'out'}",
    )
    assert code == 0
    folder = tmp_path / "out" / "seqtrack" / "mine"
    result = read_result(folder, "vidéo one")
    np.testing.assert_allclose(result.boxes[0], golden["init_box"], atol=1e-3)
    np.testing.assert_allclose(result.boxes[1:], golden["boxes"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(result.confidences[1:], golden["conf_score"] / 40, rtol=1e-4)
    scores = Scores.load(folder / "scores.json")
    assert scores.sequences == 1
    media = json.loads((folder / "media" / "media.json").read_text())
    assert [(clip["kind"], clip["file"]) for clip in media["clips"]] == [("best", "best.mp4")]
    assert [picture["file"] for picture in media["attention"]] == ["attention_best.png"]
    assert cv2.imread(str(folder / "media" / "attention_best.png")).shape[0] > 192
    assert (folder / "media" / "best.mp4").stat().st_size > 1000
    course = json.loads((folder / "media" / "sequences.json").read_text())[0]
    assert (course["sequence"], course["frames"]) == ("vidéo one", len(result.boxes))
    assert cv2.imread(str(folder / "media" / course["file"])).shape[1] == 320


def test_baselines_beside_each_other(tmp_path: Path, run, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["baseline=[static,kcf]", "benchmark.count=3", "+benchmark.length=12", "out=out"]
    assert run(*arguments) == 0
    printed = capsys.readouterr().out
    assert "static on generated: 3 videos tracked, 36 frames" in printed
    assert "kcf on generated: 3 videos tracked" in printed
    assert "AUC" in printed
    scores = {name: Scores.load(tmp_path / "out" / name / "generated" / "scores.json") for name in ("static", "kcf")}
    assert all(one.sequences == 3 for one in scores.values())
    assert run(*arguments) == 0
    assert "0 videos tracked, 3 were there" in capsys.readouterr().out


def test_results_of_another_run_are_not_mixed_in(run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("baseline=static", "benchmark.count=2", "+benchmark.length=5") == 0
    assert run("baseline=static", "benchmark.count=2", "+benchmark.length=5", "+benchmark.seed=1") == 2
    assert "holds results of another run" in capsys.readouterr().err
    assert run("baseline=static", "benchmark.count=2", "+benchmark.length=5", "+benchmark.seed=1", "replace=true") == 0


def test_a_bad_video_is_reported_and_costs_no_other(tmp_path: Path, run, capsys: pytest.CaptureFixture[str]) -> None:
    root = golden_folder(tmp_path / "videos", "s2")
    (root / "vidéo one").rename(root / "a")
    golden_folder(root / "x", "s2")
    (root / "x" / "vidéo one").rename(root / "b")
    (root / "x").rmdir()
    (root / "a" / "00004.png").write_bytes(b"not an image")
    arguments = ["baseline=static", "benchmark=folder", f"benchmark.root={root}", "benchmark.cache=null"]
    assert run(*arguments) == 1
    printed = capsys.readouterr().out
    assert "1 videos tracked" in printed
    assert "00004.png" in printed
    folder = tmp_path / "runs" / "results" / "static" / "folder"
    assert (folder / "b.txt").is_file()
    assert not (folder / "scores.json").exists()
    (root / "a" / "00004.png").write_bytes((root / "b" / "00004.png").read_bytes())
    assert run(*arguments) == 0
    assert "1 videos tracked, 12 frames" in capsys.readouterr().out
    assert (folder / "scores.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to evaluate: give checkpoint=FILE, run=FOLDER or baseline=static|kcf|csrt|nano|vit"),
        (["checkpoint=nowhere/é.ckpt"], "checkpoint=nowhere/é.ckpt: no such file"),
        (["run=runs/gone"], "run=runs/gone: there is no runs/gone/checkpoints/best.ckpt"),
        (["baseline=mosse"], "baseline=mosse: no such baseline; allowed: static, kcf, csrt, nano, vit"),
        (["baseline=[kcf,nano]"], "baseline=nano: give baseline_files=FOLDER with its ONNX files; take nano"),
        (["baseline=vit", "baseline_files=gone"], "baseline=vit: baseline_files=gone: no such folder; take object_"),
        (
            ["baseline=kcf", "benchmark=lasot"],
            "; paths.data= names the folder of all data sets",
        ),
        (["baseline=kcf", "benchmark=losat"], "allowed:"),
        (["checkpoint=small", "device=mps"], "device=mps: trackers run on cpu and cuda only"),
        (["baseline=kcf", "workers=0"], "workers must be a whole number >= 1, got 0"),
        (["baseline=kcf", "tracker.windows=false"], "unknown key tracker.windows"),
        (["baseline=kcf", "tracker.name=a/b"], "tracker.name is 'a/b', which cannot name a file or folder"),
        (["baseline=kcf", "official_config=gone.yaml"], "official_config=gone.yaml: no such file"),
        (["baseline=kcf", f"benchmark.count={10**20}"], "count must be a whole number >= 1 and <= 1000000"),
        (["baseline=kcf", "+benchmark.length=1000000000"], "length must be a whole number >= 1 and <= 100000"),
        (["baseline=kcf", "convention=osb"], "unknown convention 'osb'"),
    ],
)
def test_mistakes_are_named(run, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err


def test_a_checkpoint_of_something_else(run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.ckpt").write_text("hello")
    assert run("checkpoint=text.ckpt") == 2
    assert "text.ckpt" in capsys.readouterr().err


def test_wrong_tracker_values_stop_before_the_data(run, capsys: pytest.CaptureFixture[str]) -> None:
    case = GOLDEN / "s1"
    arguments = [f"checkpoint={case / 'SEQTRACK_ep0007.pth.tar'}", f"official_config={case / 'cfg.yaml'}"]
    assert run(*arguments, "tracker.update_threshold=0.6", "tracker.update_interval=0") == 2
    assert "tracker.update_interval" in capsys.readouterr().err


def write_ours(path: Path, tracker: dict[str, object]) -> None:
    """The checkpoint of a small model, with these settings of its tracker."""
    sizes = {"search_size": 32, "template_size": 32, "templates": 1, "patch": 16, "width": 32, "depth": 1, "heads": 2}
    model = {
        "encoder": {"_target_": "seqtrack_lit.models.encoder.ViTEncoder", **sizes},
        "decoder": {"_target_": "seqtrack_lit.models.decoder.Decoder", "width": 32, "depth": 1, "heads": 2, "ffn": 32},
    }
    described = {"format": 1, "tokenizer": {"bins": 40}, "model": model, "tracker": tracker}
    weights = {f"net.{key}": tensor for key, tensor in build_model({"bins": 40}, model).state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"seqtrack": described, "state_dict": weights}, path)


def test_the_best_checkpoint_of_a_run(tmp_path: Path, run, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a run" / "checkpoints" / "best.ckpt"
    write_ours(path, {"name": "mine", "window": False, "update_interval": 25})  # of no matter with one template
    arguments = ["run=a run", "benchmark.count=2", "+benchmark.length=6", "device=cpu"]
    assert run(*arguments) == 0
    folder = tmp_path / "a run" / "results" / "mine" / "generated"
    assert Scores.load(folder / "scores.json").tracker == "mine"
    assert "in the checkpoint" not in capsys.readouterr().out
    kept = json.loads((folder / "identity.json").read_text())["tracker"]
    assert kept["window"] is False  # the checkpoint's
    assert kept["update_interval"] == 25  # the checkpoint's: this benchmark has no official value
    assert run(*arguments, "tracker.search_factor=3") == 2  # other answers: not into the same folder
    assert "tracker.search_factor was" in capsys.readouterr().err
    assert run(*arguments, "inference=paper") == 0
    told = "mine_paper on generated: window is True here, False in the checkpoint (tracker.window=False keeps"
    assert told in capsys.readouterr().out
    assert run(*arguments, "inference=paper", "tracker.name=paper", "tracker.update_interval=3") == 0
    kept = json.loads((folder.parents[1] / "paper" / "generated" / "identity.json").read_text())["tracker"]
    assert kept["window"] is True
    assert kept["update_interval"] == 3  # the command line wins over inference, and that over the benchmark
    assert kept["update_threshold"] == 0.015


def test_each_inference_has_a_folder_of_its_own(tmp_path: Path, run, capsys: pytest.CaptureFixture[str]) -> None:
    """One checkpoint with two templates, one command, every option; a name that is given is taken as it is."""
    case = GOLDEN / "s1"
    arguments = [f"checkpoint={case / 'SEQTRACK_ep0007.pth.tar'}", f"official_config={case / 'cfg.yaml'}"]
    arguments += ["benchmark.count=1", "+benchmark.length=6", "media=false", "device=cpu", "out=out"]
    assert run("-m", *arguments, "inference=default,likelihood_update,naive_update,no_window,no_update,paper") == 0
    assert run(*arguments, "inference=no_window", "tracker.name=own") == 0
    found = {
        path.parents[1].name: json.loads(path.read_text()) for path in tmp_path.glob("out/*/generated/identity.json")
    }
    settings = {name: (facts["tracker"]["update"], facts["tracker"]["window"]) for name, facts in found.items()}
    assert settings == {
        "seqtrack": ("likelihood", True),
        "seqtrack_likelihood_update": ("likelihood", True),
        "seqtrack_naive_update": ("naive", True),
        "seqtrack_no_window": ("likelihood", False),
        "seqtrack_no_update": ("none", True),
        "seqtrack_paper": ("likelihood", True),
        "own": ("likelihood", False),
    }
    intervals = {name: facts["tracker"]["update_interval"] for name, facts in found.items()}
    assert intervals.pop("seqtrack_paper") == 25
    assert set(intervals.values()) == {2}  # the checkpoint's
    for name in settings:
        assert Scores.load(tmp_path / "out" / name / "generated" / "scores.json").tracker == name
    capsys.readouterr()
    assert run(*arguments, "inference=no_window", "tracker.window=true") == 2
    assert "inference=no_window means tracker.window=false" in capsys.readouterr().err


def test_a_benchmark_s_interval_beside_the_checkpoint_s_is_told(
    tmp_path: Path, run, make_dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    make_dataset("tnl2k")
    case = GOLDEN / "s1"
    arguments = [f"checkpoint={case / 'SEQTRACK_ep0007.pth.tar'}", f"official_config={case / 'cfg.yaml'}"]
    arguments += ["benchmark=tnl2k", f"paths.data={tmp_path / 'data'}", "complete=false"]
    arguments += ["media=false", "device=cpu", "out=out"]
    told = "seqtrack on tnl2k: update_interval is 25 here, 2 in the checkpoint (tracker.update_interval=2 keeps"
    assert run(*arguments) == 0
    assert told in capsys.readouterr().out
    assert run(*arguments, "tracker.update_interval=7", "tracker.name=seven") == 0
    assert "update_interval is" not in capsys.readouterr().out


@pytest.mark.slow
def test_several_processes_and_the_module_as_a_program(tmp_path: Path) -> None:
    root = golden_folder(tmp_path / "videos", "s1")
    case = GOLDEN / "s1"
    command = [sys.executable, "-m", "seqtrack_lit.cli.evaluate", "workers=2", "device=cpu", "media=false"]
    command += [f"checkpoint={case / 'SEQTRACK_ep0007.pth.tar'}", f"official_config={case / 'cfg.yaml'}"]
    command += ["benchmark=folder", f"benchmark.root={root}", "tracker.name=two", "baseline=static"]
    golden_folder(root / "x", "s1")
    (root / "x" / "vidéo one").rename(root / "other")
    (root / "x").rmdir()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    golden = np.load(case / "golden.npz")
    for name in ("vidéo one", "other"):
        result = read_result(tmp_path / "runs" / "results" / "two" / "folder", name)
        np.testing.assert_allclose(result.boxes[1:], golden["boxes"], rtol=0, atol=1e-3)


@pytest.mark.slow
def test_all_benchmarks_in_one_sweep(tmp_path: Path, run, make_dataset, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("folder", "got10k", "lasot", "lasot_ext", "nfs", "otb100", "tnl2k", "trackingnet", "uav123"):
        make_dataset(name)
    make_vot(tmp_path / "data" / "vot2020")
    data = f"paths.data={tmp_path / 'data'}"
    assert run("-m", "benchmark=glob(*)", "baseline=static", data, "complete=false", "out=out") == 0
    folders = {path.name for path in (tmp_path / "out" / "static").iterdir()}
    assert folders == {path.stem for path in (config_folder() / "benchmark").glob("*.yaml")}
    scored = {path.parent.name for path in (tmp_path / "out" / "static").glob("*/scores.json")}
    assert folders - scored == {"got10k_test", "trackingnet"}  # first boxes only
    assert "publishes first boxes only" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["results/static", "results/static/generated"])
def test_results_are_not_written_through_links(place: str, tmp_path: Path, run, capsys) -> None:
    """With replace=true, results and media/ there would be deleted."""
    (tmp_path / "ours" / "media").mkdir(parents=True)
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).symlink_to(tmp_path / "ours")
    assert run("baseline=static", "benchmark.count=1", "+benchmark.length=3", "out=results", "replace=true") == 2
    assert f"{place} is a link, and results are not written through links" in capsys.readouterr().err
    assert [one.name for one in (tmp_path / "ours").iterdir()] == ["media"]


@pytest.mark.parametrize("name", ["../../up", "\x1b[31mred", "x" * 250, "NUL"])
def test_a_checkpoints_name_leads_nowhere(name: str, tmp_path: Path, run, capsys) -> None:
    write_ours(tmp_path / "theirs.ckpt", {"name": name})
    assert run("checkpoint=theirs.ckpt", "benchmark.count=1", "+benchmark.length=3", "out=deep/er/results") == 2
    message = capsys.readouterr().err
    assert "tracker.name is '" in message
    assert "\x1b" not in message
    assert sorted(one.name for one in tmp_path.iterdir()) in (["deep", "theirs.ckpt"], ["theirs.ckpt"])


def test_a_checkpoints_name_is_replaced_by_the_command_lines(tmp_path: Path, run) -> None:
    write_ours(tmp_path / "theirs.ckpt", {"name": "../../up", "update_interval": 0})
    few = ["benchmark.count=1", "+benchmark.length=3", "out=deep/er/results", "device=cpu", "media=false"]
    assert run("checkpoint=theirs.ckpt", *few, "tracker.name=mine", "tracker.update_interval=5") == 0
    assert [one.name for one in (tmp_path / "deep/er/results").iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["kcf", "Static"])
def test_a_checkpoint_is_not_taken_for_a_baseline(name: str, tmp_path: Path, run, capsys) -> None:
    write_ours(tmp_path / "theirs.ckpt", {"name": name})
    few = ["benchmark.count=1", "+benchmark.length=3", "out=out", "device=cpu", "media=false"]
    told = f"seqtrack-evaluate: the checkpoint's tracker is called {name}, as a baseline is; give another tracker.name="
    for arguments in ([], [f"tracker.name={name}"]):
        assert run("checkpoint=theirs.ckpt", *few, *arguments) == 2
        assert capsys.readouterr().err == f"{told}\n"
    assert not list(tmp_path.glob("out/*"))
    assert run("checkpoint=theirs.ckpt", *few, "tracker.name=mine", "baseline=static") == 0
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == ["mine", "static"]


def test_which_checkpoint_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run says; the command line wins; an older run says nothing and has its best one taken."""
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("best", "last"):
        (folder / "checkpoints" / f"{name}.ckpt").touch()

    def found(which: str | None) -> str:
        config = {"checkpoint": None, "run": str(folder), "eval_checkpoint": which, "paths": {"runs": "runs"}}
        path = evaluate.checkpoint_of(OmegaConf.create(config))
        assert path is not None
        return path.name

    assert found(None) == "best.ckpt"
    assert found("last") == "last.ckpt"
    (folder / "run.json").write_text('{"eval_checkpoint": "last"}')
    assert found(None) == "last.ckpt"
    assert found("best") == "best.ckpt"
    (folder / "checkpoints/last.ckpt").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no .*last\.ckpt; eval_checkpoint=best takes the other one"):
        found(None)
    with pytest.raises(ValueError, match="eval_checkpoint must be one of best, last, got 'newest'"):
        found("newest")
