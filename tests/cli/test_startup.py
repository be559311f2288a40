"""Commands in processes of their own: what is imported, signals and broken pipes before the body; folders of jobs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seqtrack_lit.cli.hydra import overrides, runtime

FOLDERS = {
    "plain": (["seed=1", "ablation=xyxy"], "ablation-xyxy__seed-1"),
    "a group in a group": (["model/encoder=mae_b16"], "model.encoder-mae_b16"),
    "a path": (["init_from=runs/a b/best.ckpt"], "init_from-runs_a_b_best.ckpt-7ac39045"),
    "a path that ends up alike": (["init_from=runs_a b/best.ckpt"], None),
    "a long text": (["name=" + "x" * 300], None),
    "quotes": (["name='1'"], "name-1"),
    "nothing of its own": (["data=paper"], "job"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_of_jobs_are_one_name(name: str) -> None:
    items, expected = FOLDERS[name]
    found = overrides.job_folder([*items, "overwrite=true"], ["data", "overwrite"])
    assert expected is None or found == expected
    assert "/" not in found
    assert len(found) <= 150
    assert found != overrides.job_folder(["init_from=runs/a b/best.ckpt"]) or name == "a path"


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    """As in `--help | head -1`: no traceback, nothing at the end of Python either."""
    code = "from seqtrack_lit.cli.train import main\nmain()"
    command = [sys.executable, "-c", code, "--help"]
    reader, writer = os.pipe()
    os.close(reader)  # before anything starts, which could inherit it and be a reader
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 141


def test_a_console_that_knows_few_letters(tmp_path: Path) -> None:
    code = "from seqtrack_lit.cli.train import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", code, "resume=vidéo"], capture_output=True, cwd=tmp_path, check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(b"seqtrack-train: resume=vid\\xe9o: no such file or folder")


WITHOUT = """
import signal, sys
def without():
    sys.modules.update(dict.fromkeys(("fcntl", "grp", "pwd", "resource", "termios")))
    for name in ("SIGUSR1", "SIGUSR2", "SIGKILL", "SIGHUP"):
        if hasattr(signal, name):
            delattr(signal, name)
"""
COMMANDS = """
without()
from seqtrack_lit.cli import dashboard, data, evaluate, profile, report, track, train
from seqtrack_lit.cli.launch import launcher, processes, sweep
assert "torch" not in sys.modules
"""
MODULES = """
import av, cv2, lightning.pytorch, matplotlib.pyplot, timm, torch, torchmetrics, torchvision, wandb
import albumentations
without()
import importlib, pkgutil
import seqtrack_lit
for module in pkgutil.walk_packages(seqtrack_lit.__path__, "seqtrack_lit."):
    importlib.import_module(module.name)
"""


@pytest.mark.parametrize(
    "script", [COMMANDS, pytest.param(MODULES, marks=pytest.mark.slow)], ids=["commands", "modules"]
)
def test_everything_is_imported_without_what_windows_has_not(script: str, tmp_path: Path) -> None:
    """What a command imports before its configuration is read; all modules, behind those of libraries."""
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT + script]
    done = subprocess.run(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code", "text"), [(15, 143, runtime.ENDED), (2, 130, "interrupted")])
def test_a_signal_while_a_library_starts_is_one_line(number: int, code: int, text: str, tmp_path: Path) -> None:
    """An exception there would abort torch, or be lost in it."""
    (tmp_path / "library.py").write_text(
        "import time\nprint('importing', flush=True)\ntry:\n    time.sleep(60)\nexcept BaseException:\n    pass\n"
    )
    script = (
        "from seqtrack_lit.cli.hydra import runtime\n"
        "runtime.run('data', lambda config: __import__('library'), root='datasets')"
    )
    command = [sys.executable, "-c", script]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    assert process.communicate(timeout=60)[1] == f"seqtrack-data: {text}\n"
    assert process.returncode == code


def test_a_tracker_is_loaded_without_torch_s_compiler(tmp_path: Path) -> None:
    """It and sympy take 150 MB and a second and a half of the start of seqtrack-track."""
    code = (
        "import sys\nfrom seqtrack_lit import load_tracker\nload_tracker(device='cpu')\n"
        "print([name for name in ('sympy', 'torch._dynamo', 'lightning', 'timm', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout == "[]\n"


LIGHT = [
    "train.smaples=1", "model=nothing", "resume=/no/such/run", "train.tf32=yes", "train.precision=fp8",
    "eval_checkpoint=newest", "seed=x", "--help",
]  # fmt: skip


def test_user_mistakes_never_import_torch(tmp_path: Path) -> None:
    """In a process of their own: a mistake must not cost the import of torch."""
    code = (
        "import sys\nfrom seqtrack_lit.cli.train import main\n"
        "for argument in sys.argv[1:]:\n    sys.argv = ['seqtrack-train', argument]\n"
        "    code = 0\n    try:\n        main()\n    except SystemExit as stop:\n        code = stop.code\n"
        "    print('found', argument, code, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *LIGHT], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    found = [line for line in done.stdout.splitlines() if line.startswith("found")]
    assert found == [f"found {item} {0 if item == '--help' else 2} False" for item in LIGHT], done.stderr
