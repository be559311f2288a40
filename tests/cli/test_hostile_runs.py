"""Folders of runs from somebody else, through the command: nothing in them is run, each is refused in one line."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from seqtrack_lit.cli import train
from seqtrack_lit.cli.hydra.overrides import recorded
from seqtrack_lit.cli.hydra.runtime import config_folder
from seqtrack_lit.runs.folder import is_own, seal_of

CODE = "{_target_: pathlib.Path.touch, self: {_target_: pathlib.Path, _args_: [%s]}}"
# Overrides that would run code, reach Hydra, or add something of their own; %s is a file that must not appear.
HOSTILE = {
    "Hydra's callbacks": f"hydra.callbacks={{a: {CODE}}}",
    "Hydra's callbacks, added": f"+hydra.callbacks.a={CODE}",
    "Hydra's folder": "hydra.run.dir=%s",
    "Hydra's search path": "hydra.searchpath=[file://%s]",
    "Hydra's launcher": "hydra/launcher=local",
    "a target": "trainer._target_=pathlib.Path",
    "a target in a mapping": f"callbacks.extra={CODE}",
    "a target in a list": f"seed=[{CODE}]",
    "a target, added": f"+callbacks.extra.a={CODE}",
    "a target, forced": f"++trainer={CODE}",
    "positional arguments": "trainer._args_=[1]",
    "a deleted key": "~trainer",
    "a resolver": "name=${oc.env:HOME}",
    "a resolver in quotes": "name='${oc.env:HOME}'",
    "a resolver in a list": "seed=['${oc.env:HOME}']",
    "a sweep": "seed=1,2",
    "a function": "seed=range(1,5)",
    "another package": "model@trainer=seqtrack_tiny",
    "an option outside of conf": "model=../../%s",
    "an option by its path": "experiment=%s",
    "a mapping": "trainer={devices: 2}",
    "no override": "--multirun",
    "nothing": "",
    "broken": "seed=[1",
}


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Callable[..., str]:
    """Call seqtrack-train, which must refuse with one line; gives back the line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def go(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["seqtrack-train", *arguments])
        with pytest.raises(SystemExit) as stop:
            train.main()
        line: str = capsys.readouterr().err
        assert stop.value.code == 2, line
        assert line.startswith("seqtrack-train: ")
        assert line.count("\n") == 1
        assert line[:-1].isprintable()
        return line

    return go


def write(facts: object, config: str = "{}\n") -> Path:
    folder = Path("theirs")
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(facts))
    (folder / "config.yaml").write_text(config)
    return folder


@pytest.mark.parametrize("name", HOSTILE)
def test_overrides_of_a_run_are_no_command_line(command: Callable[..., str], tmp_path: Path, name: str) -> None:
    override = HOSTILE[name].replace("%s", str(tmp_path / "ran"))
    write({"status": "stopped", "overrides": ["seed=1", override]})
    line = command("resume=theirs")
    assert "theirs/run.json holds the override" in line
    assert "write it on the command line yourself" in line
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "theirs/.hydra").exists()


def test_the_newest_run_of_a_name_is_read_in_the_same_way(command: Callable[..., str], tmp_path: Path) -> None:
    override = HOSTILE["Hydra's callbacks"].replace("%s", str(tmp_path / "ran"))
    write({"overrides": [override]}).rename(tmp_path / "moved")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/seqtrack").mkdir()
    (tmp_path / "moved").rename(tmp_path / "runs/seqtrack/2026-01-01_00-00-00")
    assert "run.json holds the override" in command("resume=auto")
    assert not (tmp_path / "ran").exists()


FACTS = {
    "a status that is a list": ({"status": [], "overrides": []}, "run.json: status: "),
    "overrides that are a text": ({"overrides": "seed=1"}, "run.json: overrides: "),
    "an override that is a number": ({"overrides": [1]}, "run.json: overrides.0: "),
    "seconds that are a text": ({"seconds": "x", "overrides": []}, "run.json: seconds: "),
    "an unknown key": ({"overrides": ["nothing=1"]}, "unknown key nothing=1"),
    "escape codes": ({"overrides": ["\x1b[2J=1"]}, r"\x1b[2J"),
    "no facts": ({}, "is not the folder of a run"),
    "a list": ([], "run.json: Input should be an object"),
}


@pytest.mark.parametrize("name", FACTS)
def test_facts_of_another_type(command: Callable[..., str], name: str) -> None:
    facts, text = FACTS[name]
    write(facts)
    assert text in command("resume=theirs")


CONFIGS = {
    "aliases": ("a: &a [1]\nb: &b [*a, *a]\n", "line 2: no plain YAML: an alias"),
    "depth": (f"a: {'[' * 3000}", "no plain YAML: "),
    "an object": ("a: !!python/object/apply:os.system [touch ran]", "no plain YAML: "),
    "size": (f"a: {'x' * (1 << 20)}", "larger than"),
    "a list": ("[1]", "does not hold a run's settings"),
    "other types": ("seed: [1]\ntrain: 3\n", "theirs was begun with "),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_settings_of_another_form(command: Callable[..., str], tmp_path: Path, name: str) -> None:
    text, expected = CONFIGS[name]
    write({"status": "stopped", "overrides": ["experiment=quickstart"]}, text)
    assert expected in command("resume=theirs")
    assert not (tmp_path / "ran").exists()


def test_links_out_of_a_run_are_not_followed(command: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    folder = write({"overrides": []})
    (folder / ".hydra").mkdir()
    (folder / ".hydra/config.yaml").symlink_to(tmp_path / "mine")
    assert "config.yaml is a link" in command("resume=theirs")
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("place", ["pictures/boxes_0000010.png", "wandb", "tensorboard/events", "wandb_id.txt"])
def test_nothing_is_written_through_a_link(command: Callable[..., str], tmp_path: Path, place: str) -> None:
    path = write({"overrides": []}) / place
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(tmp_path / "mine")
    assert f"{path.name} is a link" in command("resume=theirs")


@pytest.mark.parametrize("place", ["checkpoints/last.ckpt", "metrics.csv", "pictures/boxes_0000010.png"])
def test_pipes_in_a_run_are_not_waited_for(command: Callable[..., str], place: str) -> None:
    path = write({"overrides": []}) / place
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    assert f"{path.name} is a pipe" in command("resume=theirs")


def test_a_sweep_does_not_go_on_with_one_run(command: Callable[..., str]) -> None:
    assert "goes on with one run, without -m" in command("-m", "resume=theirs")


def test_pickled_jobs_are_not_read(command: Callable[..., str]) -> None:
    assert "reads a pickle" in command("--experimental-rerun", "config.pickle")


def test_pickles_of_slurm_jobs_lie_outside_of_the_sweep() -> None:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", ["hydra/launcher=slurm", "name=theirs"], return_hydra_config=True)
    assert config.hydra.launcher.submitit_folder == "runs/.slurm/%j"
    assert config.hydra.sweep.dir == "runs/theirs"


# What a run.json may name of this machine and its accounts, with what the configuration says without it.
PLACES = {
    "logger=wandb": ("logger", None),
    "logger.project=theirs": ("logger.project", None),
    "paths.data=theirs/data": ("paths.data", "data"),
    "paths.runs=theirs": ("paths.runs", "runs"),
    "folder.root=theirs/videos": ("folder.root", "data/folder"),
    "folder.annotations=theirs.json": ("folder.annotations", None),
    "data.train.folder.open.open.root=theirs": ("data.train.folder.open.open.root", "data/folder"),
}


@pytest.mark.parametrize("sealed", ["no seal", "another key's", "its own"])
def test_services_and_places_are_taken_from_own_runs_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sealed: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEQTRACK_DATA", raising=False)
    monkeypatch.delenv("SEQTRACK_RUNS", raising=False)
    items = [
        "data=folder",
        "seed=3",
        "train.samples=1000",
        "launcher=slurm",
        "slots=2",
        *PLACES,
    ]  # two of earlier versions
    own = seal_of(items)
    assert own is not None
    write({"overrides": items, **({} if sealed == "no seal" else {"seal": own if sealed == "its own" else own[::-1]})})
    arguments = ["seqtrack-train", "resume=theirs", "--cfg", "job", "--resolve"]
    monkeypatch.setattr(sys, "argv", arguments)
    train.main()
    said = capsys.readouterr().out
    told, _, text = said.rpartition("; write those you need on the command line\n")
    config = OmegaConf.create(text)
    assert (config.seed, config.train.samples, config.resume) == (3, 1000, "auto")
    found = {item for item, (key, plain) in PLACES.items() if OmegaConf.select(config, key) == plain}
    if sealed == "its own":
        assert not told
        assert not found
        assert config.paths.data == "theirs/data"
        assert config.logger.project == "theirs"
    else:
        assert told.startswith("theirs/run.json is somebody else's")
        assert told.count("\n") == 0
        assert all(item in told for item in PLACES)
        assert found == set(PLACES)


def test_a_seal_needs_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is made once, for its user alone; another home has another one, and none at all seals nothing."""
    facts = {"overrides": ["seed=1"]}
    seals = []
    for home in ("a", "b"):
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / home))
        seals.append(seal_of(facts["overrides"]))
        assert seal_of(facts["overrides"]) == seals[-1]
        (key,) = (tmp_path / home / "seqtrack_lit").iterdir()
        assert key.stat().st_mode & 0o077 == 0
    assert seals[0] != seals[1]
    assert is_own({**facts, "seal": seals[1]})
    assert not is_own({**facts, "seal": seals[0]})
    assert not is_own({"overrides": ["seed=2"], "seal": seals[1]})
    assert not is_own(facts)
    key.write_bytes(b"")
    assert seal_of(facts["overrides"]) is None
    monkeypatch.setenv("XDG_CONFIG_HOME", str(key))
    assert seal_of(facts["overrides"]) is None
    assert not is_own({**facts, "seal": None})


def test_what_a_run_may_say() -> None:
    """Plain values of keys, options of groups; a key that the command line gives is not read from the file."""
    items = [
        "model=seqtrack_tiny", "model/encoder=vit_b16", "ablation=null", "seed=3", "name='a, b'", "tokenizer.bins=16",
        "train.ema_decay=0.9", "bench=[1,'a']", "paths.data=/a b", "fit=false",
    ]  # fmt: skip
    assert recorded(items, source="x", folder=config_folder(), without=()) == items
    assert recorded(["+a.b=1", "seed=1"], source="x", folder=config_folder(), without=("a.b",)) == ["seed=1"]
