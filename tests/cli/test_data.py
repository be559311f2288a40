"""seqtrack-data from the command line: checks with their exit codes, pictures, speed, mistakes named."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
from hydra import compose, initialize_config_dir
from tests.data.fixtures import MAKERS, Made

from seqtrack_lit.cli import data
from seqtrack_lit.cli.hydra.overrides import options_of, with_implied
from seqtrack_lit.cli.hydra.runtime import config_folder, instantiate

COMMAND = data

BENCHMARKS = options_of(config_folder(), "benchmark")
TRAINING = ["coco", "folder", "got10k_train", "lasot_train", "trackingnet_train"]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """All data sets there are, tiny."""
    for name, make in MAKERS.items():
        make(tmp_path / "data" / name)
    return tmp_path


@pytest.mark.filterwarnings("ignore:.*images for .* boxes")
def test_every_name_is_checked(whole: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    for name in [*TRAINING, *BENCHMARKS]:
        if name in ("generated", "vot2020"):  # nothing on disk; has tests of its own
            continue
        parts = ["train=['data.train.trackingnet.open.parts=[0,3]']"] if name == "trackingnet_train" else []
        code = run(f"check={name}", "complete=false", "fast=true", *parts)
        said = capsys.readouterr()
        assert code in (0, 1), said.err
        assert f"{name} in " in said.out
        report = json.loads((whole / "runs" / "data" / name / "check.json").read_text())
        assert report["sequences"] >= 2
        # these are tiny, so their frames are not as many as published; nothing else is wrong
        assert {finding["kind"] for finding in report["findings"]} <= {"frames", "zero", "nan"}
        assert code == (1 if any(finding["kind"] == "frames" for finding in report["findings"]) else 0)


def test_exit_codes(
    make_dataset: Callable[..., Made], run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    root, _ = make_dataset("folder", names=("cat",))
    assert run("check=folder", "workers=1") == 0
    assert "No problems (images read)" in capsys.readouterr().out
    (root / "cat" / "0004.jpg").write_bytes(b"")
    assert run("check=folder", "workers=1") == 1
    out = capsys.readouterr().out
    assert "PROBLEM: images that are empty, cut off or damaged: 1\n  first:  cat: cannot read image" in out
    assert "remedy: unpack or download these files again" in out
    assert run("check=folder", "root=nowhere") == 2
    assert "folder: no folder" in capsys.readouterr().err


def test_sequences_whose_result_files_collide(
    make_dataset: Callable[..., Made], run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """As seqtrack-evaluate refuses them."""
    make_dataset("folder", names=("lap", "lap_time", "lap_2"))
    assert run("check=folder", "fast=true") == 1
    out = capsys.readouterr().out
    assert "PROBLEM: sequences whose result files would be one, so that they cannot be evaluated: 1\n" in out
    assert "first:  lap_time: a result file lap_time.txt could belong to lap, too\n  remedy: rename one of" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of check=NAME, show=NAME, bench=NAME, pack=NAME, pool=DIR; names: coco, lasot_train"),
        (["check=lasot", "show=lasot"], "give one of check=NAME"),
        (["check=lassot"], "lassot: no such data set; names: coco"),
        (["check=generated"], "nothing on disk to check"),
        (["check=folder", "every=0"], "every must be a whole number >= 1, got 0"),
        (["show=generated", "samples=0"], "samples must be a whole number >= 1, got 0"),
        (["chek=folder"], "unknown key chek=folder"),
        (["pack=lasot"], "pack=lasot: expected a training set: coco, lasot_train, got10k_train"),
        (["pack=generated"], "pack=generated: expected a training set"),
        (["pack=folder", "pack_quality=0"], "pack_quality must be a whole number >= 1 and <= 100, got 0"),
        (["show=folder", "train=['data.train.folder.rot=x']"], "Could not override 'data.train.folder.rot'"),
    ],
)
def test_mistakes_are_named(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err


def test_show(make_dataset: Callable[..., Made], tmp_path: Path, run: Callable[..., int]) -> None:
    make_dataset("folder")
    small = ["train=['model.encoder.search_size=32']", "samples=3", "sequences=3"]
    assert run("show=folder", *small) == 0
    for name in ("sequences", "samples"):
        assert cv2.imread(str(tmp_path / "runs" / "data" / "folder" / f"{name}.png")).size > 0


def test_show_where_there_are_first_boxes_only(
    make_dataset: Callable[..., Made], tmp_path: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    make_dataset("got10k")
    assert run("show=got10k_test") == 0
    assert "No training samples: " in capsys.readouterr().out
    assert (tmp_path / "runs" / "data" / "got10k_test" / "sequences.png").is_file()


def test_bench(tmp_path: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    few = "train=['data.train.generated.open.count=2']"
    assert run("bench=generated", "bench_samples=4", "bench_batch=2", "bench_workers=[0]", few) == 0
    assert "| crop |" in capsys.readouterr().out
    facts = json.loads((tmp_path / "runs" / "data" / "generated" / "bench.json").read_text())
    assert facts["loader"]["0"] > 0
    assert (tmp_path / "runs" / "data" / "generated" / "bench.md").is_file()


def test_training_on_a_pack(
    make_dataset: Callable[..., Made], tmp_path: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Packed by one command, found by one key; for a model of larger crops it is refused."""
    make_dataset("folder")
    assert run("pack=folder", "workers=1", "train=['model.encoder.search_size=32']") == 0
    out = capsys.readouterr().out
    assert "93 frames with a target in " in out
    assert "train on them with data.packs=data/packs" in out
    for size, message in ((32, ""), (64, "search_size / search_factor up to 8, the training asks for 16")):
        overrides = ["data=folder", "data.packs=${paths.data}/packs", f"model.encoder.search_size={size}"]
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            config = compose("train", with_implied(overrides))
        config.paths.data = str(tmp_path / "data")
        module = instantiate(config.data, batch=2, epoch_samples=4, total_samples=4)
        if message:
            with pytest.raises(ValueError, match=f"data.train.folder: the pack .*{message}"):
                module.setup()
        else:
            assert next(iter(module.train_dataloader())).search.shape == (2, 3, 32, 32)
            assert module.summary()["folder"]["hash"].startswith(module._train["folder"].pieces.facts["source"])


def test_help_names_every_data_set(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in [*TRAINING, *BENCHMARKS])
