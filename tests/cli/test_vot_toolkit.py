"""The real VOT toolkit with our TraX program and with our trajectories: it ends well, and its numbers are ours.

It lives in an environment of its own (.votenv), which `make test-slow` installs; see the Makefile.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.campaign.weights import ours
from tests.data.vot import make_vot

from seqtrack_lit.data.sets.vot import annotation, vot2020
from seqtrack_lit.evaluation.servers import check_pack
from seqtrack_lit.evaluation.vot_scores import ANALYSIS, score_experiment

ROOT = Path(__file__).parents[2]
ENVIRONMENT = Path(os.environ.get("SEQTRACK_VOTENV", ROOT / ".votenv"))
TOOLKIT, TRAX = ENVIRONMENT / "bin" / "vot", ENVIRONMENT / "tracker"
EAO = "eao_lengths=[3,9]"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.vot,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        not (TOOLKIT.is_file() and TRAX.is_dir()),
        reason=f"no VOT toolkit in {ENVIRONMENT}: `make test-slow` installs it",
    ),
]


def call(place: Path, *command: str) -> str:
    path = os.pathsep.join([str(ROOT / "src"), str(TRAX)])
    done = subprocess.run(
        command, cwd=place, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=900
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    return text


def digits(folder: Path, sequences: Path, kind: str) -> dict[str, Any]:
    """Our numbers of an experiment with all digits, of trajectories that anybody wrote."""
    index = vot2020(sequences, complete=False)
    score_experiment(folder / kind, kind, (annotation(index.root, name) for name in index.names), low=3, high=9)
    return json.loads((folder / kind / ANALYSIS).read_text())


@pytest.mark.parametrize(("report", "sequences"), [("box", 2), ("mask", 1)])
def test_evaluate_analysis_and_pack(report: str, sequences: int, tmp_path: Path) -> None:
    """Two sequences have masks, rectangles and polygons, of which TraX makes masks in its own way; one has masks."""
    make_vot(tmp_path / "data" / "vot2020", sequences=sequences, frames=12, every=6)
    ours(tmp_path)
    python = (sys.executable, "-m")
    common = ("checkpoint=best.ckpt", "paths.data=data", "device=cpu")
    call(tmp_path, *python, "seqtrack_lit.cli.vot", "init=ws", f"report={report}", EAO, *common)
    command = ("seqtrack_lit.cli.evaluate", "benchmark=vot2020", "complete=false", f"vot.{EAO}", "batch=1", *common)
    call(tmp_path, *python, *command)
    workspace, kinds = tmp_path / "ws", ("baseline", "realtime", "unsupervised")
    shutil.copytree(tmp_path / "runs/results/mine/vot2020", workspace / "results/Ours")
    registry = workspace / "trackers.ini"
    registry.write_text(registry.read_text() + registry.read_text().replace("SeqTrack", "Ours"))

    assert "concluded" in call(workspace, str(TOOLKIT), "evaluate", "--workspace", ".", "SeqTrack")
    said = call(workspace, str(TOOLKIT), "analysis", "--workspace", ".", "SeqTrack", "Ours", "--name", "out")
    assert "Analysis successful" in said
    results = json.loads((workspace / "analysis" / "out.json").read_text())["results"]
    found: dict[str, Any] = {}
    for place, tracker in enumerate(("SeqTrack", "Ours")):
        for kind in kinds:
            mine = digits(workspace / "results" / tracker, tmp_path / "data" / "vot2020", kind)
            theirs = [table[place] for table in results[kind]["results"]]
            found[tracker, kind] = theirs[0][0]
            if kind == "unsupervised":
                assert theirs[0][0] == pytest.approx(mine["values"]["A"], abs=1e-12, rel=0)
                continue
            assert theirs[0][0] == pytest.approx(mine["values"]["EAO"], abs=1e-12, rel=0)
            assert theirs[1][0] == pytest.approx(mine["curve"], abs=1e-12, rel=0)
            assert theirs[2][:2] == pytest.approx([mine["values"]["A"], mine["values"]["R"]], abs=1e-12, rel=0)
    for kind in ("baseline", "unsupervised"):  # realtime depends on the machine there
        assert found["SeqTrack", kind] == pytest.approx(found["Ours", kind], abs=1e-12, rel=0)

    call(workspace, str(TOOLKIT), "pack", "--workspace", ".", "SeqTrack")
    (pack,) = workspace.glob("SeqTrack_*.zip")
    assert zipfile.is_zipfile(pack)
    index = vot2020(tmp_path / "data" / "vot2020", complete=False)
    assert check_pack(pack.read_bytes(), [annotation(index.root, name) for name in index.names]) == []
