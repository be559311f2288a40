"""The columnar index: what goes in comes out; one file, mapped, shared, rebuilt when its inputs change."""

import os
import pickle
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.fixtures import MAKERS, Made, boxes_for

from seqtrack_lit.data.sets import benchmarks
from seqtrack_lit.data.sets import index_builder as build
from seqtrack_lit.data.sets import training as readers
from seqtrack_lit.data.sets.folder import folder
from seqtrack_lit.data.sets.index_builder import IndexBuilder, cached
from seqtrack_lit.data.video.columns import INDEX_FORMAT, IndexInfo, open_columns, read_info, write_columns
from seqtrack_lit.data.video.index import SequenceIndex


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


@pytest.fixture(autouse=True)
def _no_waiting_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def kept(root: Path) -> Path:
    """An index of numbered, listed and video frames with all columns, kept in a folder."""
    (root / "in.txt").write_text("one")
    path = cached("all", root, [root / "in.txt"], partial(every_kind, root), root / "cache").path
    assert path is not None
    return path


def every_kind(root: Path) -> IndexBuilder:
    builder = IndexBuilder("all", root, attribute_names=("A", "B"))
    about: dict[str, Any] = {"object_class": "cat", "resolution": (64, 48), "frame_rate": 30.0, "attributes": ("B",)}
    for k, where in enumerate(({"numbered": (1, 8, ".jpg")}, {"files": ["b.png", "é.png", "x"]}, {"video": True})):
        boxes = boxes_for(3, k, decimals=1)
        builder.add(
            f"vidéo {k}", boxes, np.array([1, 0, 1], bool), folder=f"f{k}", cover=np.array([8, 0, 3]), **about, **where
        )
    return builder


def told(index: SequenceIndex) -> list[object]:
    """All that an index says, without opening a frame."""
    return [
        index.dataset, index.root, index.repeats_image, index.attribute_names, index.hash, index.names,
        *(repr((name, column.dtype, column.tolist())) for name, column in sorted(index.columns.items())),
    ]  # fmt: skip


def opened_again(root: Path) -> tuple[SequenceIndex, bool]:
    """What `cached` gives, and whether it had to build it."""
    calls = []
    index = cached("all", root, [root / "in.txt"], lambda: calls.append(1) or every_kind(root), root / "cache")
    return index, bool(calls)


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path, rng, noticed = kept(tmp_path), random.Random(3), 0
    expected = told(every_kind(tmp_path).finish())
    files = sorted(path.iterdir())
    for _ in range(60):
        file = rng.choices(files, [file.stat().st_size for file in files])[0]
        bad = bytearray(file.read_bytes())
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        file.write_bytes(bad)
        index, built = opened_again(tmp_path)
        assert told(index) == expected
        noticed += built
        assert sorted(path.iterdir()) == files
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert noticed > 55  # the rest: blanks of facts.json


@pytest.mark.parametrize("cut", [0, 1, 0.5, -1])
def test_files_that_are_missing_empty_or_cut_off(tmp_path: Path, cut: float) -> None:
    path = kept(tmp_path)
    for file in sorted(path.iterdir()):
        whole = file.read_bytes()
        file.write_bytes(whole[: int(cut * len(whole)) if cut == 0.5 else int(cut)]) if cut != 1 else file.unlink()
        with pytest.raises(ValueError, match="delete it, it is made again"):
            open_columns(path, compare=False)
        assert opened_again(tmp_path)[1]
        assert file.read_bytes() == whole


def forged(path: Path, **columns: Any) -> Path:
    """The index with other columns, its checksums made to fit."""
    found, info = open_columns(path, compare=True)
    kept = {name: np.array(column) for name, column in found.items()} | columns
    write_columns(path, {name: column for name, column in kept.items() if column is not None}, info)
    return path


FORGED = {
    "rows": [[0, 3, 6, 10], [0, 3, 2, 9], [-3, 3, 6, 9], [0, 3, 9], [1, 3, 6, 9], [0, 2**62, 6, 9]],
    "kind": [[0, 1, 3], [0, 1, -1], [0, 1]],
    "folder": [[0, 1, 3], [0, 1, -1]],
    "first": [[1, 1, 0], [1, -1, 0], [1, 2**62, 0], [-1, 0, 0]],
    "lengths": [[3, 4, 3], [3, 2, 3], [3, -1, 3]],
    "suffix": [[0, 1, 7]],
    "object_class": [[0, 0, 1], [0, 0, -2]],
    "visible_counts": [[2, 2, 4], [2, 2, -1]],
    "frame_rate": [[30, np.nan, 30], [30, np.inf, 30], [30, -1, 30]],
    "digits": [[8, 0, -1], [8, 0, 127]],
    "resolution": [[[64, 48]] * 2, [[64, -48]] * 3],
    "names.starts": [[0, 8, 4, 24], [0, 8, 16, 25], [0, 8, 16], [], [-8, 8, 16, 24]],
    "files.starts": [[0, 5, 12]],
}


@pytest.mark.parametrize(("name", "values"), [(name, value) for name, values in FORGED.items() for value in values])
def test_numbers_that_lead_outside_are_refused(tmp_path: Path, name: str, values: list[Any]) -> None:
    path = kept(tmp_path)
    before = open_columns(path, compare=True)[0][name]
    forged(path, **{name: np.array(values, before.dtype)})
    with pytest.raises(ValueError, match=r"is damaged \(.*; delete it, it is made again"):
        open_columns(path, compare=True)
    assert opened_again(tmp_path)[1]


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("boxes", np.zeros((9, 4), np.float16)),
        ("boxes", np.zeros((9, 4), np.complex64)),
        ("boxes", np.zeros((9, 3))),
        ("boxes", np.zeros((8, 4))),
        ("boxes", np.zeros((9, 4), ">f8")),
        ("boxes", np.zeros(9, [("x", "f8", 4)])),
        ("boxes", np.float64(3.0)),
        ("boxes", None),
        ("visible", np.full(9, 7, np.uint8).view(np.bool_)),
        ("visible", np.zeros(9, np.int8)),
        ("cover", np.zeros(8, np.uint8)),
        ("names", np.zeros(24, "U1")),
        ("more", np.zeros(3)),
    ],
)
def test_columns_of_another_form_are_refused(tmp_path: Path, name: str, column: Any) -> None:
    with pytest.raises(ValueError, match=r"is damaged \("):
        open_columns(forged(kept(tmp_path), **{name: column}), compare=True)
    assert opened_again(tmp_path)[1]


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path, marker = kept(tmp_path), tmp_path / "created"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (marker,)

    with (path / "boxes.npy").open("wb") as file:
        np.save(file, np.array([Evil()], object), allow_pickle=True)
    with pytest.raises(ValueError, match="is damaged"):
        open_columns(path, compare=False)
    assert opened_again(tmp_path)[1]
    assert not marker.exists()


@pytest.mark.parametrize("name", ["/etc", "../up", "a/../../b", ".."])
def test_names_that_lead_out_of_the_root_are_refused(tmp_path: Path, name: str) -> None:
    builder = every_kind(tmp_path)
    builder.add("video", boxes_for(1), np.ones(1, bool), folder=name, numbered=(1, 1, ".jpg"), cover=np.ones(1, int))
    builder.add("listed", boxes_for(1), np.ones(1, bool), folder="a", files=[name], cover=np.ones(1, int))
    builder.add(
        "numbered", boxes_for(1), np.ones(1, bool), folder="a", numbered=(1, 1, f"/{name}"), cover=np.ones(1, int)
    )
    index = builder.finish()
    for video in (3, 4, 5):
        with pytest.raises(ValueError, match=r"the index names '.*', outside of its root"):
            index[video].frames[0]


def test_indexes_of_other_forms_are_made_again(tmp_path: Path) -> None:
    path = kept(tmp_path)
    shutil.rmtree(path)
    path.write_bytes(b"seqidx02" + bytes(100))  # the form before this one
    assert opened_again(tmp_path)[1]
    text = (path / "facts.json").read_text()
    (path / "facts.json").write_text(text.replace(f'"format": {INDEX_FORMAT}', f'"format": {INDEX_FORMAT - 1}'))
    assert read_info(path) is None
    assert opened_again(tmp_path) != (None, False)
    assert opened_again(tmp_path)[1] is False


READERS: dict[str, tuple[str, Callable[[Path], SequenceIndex]]] = {
    "coco": ("coco", readers.coco),
    "lasot": ("lasot", partial(readers.lasot, complete=False)),
    "got10k": ("got10k", readers.got10k),
    "trackingnet": ("trackingnet", partial(readers.trackingnet, parts=[0, 3])),
    "folder": ("folder", folder),
    "lasot test": ("lasot", partial(benchmarks.lasot, complete=False)),
    "got10k val": ("got10k", partial(benchmarks.got10k_val, complete=False)),
    "trackingnet test": ("trackingnet", partial(benchmarks.trackingnet, complete=False)),
    "tnl2k": ("tnl2k", partial(benchmarks.tnl2k, complete=False)),
    "nfs": ("nfs", partial(benchmarks.nfs, complete=False)),
    "uav123": ("uav123", partial(benchmarks.uav123, complete=False)),
    "otb100": ("otb100", partial(benchmarks.otb100, complete=False)),
}
#: What the readers make of the fixtures. Other hashes without another INDEX_FORMAT: users would keep the old content.
CONTENT = (
    3,
    {
        "coco": "627c996f46493004",
        "lasot": "c8b912a4ae8998b5",
        "got10k": "14c6f1435858de01",
        "trackingnet": "f4572c6e481a6a3d",
        "folder": "cb4f5f06117c1d7b",
        "lasot test": "6cc9f61a786b16b5",
        "got10k val": "8d788983252a4a10",
        "trackingnet test": "f2c920c59b00223f",
        "tnl2k": "a701173747742d16",
        "nfs": "97b7d88d31862317",
        "uav123": "f831b1b360a94029",
        "otb100": "197894f531b7c9fe",
    },
)


def test_the_format_changes_with_the_content(tmp_path: Path) -> None:
    found = {}
    for name, (made, read) in READERS.items():
        root = tmp_path / name
        MAKERS[made](root)
        found[name] = read(root).hash
    assert (INDEX_FORMAT, found) == CONTENT, (
        "raise INDEX_FORMAT, unless only the fixtures changed; then note the hashes"
    )


def test_an_index_that_cannot_be_read_or_replaced_is_survived(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("one")
    place = cached("made", tmp_path, [tmp_path / "in.txt"], Counting(tmp_path), tmp_path / "cache").path
    assert place is not None
    (place / "boxes.npy").unlink()
    (place / "boxes.npy").mkdir()
    assert cached("made", tmp_path, [tmp_path / "in.txt"], Counting(tmp_path), tmp_path / "cache").path == place
    with pytest.warns(UserWarning, match="could not be kept in"):
        assert cached("made", tmp_path, [tmp_path / "in.txt"], Counting(tmp_path), tmp_path / "in.txt").name(0) == "one"


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

    info = IndexInfo(dataset="made", attribute_names=[], repeats_image=False, hash="", inputs="")
    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(OSError, match="No space"):
        write_columns(tmp_path / "a.index", {"a": np.arange(3)}, info)
    assert list(tmp_path.iterdir()) == []
    assert read_info(tmp_path / "a.index") is None


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    path = kept(tmp_path)
    old, new = (path.with_name(f"{path.name}.{pid}.tmp") for pid in (1, 2))
    for left in (old, new):
        left.mkdir()
    os.utime(old, (1, 1))
    (tmp_path / "in.txt").write_text("two")
    assert opened_again(tmp_path)[1]
    assert not old.exists()
    assert new.exists()


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
    assert told(again) == told(index)
    (tmp_path / "in.txt").write_text("other")
    cached("made", tmp_path, [tmp_path / "in.txt"], Counting(tmp_path), tmp_path / "cache")
    with pytest.raises(ValueError, match="made again by another process"):
        pickle.loads(sent)
    (tmp_path / "in.txt").write_text("one")
    in_memory = pickle.loads(pickle.dumps(Counting(tmp_path)().finish()))
    assert in_memory.name(0) == "one"
