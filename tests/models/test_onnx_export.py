"""Exported graphs in onnxruntime against torch, token for token, through the program of the documentation."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from tests.tracking.conftest import blob_video

from seqtrack_lit.models.onnx_export import export_onnx
from seqtrack_lit.models.timm_encoder import TimmEncoder
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker, load_seqtrack

REPO = Path(__file__).parents[2]
GOLDEN = REPO / "tests" / "golden" / "model"
PROGRAM = REPO / "docs" / "track_onnx.py"
TINY_VIT = {"name": "vit_tiny_patch16_224", "search_size": 32, "template_size": 16, "options": {"depth": 2}}


@pytest.fixture(scope="module")
def onnx_tracker() -> type:
    return runpy.run_path(str(PROGRAM))["OnnxTracker"]


def compare(tracker: SeqTrackTracker, folder: Path, onnx_tracker: type, frames: list, box: np.ndarray) -> int:
    """Every token, box and likelihood of a video; gives the number of templates taken."""
    export_onnx(tracker.model, folder, tracker.settings)
    theirs = onnx_tracker(str(folder), threads=1)
    told: list[list[np.ndarray]] = []
    run = theirs.search.run
    theirs.search = type("Search", (), {"run": lambda _, *given: told.append(run(*given)) or told[-1]})()
    tracker.init(frames[0], box)
    theirs.init(frames[0], box.tolist())
    updates = 0
    for image in frames[1:]:
        _, prediction = tracker.predict(image)
        estimate = tracker.update(image)
        place, confidence = theirs.update(image)
        np.testing.assert_array_equal(told[-1][1], prediction.tokens)
        np.testing.assert_allclose(told[-1][2], prediction.likelihoods, atol=1e-5)
        np.testing.assert_allclose(place, estimate.box_xywh, rtol=0, atol=1e-3 if tracker.expectation else 1e-9)
        assert confidence == pytest.approx(estimate.confidence, abs=1e-5)
        updates += estimate.updated
    return updates


@pytest.mark.slow
@pytest.mark.parametrize("case", ["s1", "s2"])  # two templates, window and updates; one template, no window
def test_official_checkpoints(case: str, tmp_path: Path, onnx_tracker: type) -> None:
    checkpoint, config = GOLDEN / case / "SEQTRACK_ep0007.pth.tar", GOLDEN / case / "cfg.yaml"
    tracker = load_seqtrack(checkpoint, official_config=config, device="cpu")
    with np.load(GOLDEN / case / "golden.npz") as golden:
        frames, box, recorded = golden["frames"], golden["init_box"].astype(float), golden["boxes"]
        wanted = int(golden["updated"].sum())
    assert compare(tracker, tmp_path, onnx_tracker, list(frames), box) == wanted
    theirs = onnx_tracker(str(tmp_path), threads=1)
    theirs.init(frames[0], box.tolist())
    np.testing.assert_allclose([theirs.update(image)[0] for image in frames[1:]], recorded, atol=1e-3)


MODELS = {
    "past boxes": {"decoder": {"past": 3}, "order": "whcxcy"},
    "apart": {"encoder": {"joint": False}, "memory": "both", "order": "xyxy"},
    "mean": {"memory": "mean", "decoder": {"pre_norm": True}, "encoder": {"templates": 1}},
    "bidirectional": {"decoder": {"bidirectional": True}},
}


@pytest.mark.slow
@pytest.mark.parametrize("options", MODELS.values(), ids=list(MODELS))
def test_every_kind_of_model(options: dict, build, tmp_path: Path, onnx_tracker: type) -> None:
    tracker = SeqTrackTracker(build(**options), update="naive", update_interval=2, search_factor=2.5)
    video = blob_video("blob", 7)
    updates = compare(tracker, tmp_path, onnx_tracker, video.frames, video.boxes[0])
    net = tracker.model
    assert updates == (3 if net.templates > 1 else 0)
    session = onnxruntime.InferenceSession(str(tmp_path / "search.onnx"))
    facts = json.loads(session.get_modelmeta().custom_metadata_map["seqtrack"])
    assert facts["tracker"] == tracker.settings
    assert (facts["templates"], facts["past"], facts["bins"]) == (net.templates, net.past, 20)
    past = {"past": [1, net.past, 4]} if net.past else {}
    wanted = {"crop": [1, 32, 32, 3], "templates": [1, 4 * net.templates, 24], **past}
    assert {one.name: one.shape for one in session.get_inputs()} == wanted


@pytest.mark.slow
def test_the_shipped_tracker_token_for_token(tmp_path: Path, onnx_tracker: type) -> None:
    video = blob_video("blob", 12, size=(192, 144))
    compare(load_seqtrack(device="cpu"), tmp_path, onnx_tracker, video.frames, video.boxes[0])


@pytest.mark.slow
def test_an_encoder_of_timm(build, tmp_path: Path, onnx_tracker: type) -> None:
    net = build()
    encoder = TimmEncoder(**TINY_VIT)
    net.encoder, net.apply_linear = encoder, True
    net.linear = torch.nn.Linear(encoder.width, net.decoder.width)
    net.memory_position = torch.nn.Parameter(torch.randn(1, encoder.search_tokens, net.decoder.width))
    video = blob_video("blob", 5)
    compare(SeqTrackTracker(net.eval()), tmp_path, onnx_tracker, video.frames, video.boxes[0])


@pytest.mark.slow
def test_the_small_tracker_without_torch(tmp_path: Path) -> None:
    """The command, then the program in an interpreter that cannot import torch, on a video file."""
    from seqtrack_lit.tracking.video_io import VideoWriter

    video = blob_video("blob", 12, size=(192, 144))
    with VideoWriter(tmp_path / "clip.mkv", rate=10) as writer:
        for image in video.frames:
            writer.write(image)
    command = [sys.executable, "-m", "seqtrack_lit.cli.export", "checkpoint=small", "to=onnx", "out=graphs"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("graphs: 80")
    assert done.stdout.count("\n") == 1  # nothing of the exporter's own
    program = f"import sys, runpy; sys.modules['torch'] = None; sys.argv[0] = {str(PROGRAM)!r}; "
    program += "runpy.run_path(sys.argv[0], run_name='__main__')"
    box = ",".join(map(str, video.boxes[0]))
    command = [sys.executable, "-c", program, "graphs", "clip.mkv", box]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    rows = np.array([[float(v) for v in line.split(",")] for line in done.stdout.splitlines()])
    assert rows.shape == (12, 6)
    import cv2

    reader, tracker = cv2.VideoCapture(str(tmp_path / "clip.mkv")), load_seqtrack(device="cpu")
    for number, row in enumerate(rows):
        image = reader.read()[1][..., ::-1].copy()
        if number == 0:
            tracker.init(image, video.boxes[0])
        else:
            np.testing.assert_allclose(row[1:5], tracker.update(image).box_xywh, atol=6e-4)
