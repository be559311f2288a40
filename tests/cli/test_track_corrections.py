"""seqtrack-track on parts of sources, with corrections, and what it writes for other programs."""

import csv
import http.server
import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from tests.data.clips import COUNT, encode, pictures

from seqtrack_lit.cli import track
from seqtrack_lit.data.sets.exchange import Clip, read_boxes_of_targets
from seqtrack_lit.data.video.file import VideoFrames

COMMAND = track
STATIC = ["baseline=static", "out=out"]


def rows_of(path: Path) -> list[list[float]]:
    with path.open(newline="") as file:
        return [[float(value) for value in row] for row in list(csv.reader(file))[1:]]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """40 frames of 64 x 48."""
    return encode(tmp_path / "a.mp4")


def test_a_part_keeps_the_numbers_of_the_source(clip: Path, tmp_path: Path, run) -> None:
    assert run("source=a.mp4", "box=[5,5,20,20]", *STATIC, "start=10", "end=21", "stride=3", "preview=true") == 0
    rows = rows_of(tmp_path / "out" / "a_tracked.csv")
    assert [row[0] for row in rows] == [10, 13, 16, 19]
    facts = json.loads((tmp_path / "out" / "a_tracked.json").read_text())
    assert (facts["start"], facts["stride"], facts["frames"], facts["rate"]) == (10, 3, 4, pytest.approx(25 / 3))
    assert facts["frame_ms"].keys() == {"p50", "p99"}
    drawn, source = VideoFrames(tmp_path / "out" / "a_tracked.mp4"), VideoFrames(clip)
    assert len(drawn) == 4
    for place, number in enumerate((10, 13, 16, 19)):
        difference = np.abs(drawn[place][30:].astype(int) - source[number][30:].astype(int)).mean()
        assert difference < np.abs(drawn[place][30:].astype(int) - source[number + 1][30:].astype(int)).mean()
    with Picture.open(tmp_path / "out" / "a_tracked.webp") as preview:
        preview.seek(1)
        preview.load()
        assert (preview.n_frames, preview.size, preview.info["duration"]) == (4, (64, 48), 120)


@pytest.mark.parametrize("name", ["a.ts", "shots"])
def test_parts_of_other_sources(name: str, tmp_path: Path, run) -> None:
    if name == "shots":
        (tmp_path / name).mkdir()
        for number, picture in enumerate(pictures(12)):
            Picture.fromarray(picture).save(tmp_path / name / f"{number}.png")
    else:
        encode(tmp_path / name)
    assert run(f"source={name}", "box=[5,5,20,20]", *STATIC, "start=4", "stride=2", "frames=3", "video=false") == 0
    assert [row[0] for row in rows_of(tmp_path / "out" / f"{Path(name).stem}_tracked.csv")] == [4, 6, 8]


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])  # of the second one the number of frames is not known at first
def test_corrections_are_tracked_from_both_sides(name: str, tmp_path: Path, run) -> None:
    encode(tmp_path / name)
    (tmp_path / "by hand.csv").write_text("frame,target,x,y,w,h\n20,0,9,5,20,20\n8,1,30,20,10,10\n")
    given = ["corrections=by hand.csv", "box=[5,5,20,20]", "labels=[dog,ball]", "export=[mot,coco,cvat,yolo]"]
    assert run(f"source={name}", *STATIC, *given) == 0
    rows = np.array(rows_of(tmp_path / "out" / "a_tracked.csv"))
    assert rows[:, 0].tolist() == [number for number in range(COUNT) for _ in range(2)]
    dog, ball = rows[rows[:, 1] == 0], rows[rows[:, 1] == 1]
    np.testing.assert_array_equal(ball[:, 2:6], [[30, 20, 10, 10]] * COUNT)
    # the static box stays where it is put, 4 pixels off at the other correction: both ways are weighted by distance
    np.testing.assert_allclose(dog[:21, 2], np.linspace(5, 9, 21), atol=1e-4)
    np.testing.assert_array_equal(dog[20:, 2:6], [[9, 5, 20, 20]] * (COUNT - 20))
    assert len(VideoFrames(tmp_path / "out" / "a_tracked.mp4")) == COUNT
    facts = json.loads((tmp_path / "out" / "a_tracked.json").read_text())
    assert facts["corrections"] == [[0, 20], [8]]
    assert [one["label"] for one in facts["targets"]] == ["dog", "ball"]
    for ending in ("_mot.txt", "_coco.json", "_cvat.xml", "_yolo"):
        found = read_boxes_of_targets(tmp_path / "out" / f"a_tracked{ending}", Clip("a", 64, 48, range(COUNT)))
        np.testing.assert_allclose(found[0].boxes, dog[:, 2:6], atol=2e-4)
    # what was written, read as corrections: nothing is left to be tracked, and the same comes out
    assert run(f"source={name}", *STATIC, "corrections=out/a_tracked_cvat.xml", "video=false") == 0
    np.testing.assert_allclose(rows_of(tmp_path / "out" / "a_tracked.csv"), rows, atol=2e-4)


def test_a_correction_of_the_second_target_alone(clip: Path, tmp_path: Path, run, capsys) -> None:
    (tmp_path / "c.csv").write_text("20,1,15,5,20,20\n")
    assert run("source=a.mp4", "boxes=[[5,5,20,20],[30,5,20,20]]", *STATIC, "corrections=c.csv") == 0
    rows = rows_of(tmp_path / "out" / "a_tracked.csv")
    assert [row[2:6] for row in rows if row[0] == 20] == [[5, 5, 20, 20], [15, 5, 20, 20]]
    for text in ("20,2,15,5,20,20\n20,5,15,5,20,20\n", "20,-1,15,5,20,20\n", "20,99999,15,5,20,20\n"):
        (tmp_path / "c.csv").write_text(text)
        assert run("source=a.mp4", "boxes=[[5,5,20,20],[30,5,20,20]]", *STATIC, "corrections=c.csv") == 2
        assert "expected 0, 1, 2 ... without gaps" in capsys.readouterr().err


def test_a_stop_on_the_way_back_keeps_what_was_found(
    clip: Path, tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("seqtrack_lit.tracking.corrected.track_backwards", stopped)
    (tmp_path / "c.csv").write_text("20,0,15,5,20,20\n")
    assert run("source=a.mp4", "box=[5,5,20,20]", *STATIC, "corrections=c.csv") == 130
    assert "Stopped after 40 frames" in capsys.readouterr().out
    assert len(rows_of(tmp_path / "out" / "a_tracked.csv")) == COUNT
    assert not json.loads((tmp_path / "out" / "a_tracked.json").read_text())["finished"]


def test_lost_until_clearly_found(tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    """Below 0.5 it is lost, and found again from 0.6 on."""
    from seqtrack_lit.tracking.baselines import StaticBox
    from seqtrack_lit.tracking.tracker import Estimate

    coming = iter([0.55, 0.4, 0.55, 0.59, 0.61, 0.52])
    answer = lambda *_: Estimate(np.array([5.0, 5, 20, 20]), next(coming))  # noqa: E731
    monkeypatch.setattr(StaticBox, "update", answer)
    given = ["box=[5,5,20,20]", "lost_below=0.5", "frames=7", "export=[mot]"]
    assert run("source=a.mp4", *STATIC, *given) == 0
    assert [row[7] for row in rows_of(tmp_path / "out" / "a_tracked.csv")] == [0, 0, 1, 1, 1, 0, 0]
    facts = json.loads((tmp_path / "out" / "a_tracked.json").read_text())
    assert facts["targets"][0]["lost"] == [2, 3, 4]
    shown = (tmp_path / "out" / "a_tracked_mot.txt").read_text().splitlines()
    assert [line.split(",")[0] for line in shown] == ["1", "2", "6", "7"]


def test_a_live_stream(tmp_path: Path, run, capsys: pytest.CaptureFixture[str]) -> None:
    """MPEG-TS over HTTP that comes piece by piece and has no length, as cameras send it."""
    data = encode(tmp_path / "a.ts").read_bytes()

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            for place in range(0, len(data), 4096):
                self.wfile.write(data[place : place + 4096])
                time.sleep(0.001)

        def log_message(self, *words: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/live"
        given = ["box=[5,5,20,20]", "start=5", "stride=2", "preview=true"]
        assert run(f"source={address}", *STATIC, *given) == 0
        (tmp_path / "c.csv").write_text("20,0,15,5,20,20\n")
        assert run(f"source={address}", *STATIC, "corrections=c.csv") == 2
        server.shutdown()
    assert "Note: the stream ended after 40 frames; its server announced no end" in capsys.readouterr().out
    (table,) = (tmp_path / "out").glob("*.csv")
    assert [row[0] for row in rows_of(table)] == list(range(5, COUNT, 2))


MISTAKES = {
    "behind the end": (["start=99"], "start=99: a has 40 frames, the last is 39"),
    "end before start": (["start=9", "end=9"], "end=9 is the frame before which to stop; it must lie behind start=9"),
    "stride": (["stride=0"], "stride must be a whole number >= 1"),
    "start": (["start=-1"], "start must be a whole number >= 0"),
    "export": (["export=[voc]"], "export=voc: allowed are mot, coco, cvat, yolo, as export=[mot,cvat]"),
    "export as text": (["export=mot"], "export=mot: allowed are mot"),
    "labels": (["labels=[a,b]"], "2 names for 1 targets"),
    "no corrections": (["corrections=gone.csv"], "corrections=gone.csv: no such file"),
    "a correction beyond": (["corrections=c.csv"], "c.csv, line 1: frame 40, of frames 0 to 39 that are tracked"),
    "a correction between": (
        ["corrections=d.csv", "stride=2"],
        "d.csv, line 2: frame 5, of frames 0 to 38 in steps of 2 that are tracked",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_named(
    arguments: list[str], message: str, clip: Path, tmp_path: Path, run, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.csv").write_text("40,0,5,5,20,20\n")
    (tmp_path / "d.csv").write_text("4,0,5,5,20,20\n5,0,5,5,20,20\n")
    assert run("source=a.mp4", "box=[5,5,20,20]", *STATIC, *arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not list((tmp_path / "out").glob("*.csv"))
