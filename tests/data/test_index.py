"""The columnar index: what goes in comes out; one file, mapped, shared, rebuilt when its inputs change."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.fixtures import Made, boxes_for

from seqtrack_lit.data import build, readers
from seqtrack_lit.data.build import IndexBuilder, cached
from seqtrack_lit.data.columns import MAGIC, open_columns, read_facts, write_columns
from seqtrack_lit.data.frames import ListedFrames, NumberedFrames
from seqtrack_lit.data.index import SequenceIndex


def small(boxes: list[np.ndarray]) -> SequenceIndex:
    builder = IndexBuilder("made", Path("/data"), attribute_names=("A", "B"))
    for k, rows in enumerate(boxes):
        builder.add(
            f"vidéo {k}",
            rows,
            np.isfinite(rows).all(1),
            folder=f"ordner {k}",
            numbered=(k, 1 + k % 8, ".jpg") if k % 2 else None,
            files=None if k % 2 else [f"b{i}.png" for i in range(len(rows))],
            object_class=None if k == 0 else f"class {k % 2}",
            resolution=None if k == 0 else (k, 2),
            attributes=("B",) if k % 2 else (),
        )
    return builder.finish()


numbers = st.floats(-1e6, 1e6, width=64) | st.integers(-50, 2000).map(float) | st.just(float("nan"))
tables = st.lists(
    st.lists(st.tuples(numbers, numbers, numbers, numbers), min_size=1, max_size=5), min_size=1, max_size=5
)


@given(tables)
def test_columns_give_back_every_number(rows: list[list[tuple[float, ...]]]) -> None:
    boxes = [np.array(video, np.float64) for video in rows]
    index = small(boxes)
    assert len(index) == len(boxes)
    assert index.lengths.tolist() == [len(video) for video in boxes]
    for k, (sequence, video) in enumerate(zip(index, boxes, strict=True)):
        np.testing.assert_array_equal(sequence.boxes, video)
        np.testing.assert_array_equal(sequence.visible, np.isfinite(video).all(1))
        assert index.visible_counts[k] == np.isfinite(video).all(1).sum()
        assert sequence.name == f"vidéo {k}"
        expected = {"object_class": f"class {k % 2}", "resolution": (k, 2)} if k else {}
        assert sequence.meta == {**expected, "attributes": ("B",) if k % 2 else ()}
        if k % 2:
            assert sequence.frames == NumberedFrames(f"/data/ordner {k}", k, 1 + k % 8, ".jpg", len(video))
        else:
            assert isinstance(sequence.frames, ListedFrames)
            assert sequence.frames.path(0) == f"/data/ordner {k}/b0.png"


def test_whole_pixels_take_half_the_room() -> None:
    whole, odd = boxes_for(3), boxes_for(3)
    odd[1, 2] = 0.1
    assert small([whole]).columns["boxes"].dtype == np.float32
    assert small([whole, odd]).columns["boxes"].dtype == np.float64
    odd[1, 2] = 1e300
    assert small([odd]).columns["boxes"].dtype == np.float64


def test_hash_is_of_the_content(make_dataset: Callable[..., Made], tmp_path: Path) -> None:
    root, _ = make_dataset("lasot")
    first = readers.lasot(root, complete=False)
    moved = root.rename(tmp_path / "elsewhere")
    assert readers.lasot(moved, complete=False).hash == first.hash != ""
    file = moved / "airplane" / "airplane-2" / "groundtruth.txt"
    file.write_text(file.read_text().replace("10,", "11,", 1))
    assert readers.lasot(moved, complete=False).hash != first.hash


def test_choosing_and_places() -> None:
    index = small([boxes_for(n) for n in (3, 1, 2, 4)])
    chosen = index.select(["vidéo 2", "vidéo 0"])
    assert chosen.names == ["vidéo 2", "vidéo 0"]
    assert chosen.lengths.tolist() == [2, 3]
    assert chosen.subset(np.array([1]))[0].name == chosen[-1].name == "vidéo 0"
    with pytest.raises(ValueError, match=r"made has no sequence 'vidéo 9'; its names look like 'vidéo 0'"):
        index.select(["vidéo 9"])
    with pytest.raises(IndexError, match="sequence 2 of made, which has 2"):
        chosen.name(2)


def test_two_of_one_name_are_refused() -> None:
    builder = IndexBuilder("made", Path("/data"))
    for _ in range(2):
        builder.add("a", boxes_for(2), np.ones(2, bool), folder="a", numbered=(1, 1, ".jpg"))
    with pytest.raises(ValueError, match="2 sequences are called 'a'"):
        builder.finish()


def test_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="made: no sequences under /data"):
        IndexBuilder("made", Path("/data")).finish()


class Counting:
    """A builder function that counts its calls."""

    def __init__(self, root: Path) -> None:
        self.root, self.calls = root, 0

    def __call__(self) -> IndexBuilder:
        self.calls += 1
        builder = IndexBuilder("made", self.root)
        text = (self.root / "in.txt").read_text()
        builder.add(text, boxes_for(2), np.ones(2, bool), folder="a", numbered=(1, 1, ".jpg"))
        return builder


def test_kept_until_the_inputs_change(tmp_path: Path) -> None:
    root, cache, file = tmp_path, tmp_path / "cache", tmp_path / "in.txt"
    file.write_text("one")
    counting = Counting(root)
    for _ in range(2):
        index = cached("made", root, [file], counting, cache)
    assert (counting.calls, index.name(0)) == (1, "one")
    assert index.path is not None
    assert index.path.parent == cache
    file.write_text("zwei")
    assert cached("made", root, [file], counting, cache).name(0) == "zwei"
    os.utime(file, (1, 1))
    cached("made", root, [file], counting, cache)
    assert counting.calls == 3
    assert len(list(cache.iterdir())) == 1  # the old one is replaced, nothing else is left
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"in\.txt is missing; see docs/datasets\.md"):
        cached("made", root, [file], counting, cache)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"seqidx01",
        b"seqidx01" + bytes(100),
        MAGIC + b"\xff" * 8,
        MAGIC + bytes(8),
        MAGIC + b"\x02" + bytes(7),
        None,
    ],
)
def test_damaged_file_is_made_again(tmp_path: Path, damage: bytes | None) -> None:
    (tmp_path / "in.txt").write_text("one")
    counting = Counting(tmp_path)
    path = cached("made", tmp_path, [tmp_path / "in.txt"], counting, tmp_path / "cache").path
    assert path is not None
    path.write_bytes(path.read_bytes()[:-64] if damage is None else damage)
    with pytest.raises(ValueError, match="delete it, it is made again"):
        open_columns(path)
    assert cached("made", tmp_path, [tmp_path / "in.txt"], counting, tmp_path / "cache").name(0) == "one"
    assert counting.calls == 2


def test_a_changed_header_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("one")
    path = cached("made", tmp_path, [tmp_path / "in.txt"], Counting(tmp_path), tmp_path / "cache").path
    assert path is not None
    path.write_bytes(path.read_bytes().replace(b"<i8", b"<i4", 1))
    assert read_facts(path) is None


def test_an_index_that_cannot_be_read_or_replaced_is_survived(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("one")
    place = cached("made", tmp_path, [tmp_path / "in.txt"], Counting(tmp_path), tmp_path / "cache").path
    assert place is not None
    place.unlink()
    place.mkdir()
    for cache in (tmp_path / "cache", tmp_path / "in.txt"):
        with pytest.warns(UserWarning, match="could not be kept in"):
            assert cached("made", tmp_path, [tmp_path / "in.txt"], Counting(tmp_path), cache).name(0) == "one"


def test_a_relative_root_is_the_same_root(
    make_dataset: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = make_dataset("coco")
    first = readers.coco(root, cache=tmp_path / "cache")
    assert first.path is not None
    kept = first.path.stat().st_mtime_ns
    monkeypatch.chdir(root / "images")
    again = readers.coco("..", cache=tmp_path / "cache")
    assert (again.path, again.root, first.path.stat().st_mtime_ns) == (first.path, root, kept)
    (root / "annotations" / "instances_train2017.json").unlink()
    with pytest.raises(FileNotFoundError, match=f"coco: no {root}/annotations"):
        readers.coco("..")


def test_full_disk_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.txt").write_text("one")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(build, "write_columns", full)
    with pytest.warns(UserWarning, match=r"could not be kept in .*No space left on device.*`cache`"):
        assert cached("made", tmp_path, [tmp_path / "in.txt"], Counting(tmp_path), tmp_path / "cache").name(0) == "one"


def test_half_written_file_is_never_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(OSError, match="No space"):
        write_columns(tmp_path / "a.index", {"a": np.arange(3)}, {})
    assert list(tmp_path.iterdir()) == []
    assert read_facts(tmp_path / "a.index") is None


def test_another_process_maps_the_file(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("one")
    index = cached("made", tmp_path, [tmp_path / "in.txt"], Counting(tmp_path), tmp_path / "cache")
    sent = pickle.dumps(index.subset(np.array([0])))
    assert len(sent) < 1000
    again = pickle.loads(sent)
    assert again.path == index.path
    assert (again.name(0), again.hash) == ("one", index.hash)
    with pytest.raises(ValueError, match="read-only"):
        again.columns["boxes"][0, 0] = 1
    in_memory = pickle.loads(pickle.dumps(Counting(tmp_path)().finish()))
    assert in_memory.name(0) == "one"
