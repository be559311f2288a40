"""What an index holds in memory: every number given back, little room, a hash of the content."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.fixtures import Made, boxes_for

from seqtrack_lit.data.sets import training as readers
from seqtrack_lit.data.sets.index_builder import IndexBuilder
from seqtrack_lit.data.video.frames import ListedFrames, NumberedFrames
from seqtrack_lit.data.video.index import SequenceIndex


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
