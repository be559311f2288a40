"""The wheel brings conf/ along: the commands work in an environment that never saw the checkout."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_commands_of_the_wheel_outside_the_checkout(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, REPO],
        check=True,
    )
    (wheel,) = tmp_path.glob("seqtrack_lit-*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", wheel], check=True)
    (packages,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    # third-party packages of this environment, behind the wheel's own
    (packages / "third_party.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(*command: str) -> str:
        return subprocess.run(
            [tmp_path / "env" / "bin" / command[0], *command[1:]],
            cwd=tmp_path, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip

    where = run("python", "-c", "import seqtrack_lit; print(seqtrack_lit.__file__)")
    assert Path(where.strip()).is_relative_to(tmp_path)
    assert "_target_: seqtrack_lit.models.seqtrack.SeqTrack" in run("seqtrack-train", "--cfg", "job")
    for name in ("train", "evaluate", "track", "report", "profile", "data", "dashboard", "export"):
        assert f"seqtrack-{name}" in run(f"seqtrack-{name}", "--help")
