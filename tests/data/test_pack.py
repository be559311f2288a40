"""Packs: pieces hold every crop that can be drawn; samples out of them; packing goes on; what is wrong is named."""

import math
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import fsspec
import numpy as np
import pytest
import torch
from tests.data.fixtures import Made, write_image

from seqtrack_lit.crops import ImagePart
from seqtrack_lit.data.datamodule import part_by_name
from seqtrack_lit.data.samples.augment import (
    Augmentation,
    CropSettings,
    Jitter,
    JitterSchedule,
    SharedAugmentation,
    brightness,
)
from seqtrack_lit.data.samples.packed import geometry, packed, reader_of
from seqtrack_lit.data.samples.sampling import FrameSampling, TrainingSamples, Videos
from seqtrack_lit.data.sets import training as readers
from seqtrack_lit.data.tools import pack as tool
from seqtrack_lit.data.tools.pack import Packing, Piece, pack, pieces_of
from seqtrack_lit.data.video.packed import PackedVideos, choose, open_pack

CROPS = CropSettings(search_size=32, template_size=24)
JITTER = JitterSchedule()
FRAMES = [(64, 48), (640, 480), (1280, 720), (4000, 3000), (48, 2000)]


def pack_of(opener: Callable[..., Any], folder: Path, **options: Any) -> PackedVideos:
    packing = Packing(options.pop("crops", CROPS), options.pop("jitter", JITTER), options.pop("quality", 90))
    pack(opener(), folder, packing, reader=reader_of(opener), **{"workers": 0, **options})
    return open_pack(folder)


def samples(videos: Videos, crops: CropSettings = CROPS, **options: Any) -> TrainingSamples:
    augmentation = Augmentation(grayscale=0.3, crop_flip=0.5, photometric=brightness())
    values: dict[str, Any] = {"augmentation": augmentation, "jitter": JITTER, "seed": 0, "crops": crops, **options}
    return FrameSampling(2).samples({"one": videos}, [1.0], epoch_samples=50, total_samples=50, **values)


def boxes(rng: np.random.Generator, width: int, height: int, count: int) -> np.ndarray:
    """Of all sizes, some of them partly outside."""
    size = np.exp(rng.uniform(math.log(3), math.log(max(width, height)), (count, 2)))
    center = rng.uniform(0, 1, (count, 2)) * [width, height]
    return np.concatenate([center - size / 2, size], 1)


@pytest.mark.parametrize("jitter", [Jitter(3.5, 0.5), Jitter(1.0, 0.0), Jitter(0.0, 1.0)])
@pytest.mark.parametrize("frame", FRAMES)
def test_every_crop_is_there_and_sharp(frame: tuple[int, int], jitter: Jitter) -> None:
    rng, crops = np.random.default_rng(0), CropSettings()
    width, height = frame
    for box in boxes(rng, width, height, 20):
        pieces = pieces_of(box, width, height, crops, jitter)
        regions, sizes = [list(piece.region) for piece in pieces], [list(piece.size) for piece in pieces]
        for piece in pieces:
            x, y, w, h = piece.region
            inside = x >= 0 and y >= 0 and x + w <= width and y + h <= height
            assert inside or piece == Piece(crops.template(box).window_xywh, (256, 256))
        for number in range(15):
            around = jitter.apply(box, rng) if number else box
            if around[2:].prod() > 7000**2:  # no crop is so large
                continue
            crop = crops.search(around) if number else crops.template(box)
            chosen = choose(crop, frame, regions, sizes)
            assert chosen is not None
            (rx, ry, rw, rh), (w, h) = regions[chosen], sizes[chosen]
            for flip, offset in ((False, 0.0), (True, 0.0), (True, 1.0)):
                mirrored = SharedAugmentation(False, flip).boxes(around[None], width, offset)[0]
                x, y, side, _ = (crops.search if number else crops.template)(mirrored).window_xywh
                x = width - x - side if flip else x
                seen = (max(x, 0), max(y, 0), min(x + side, width), min(y + side, height))
                there = rx <= seen[0] and ry <= seen[1] and rx + rw >= seen[2] and ry + rh >= seen[3]
                nothing = seen[0] >= seen[2] or seen[1] >= seen[3]
                template = (rx, ry, rw, rh) == crop.window_xywh and abs(x - rx) <= 2  # moved where it is mirrored
                assert there or nothing or template
            ratio = math.sqrt(around[2:].prod() / box[2:].prod())
            rare = math.log(ratio) < -3 * jitter.size / math.sqrt(2)  # .13 %
            sharp = min((w + 1) / rw, (h + 1) / rh) >= 0.99 * min(1.0, crop.size / crop.side)
            assert sharp or rare


def test_pieces_are_fewer_where_one_serves_for_another() -> None:
    small = pieces_of(np.array([300.0, 200, 20, 20]), 640, 480, CropSettings(), Jitter(3.5, 0.5))
    assert [piece.size[0] < 640 for piece in small] == [True] * (len(small) - 1) + [False]
    assert len(small) <= 3
    assert small[-1] == Piece((0, 0, 640, 480), (640, 480))
    large = pieces_of(np.array([400.0, 200, 150, 150]), 1280, 720, CropSettings(), Jitter(3.5, 0.5))
    assert large[0] == Piece((175, -25, 600, 600), (256, 256))  # the template
    assert sum(piece.size[0] * piece.size[1] for piece in large) < 1.3 * 1280 * 720


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_crop_of_a_piece_is_that_of_the_frame(mirrored: bool) -> None:
    """To the bit where pixels are as they were, nearly where they are fewer."""
    rng, crops, jitter = np.random.default_rng(0), CropSettings(64, 64), Jitter(3.5, 0.5)
    y, x = np.mgrid[:240, :320]
    image = np.stack([x * 0.7, y, 128 + 60 * np.sin(x / 40)], 2).astype(np.uint8)
    equal = reduced = 0
    for box in boxes(rng, 320, 240, 60):
        pieces = pieces_of(box, 320, 240, crops, jitter)
        regions, sizes = [list(piece.region) for piece in pieces], [list(piece.size) for piece in pieces]
        for region in (crops.search(jitter.apply(box, rng)), crops.template(box)):
            a, b, side, _ = region.window_xywh
            if a + side < 2 or b + side < 2 or a > 318 or b > 238:
                continue
            piece = pieces[choose(region, (320, 240), regions, sizes) or 0]
            left, top, w, h = piece.region
            kept = crops.template(box)
            template = piece.region == kept.window_xywh and piece.size == (64, 64)
            part = kept.cut(image) if template else image[top : top + h, left : left + w]
            if part.shape[1::-1] != piece.size:
                part = cv2.resize(part, piece.size, interpolation=cv2.INTER_AREA)
            center = (320 - region.center[0], region.center[1]) if mirrored else region.center
            cut = replace(region, center=center).cut
            found = cut(ImagePart(part, piece.region, (240, 320, 3)), mirrored=mirrored)
            wanted = cut(image, mirrored=mirrored)
            if piece.size == (w, h) and not template:
                assert np.array_equal(found, wanted)
                equal += 1
            else:
                inner = (found > 0).all(2) & (wanted > 0).all(2)
                assert np.median(np.abs(found.astype(int) - wanted)[inner] if inner.any() else 0) <= 2
                reduced += 1
    assert min(equal, reduced) > 20


SETS = {
    "coco": readers.coco,
    "folder": readers.folder,
    "got10k": readers.got10k,
    "lasot": partial(readers.lasot, complete=False),
    "trackingnet": partial(readers.trackingnet, parts=[0, 3]),
}


@pytest.mark.parametrize("decode", ["exact", "fast"])
@pytest.mark.parametrize("name", SETS)
def test_whole_frames_give_the_same_samples(
    name: str, decode: Any, make_dataset: Callable[..., Made], tmp_path: Path
) -> None:
    opener, crops = partial(SETS[name], make_dataset(name).root), replace(CROPS, decode=decode)
    videos = pack_of(opener, tmp_path / "pack", quality=None)
    mine, theirs = samples(videos, crops), samples(opener(), crops)
    assert videos.hash == opener().hash
    for index in range(20):
        (one, failed), (other, failed_too) = mine[0, index], theirs[0, index]
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
        assert len(failed) == len(failed_too)


@pytest.mark.parametrize("name", SETS)
def test_crops_give_nearly_the_same_samples(name: str, make_dataset: Callable[..., Made], tmp_path: Path) -> None:
    opener = partial(SETS[name], make_dataset(name).root)
    videos = pack_of(opener, tmp_path / "pack", quality=95)
    mine, theirs = samples(videos), samples(opener())
    assert videos.hash != opener().hash
    for index in range(20):
        one, other = mine[0, index][0], theirs[0, index][0]
        for field in ("box", "template_boxes", "past", "key", "dataset"):
            assert torch.equal(getattr(one, field), getattr(other, field))
        for field in ("search", "templates"):
            assert (getattr(one, field).float() - getattr(other, field)).abs().mean() < 6


def test_packing_goes_on(make_dataset: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "ROWS", 20)
    opener, folder = partial(readers.got10k, make_dataset("got10k").root), tmp_path / "pack"
    steps = list[tuple[int, int]]()
    expected = pack_of(opener, folder, workers=2, step=lambda *at: steps.append(at))
    rows = 3 * 24 - 3 * 2  # of three videos two frames are not visible
    assert steps == [*((done, rows) for done in range(0, rows, 20)), (rows, rows)]
    assert sorted(path.name for path in folder.glob("part-*")) == [f"part-{n:05d}.bin" for n in range(4)]
    made = (folder / "part-00001.bin").stat()

    stopped = tmp_path / "stopped"
    real = tool._finish
    monkeypatch.setattr(tool, "_finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        pack_of(opener, stopped)
    with pytest.raises(FileNotFoundError, match="it is not finished, go on with the same command"):
        open_pack(stopped)
    (stopped / "part-00002.bin.npz").unlink()  # as if it had been stopped in there
    kept = {n: (stopped / f"part-{n:05d}.bin").stat().st_mtime_ns for n in (0, 1, 3)}
    monkeypatch.setattr(tool, "_finish", real)
    again = pack_of(opener, stopped)
    assert kept == {n: (stopped / f"part-{n:05d}.bin").stat().st_mtime_ns for n in (0, 1, 3)}
    assert again.pieces is not None
    assert expected.pieces is not None
    assert again.pieces.facts == expected.pieces.facts
    pack_of(opener, folder)  # whole: nothing is done
    assert (folder / "part-00001.bin").stat() == made


def test_pictures_of_several_targets_are_kept_once(tmp_path: Path, make_dataset: Callable[..., Made]) -> None:
    videos = pack_of(partial(readers.coco, make_dataset("coco").root), tmp_path / "pack", quality=None)
    assert videos.pieces is not None
    columns = videos.pieces.columns
    assert len(set(columns["offset"].tolist())) == 5 < len(columns["offset"])  # images with targets


def test_another_pack_is_not_overwritten(make_dataset: Callable[..., Made], tmp_path: Path) -> None:
    opener = partial(readers.coco, make_dataset("coco").root)
    pack_of(opener, tmp_path / "pack")
    with pytest.raises(ValueError, match="holds a pack of other data or settings"):
        pack_of(opener, tmp_path / "pack", quality=50)
    with pytest.raises(ValueError, match="holds something else than a pack"):
        pack_of(opener, tmp_path)


def test_what_cannot_be_read_is_replaced_as_it_is_without_a_pack(tmp_path: Path) -> None:
    for t in range(12):
        write_image(tmp_path / "videos" / "a" / f"{t:04d}.png", np.full((48, 64, 3), 9 * t, np.uint8))
    (tmp_path / "videos" / "a" / "0003.png").write_bytes(b"no image")
    (tmp_path / "videos" / "a" / "groundtruth.txt").write_text("10,10,12,14\n" * 12)
    opener = partial(readers.folder, tmp_path / "videos")
    made = pack(opener(), tmp_path / "pack", Packing(CROPS, JITTER, None), reader=reader_of(opener), workers=0)
    assert (made.frames, made.unreadable) == (12, 1)
    sampling = {"frame_sampling": FrameSampling(2, min_length=2)}
    mix = [{"one": open_pack(tmp_path / "pack")}, {"one": opener()}]
    rest = {"seed": 0, "crops": CROPS, "augmentation": Augmentation(), "jitter": JITTER}
    mine, theirs = (TrainingSamples(one, [1.0], **sampling, **rest, epoch_samples=9, total_samples=9) for one in mix)
    failures = [(mine[0, index], theirs[0, index]) for index in range(9)]
    assert any(one[1] for one, _ in failures)
    assert all(torch.equal(one[0].search, other[0].search) and len(one[1]) == len(other[1]) for one, other in failures)
    assert "a, frame 3 is not in the pack" in next(one[1][0] for one, _ in failures if one[1])


def damaged(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 255
    path.write_bytes(bytes(data))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda pack: os.truncate(pack / "part-00000.bin", 100), "part-00000.bin has 100 bytes, expected "),
    "missing part": (lambda pack: (pack / "part-00000.bin").unlink(), "part-00000.bin is missing, expected "),
    "column": (lambda pack: damaged(pack / "offset.npy", -1), "offset.npy does not have its checksum"),
    "cut column": (lambda pack: os.truncate(pack / "region.npy", 200), "pack is damaged .*pack it again"),
    "facts": (lambda pack: damaged(pack / "pack.json", -30), r"pack\.json"),
    "no facts": (lambda pack: (pack / "pack.json").unlink(), "it is not finished, go on with the same command"),
    "index": (lambda pack: damaged(pack / "index" / "boxes.npy", -1), "boxes.npy does not have its checksum"),
    "nothing": (lambda pack: shutil.rmtree(pack), "no pack in .*pack it again"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_found_when_it_is_opened(kind: str, make_dataset: Callable[..., Made], tmp_path: Path) -> None:
    pack_of(partial(readers.coco, make_dataset("coco").root), tmp_path / "pack")
    damage, message = DAMAGES[kind]
    damage(tmp_path / "pack")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        open_pack(tmp_path / "pack")


def test_a_damaged_picture_is_found_when_it_is_read(make_dataset: Callable[..., Made], tmp_path: Path) -> None:
    videos = pack_of(partial(readers.coco, make_dataset("coco").root), tmp_path / "pack", quality=None)
    assert videos.pieces is not None
    damaged(tmp_path / "pack" / "part-00000.bin", int(videos.pieces.columns["offset"][0]) + 50)
    with pytest.raises(ValueError, match=r"part-00000.bin: bytes \d+ to \d+ are not as they were written; copy it"):
        videos.frames(0)[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crops": replace(CROPS, search_size=48)}, "search_size / search_factor up to 8, the training asks for 12"),
        ({"crops": replace(CROPS, search_factor=5.0)}, "search_factor up to 4, the training asks for 5"),
        ({"crops": replace(CROPS, template_size=32)}, "template_size / template_factor up to 6"),
        ({"jitter": JitterSchedule(size=0.6)}, r"jitter.size up to 0.5, the training asks for 0.6"),
        ({"jitter": JitterSchedule(3.0, end_center=4.0)}, r"jitter.center up to 3.5, the training asks for 4"),
        ({"opener": {"exclude_vot": False}}, "made with exclude_vot=True, the training asks for False: take the same"),
        ({"crops": replace(CROPS, search_size=16), "jitter": JitterSchedule(3.0, 0.4)}, ""),  # less is there, too
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else "",
)
def test_a_pack_fits_the_training_or_says_why_not(
    change: dict[str, Any], message: str, make_dataset: Callable[..., Made], tmp_path: Path
) -> None:
    opener = partial(readers.got10k, make_dataset("got10k").root, cache=tmp_path / "index")
    pack_of(opener, tmp_path / "packs" / "got10k")
    wanted = geometry(change.get("crops", CROPS), change.get("jitter", JITTER))
    asked = partial(opener, root="elsewhere", **change.get("opener", {}))
    opened = packed("got10k", asked, str(tmp_path / "packs"), wanted)
    if message:
        with pytest.raises(ValueError, match=re.escape(message) if "/" in message else message):
            opened()
    else:
        assert len(opened()) == 3


def test_a_part_of_a_set_is_a_part_of_its_pack(make_dataset: Callable[..., Made], tmp_path: Path) -> None:
    opener = partial(readers.folder, make_dataset("folder").root)
    pack_of(opener, tmp_path / "packs" / "folder")
    part = partial(part_by_name, open=opener, part="train", share=0.3)
    videos = packed("folder", part, str(tmp_path / "packs"), geometry(CROPS, JITTER))()
    assert isinstance(videos, PackedVideos)
    assert videos.names == part().names
    assert samples(videos)[0, 0][0].search.shape == (3, 32, 32)


def test_workers_read_a_pack_without_a_copy_of_it(make_dataset: Callable[..., Made], tmp_path: Path) -> None:
    import pickle

    videos = pack_of(partial(readers.folder, make_dataset("folder").root), tmp_path / "pack")
    part = videos.subset(np.array([2, 0]))
    data = pickle.dumps(part)
    assert len(data) < 1000
    sent = pickle.loads(data)
    assert (sent.names, sent.hash) == (part.names, part.hash)
    assert torch.equal(samples(sent)[0, 3][0].search, samples(part)[0, 3][0].search)


def test_a_pack_is_read_from_an_object_store(make_dataset: Callable[..., Made], tmp_path: Path) -> None:
    folder = pack_of(partial(readers.got10k, make_dataset("got10k").root), tmp_path / "pack")
    fsspec.filesystem("memory").put(str(tmp_path / "pack"), "/bucket/got10k", recursive=True)
    remote = open_pack("memory://bucket/got10k", cache=tmp_path / "index")
    assert remote.hash == folder.hash
    for index in range(5):
        assert torch.equal(samples(remote)[0, index][0].search, samples(folder)[0, index][0].search)
    fsspec.filesystem("memory").rm("/bucket/got10k/part-00000.bin")
    with pytest.raises(OSError, match="cannot read memory://bucket/got10k/part-00000"):
        remote.frames(0).part(0, CROPS.template(remote.boxes(0)[0]))  # type: ignore[attr-defined]
    with pytest.raises(FileNotFoundError, match="cannot read a pack from memory://bucket/lasot"):
        open_pack("memory://bucket/lasot", cache=tmp_path / "index")


def test_whole_frames_are_not_in_a_pack_of_crops(make_dataset: Callable[..., Made], tmp_path: Path) -> None:
    videos = pack_of(partial(readers.coco, make_dataset("coco").root), tmp_path / "pack")
    with pytest.raises(ValueError, match="whole frames are not kept in the pack"):
        videos.frames(0)[0]
