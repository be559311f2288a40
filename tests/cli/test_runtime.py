"""The entry all commands share, on a small configuration of its own: quoting, help, errors in one line, exit codes."""

import errno
import gc
import os
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf

from seqtrack_lit.cli.hydra import overrides, runtime

FILES = {
    "train.yaml": """
defaults: [_self_, {model: small}, {optional local: default}]
source: null
name: x
needed: null
train: {samples: 10, epoch_samples: 5}
list: [1, 2]
paths: {runs: runs}
thing: {_target_: somewhere.Thing, inner: {}}
hydra: {run: {dir: out}, sweep: {dir: sweep, subdir: "${hydra.job.num}"}, output_subdir: null}
""",
    "model/small.yaml": "width: 1\nencoder: {depth: 2}\n",
    "model/large.yaml": "width: 2\nencoder: {depth: 4, heads: 3}\n",
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run a body with arguments; returns the exit code."""
    for name, text in FILES.items():
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(runtime, "config_folder", lambda: tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def go(*arguments: str, body: Callable[[DictConfig], Any] = lambda config: None) -> int:
        monkeypatch.setattr(sys, "argv", ["seqtrack-train", *arguments])
        try:
            runtime.run("train", body)
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return go


@pytest.mark.parametrize(
    "value",
    [
        "vidéo.mp4",
        "a(1).mp4",
        "my video.mp4",
        "epoch=3.ckpt",
        "~/x.mp4",
        "it's.mp4",
        "a&b.mp4",
        "C:\\a b\\c.mp4",
        "x;y",
    ],
)
def test_paths_arrive_as_written(run: Callable[..., int], value: str) -> None:
    seen: list[str] = []
    assert run(f"source={value}", body=lambda config: seen.append(config.source)) == 0
    assert seen == [value]


def test_comma_in_the_name_of_an_existing_file(run: Callable[..., int], tmp_path: Path) -> None:
    (tmp_path / "a,b.mp4").touch()
    seen: list[str] = []
    assert run("source=a,b.mp4", body=lambda config: seen.append(config.source)) == 0
    assert seen == ["a,b.mp4"]


LOOKS = {
    "source=1234": "1234", "source=2025_01_15": "2025_01_15", "source=1e5": "1e5", "source=true": "true",
    "source=null": None, "paths.runs=null": "null", "paths.runs=1.10": "1.10", "name=null": "null", "name=007": "007",
    "source=nan": "nan", "source=[2024, b,1_0]": ["2024", "b", "1_0"], "source='5'": "5", "train.samples=5": 5,
    "source=${name}": "x",
}  # fmt: skip


def test_a_flag_that_is_called_like_a_file_stays_a_flag() -> None:
    """`checkpoint` of an encoder says whether activations are recomputed."""
    assert overrides.quote_paths(["model.encoder.checkpoint=true"]) == ["model.encoder.checkpoint=true"]
    assert overrides.quote_paths(["checkpoint=true"]) == ["checkpoint='true'"]


@pytest.mark.parametrize("argument", LOOKS)
def test_paths_and_names_stay_text_whatever_they_look_like(run: Callable[..., int], argument: str) -> None:
    seen: list[Any] = []
    key = argument.partition("=")[0]
    assert run(argument, body=lambda config: seen.append(OmegaConf.select(config, key))) == 0
    assert (list(seen[0]) if OmegaConf.is_list(seen[0]) else seen[0]) == LOOKS[argument]


def test_a_sweep_over_names_that_look_like_numbers(run: Callable[..., int]) -> None:
    seen: list[Any] = []
    assert run("-m", "name=1,b,2025_01_15", body=lambda config: seen.append(config.name)) == 0
    assert seen == ["1", "b", "2025_01_15"]


@pytest.mark.parametrize(
    "argument", ["list=[1,2]", "source=null", "+x={a: 1}", "~list", "-m", "a=glob(*)", "a='q'", "k="]
)
def test_what_hydra_reads_is_left_alone(argument: str) -> None:
    assert overrides.quote_paths([argument]) == [argument]


CASES = {
    "key": (["train.sample=3"], ["train.sample=3", "epoch_samples, nonfinite_limit", "did you mean train.samples?"]),
    "deep key at the top": (["epoch_samples=3"], ["epoch_samples=3", "did you mean train.epoch_samples?"]),
    "parent": (["trian.samples=3"], ["trian.samples", "did you mean train?"]),
    "group": (["modle=small"], ["modle=small", "did you mean model?"]),
    "option": (["model=smal"], ["model=smal", "allowed: large, small", "did you mean small?"]),
    "key of the chosen option": (["model=large", "model.encoder.head=1"], ["depth, heads", "model.encoder.heads?"]),
    "no equals sign": (["samples"], ["'samples'", "key=value"]),
    "broken list": (["list=[1,2"], ["'list=[1,2'"]),
    "two values without -m": (["train.samples=1,2"], ["train.samples=1,2: several values need -m"]),
    "needed value": (["needed=???"], ["needed must be given"]),
    "dangling interpolation": (["source=${nothing}"], ["nothing"]),
}


@pytest.mark.parametrize("name", CASES)
def test_mistakes_are_one_line_and_exit_2(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    arguments, parts = CASES[name]
    assert run(*arguments, body=lambda config: pytest.fail("the body must not run")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith("seqtrack-train: ")
    for part in parts:
        assert part in error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("train.samples must be > 0,\n got -1"), "train.samples must be > 0, got -1"),
        (FileNotFoundError(2, "No such file", "x.ckpt"), "No such file: x.ckpt"),
        (FileNotFoundError("checkpoint=x: no such file"), "checkpoint=x: no such file"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device: make room or choose another"),
        (OSError(errno.ENOSPC, "could not write x: No space left on device"), "could not write x: No space left"),
    ],
)
def test_user_errors_of_the_body(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], error: Exception, text: str
) -> None:
    def body(config: DictConfig) -> None:
        raise error

    assert run(body=body) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"seqtrack-train: {text}")
    assert shown.count("\n") == 1


def test_a_folder_that_cannot_be_made(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run("hydra.run.dir=file/run", body=lambda config: pytest.fail("the body must not run")) == 2
    error = capsys.readouterr().err
    assert error.startswith("seqtrack-train: cannot make the folder for results: Not a directory: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ConnectionResetError("a bug")])
def test_bugs_keep_their_traceback(run: Callable[..., int], error: Exception) -> None:
    def body(config: DictConfig) -> None:
        raise error

    with pytest.raises(type(error), match="a bug"):
        run(body=body)


def test_full_errors_on_request(run: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    def body(config: DictConfig) -> None:
        raise ValueError("mine")

    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ValueError, match="mine"):
        run(body=body)


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("+foo=1", "unknown key foo=1; keys: "),
        ("++foo.deep=1", "unknown key foo.deep=1: there is no foo"),
        ("+train.sample=3", "unknown key train.sample=3; keys of train: compile, dense_weight, "),
        ("+modle=large", "did you mean model?"),
        ("+thing.free=1", None),  # its constructor judges
        ("+thing.inner.deep=1", None),
        ("+paths.own=1", None),
        ("++train.samples=3", None),
        ("+hydra.job.name=a", None),
    ],
)
def test_added_keys_are_read_by_somebody(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], argument: str, text: str | None
) -> None:
    assert run(argument) == (0 if text is None else 2)
    error = capsys.readouterr().err
    assert (text or "") in error
    assert error.count("\n") == (0 if text is None else 1)


def test_interrupt_exits_130(run: Callable[..., int]) -> None:
    def body(config: DictConfig) -> None:
        raise KeyboardInterrupt

    assert run(body=body) == 130


def test_a_job_of_a_sweep_leaves_no_memory_behind(run: Callable[..., int]) -> None:
    """Trainers and models are full of cycles, and the error of a failed job must not keep them either."""

    class Held:
        def __init__(self) -> None:
            self.cycle = self

    alive: list[weakref.ref[Held]] = []

    def body(config: DictConfig) -> None:
        assert [ref() for ref in alive] == [None] * len(alive)
        held = Held()
        alive.append(weakref.ref(held))
        if config.train.samples == 2:
            raise ValueError("two is wrong")

    gc.disable()  # as when a few large objects are held: none of them counts much
    try:
        assert run("-m", "train.samples=1,2,3", body=body) == 1
    finally:
        gc.enable()
    assert len(alive) == 3


def test_sweep_goes_on_after_a_failed_job_and_exits_1(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    seen: list[int] = []

    def body(config: DictConfig) -> None:
        seen.append(config.train.samples)
        if config.train.samples == 2:
            raise ValueError("two is wrong")
        if config.train.samples == 3:
            raise RuntimeError("a bug")

    assert run("-m", "train.samples=1,2,3", f"hydra.sweep.dir={tmp_path}/sweep", body=body) == 1
    assert seen == [1, 2, 3]
    error = capsys.readouterr().err
    logs = [tmp_path / f"sweep/{number}/train.log" for number in range(3)]
    assert f"job 1 (train.samples=2) failed: two is wrong; its log: {logs[1]}\n" in error
    assert f"job 2 (train.samples=3) failed: RuntimeError: a bug; its log: {logs[2]}\n" in error
    last = f"seqtrack-train: some jobs of the sweep failed, the first was job 1 in {logs[1].parent}"
    assert error.splitlines()[-1] == last
    told = [line for line in error.splitlines() if "train.samples" in line]
    assert [line.partition(" failed")[0] for line in told] == [
        f"seqtrack-train: job {job} (train.samples={job + 1})" if job == 1 else f"job {job} (train.samples={job + 1})"
        for job in (1, 2)
    ]  # each once
    assert "Error executing" not in error
    assert not logs[0].read_text()
    assert "Traceback" not in logs[1].read_text()
    assert "Traceback" in logs[2].read_text()


def test_a_single_failed_job_is_named_by_all_its_overrides(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def body(config: DictConfig) -> None:
        raise ValueError("wrong")

    assert run("-m", "train.samples=2", "name=y", f"hydra.sweep.dir={tmp_path}/sweep", body=body) == 1
    folder = tmp_path / "sweep/0"
    assert capsys.readouterr().err.splitlines() == [
        f"seqtrack-train: job 0 (train.samples=2, name=y) failed: wrong; its log: {folder}/train.log",
        f"seqtrack-train: some jobs of the sweep failed, the first was job 0 in {folder}",
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-m", "train.samples=1,2", "--cfg", "job"], "--cfg shows one configuration: leave out -m"),
        (["--multirun", "train.samples=1,2", "-c=job"], "--cfg shows one configuration: leave out -m"),
        (["-m", "train.samples=1,2", "--info", "config"], "Only one of --run, --multirun, --cfg, --info"),
        (["--resolve"], "The --resolve flag can only be used"),
    ],
)
def test_options_of_hydra_that_do_not_go_together(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert run(*arguments, body=runtime_body) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"seqtrack-train: {text}")
    assert error.count("\n") == 1


def test_a_launcher_that_is_not_installed() -> None:
    error = MissingConfigException("", missing_cfg_file="hydra/launcher/submitit_slurm", options=["basic"])
    text = overrides.explain(error, folder=Path("conf"), config_name="train", arguments=[])
    assert text == "hydra/launcher=submitit_slurm is not installed: pip install '.[sweep]'"


def test_sweep_over_odd_paths(run: Callable[..., int]) -> None:
    seen: list[str] = []
    assert run("-m", "source=vidéo.mp4,b.mp4,a(1).mp4", body=lambda config: seen.append(config.source)) == 0
    assert seen == ["vidéo.mp4", "b.mp4", "a(1).mp4"]


@pytest.mark.parametrize("arguments", [["model=several"], ["hydra.mode=MULTIRUN", "train.samples=1,2"]])
def test_an_option_of_any_group_makes_a_sweep(run: Callable[..., int], tmp_path: Path, arguments: list[str]) -> None:
    sweep = "hydra: {mode: MULTIRUN, sweeper: {params: {train.samples: '1,2'}}}"
    (tmp_path / "conf/model/several.yaml").write_text(f"# @package _global_\n{sweep}\n")
    seen: list[int] = []
    assert run(*arguments, "needed=1", body=lambda config: seen.append(config.train.samples)) == 0
    assert seen == [1, 2]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("local/default.yaml", "# @package _global_\nhydra: {mode: 2, sweeper: {params: {train.samples: '1,2'}}}"),
        ("debug/nested.yaml", "# @package _global_\ndefaults: [/experiment/several@_global_]"),
    ],
)
def test_a_file_that_leads_to_a_sweep_makes_one(run: Callable[..., int], tmp_path: Path, file: str, text: str) -> None:
    """Beside files of editors that are none, and of other encodings."""
    sweep = "hydra: {mode: MULTIRUN, sweeper: {params: {train.samples: '1,2'}}}"
    for name, content in (("experiment/several.yaml", f"# @package _global_\n{sweep}"), (file, text)):
        (tmp_path / "conf" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "conf" / name).write_text(content)
    (tmp_path / "conf/model/.#mine.yaml").symlink_to("nowhere")
    (tmp_path / "conf/model/latin.yaml").write_bytes(b"# \xf6")
    seen: list[int] = []
    arguments = ["+debug=nested"] if "debug" in file else []
    assert run(*arguments, "needed=1", body=lambda config: seen.append(config.train.samples)) == 0
    assert seen == [1, 2]


def test_sweep_without_failures_exits_0(run: Callable[..., int]) -> None:
    """-m may stand anywhere."""
    seen: list[str] = []
    assert run("train.samples=3", "-m", "model=small,large", body=lambda config: seen.append(config.model.width)) == 0
    assert seen == [1, 2]


def test_help_shows_the_docstring_and_the_groups(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help", body=runtime_body) == 0
    text = capsys.readouterr().out
    assert "exit codes" in text  # the docstring of this module, where the body lives
    assert "model        large *small" in text


def runtime_body(config: DictConfig) -> None:
    pytest.fail("the body must not run")


class Thing:
    """A constructor with a check of its own."""

    def __init__(self, width: int, inner: object = None) -> None:
        if not isinstance(width, int):
            raise ValueError(f"width must be a whole number, got {width!r}")


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"width": "a"}, "width must be a whole number, got 'a'"),
        ({"width": 1, "inner": {"_target_": f"{__name__}.Thing", "width": "b"}}, r"got 'b' \(in inner\)"),
        ({"width": 1, "wdth": 1}, "unknown key wdth; .*Thing takes: width, inner"),
        ({}, "missing 1 required positional argument: 'width'"),
    ],
)
def test_constructor_errors_are_shown_as_written(config: dict[str, Any], text: str, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Thing.__module__])
    with pytest.raises(ValueError, match=text):
        runtime.instantiate(OmegaConf.create({"_target_": f"{__name__}.Thing", **config}))


def test_existing_names_the_key(tmp_path: Path) -> None:
    assert runtime.existing(tmp_path, "out") == tmp_path
    with pytest.raises(FileNotFoundError, match=r"checkpoint=.*no such file"):
        runtime.existing(tmp_path / "a" / "b.ckpt", "checkpoint")
