"""Every test set is read back exactly from its layout, in the publishers' order."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.fixtures import Made
from tests.data.test_readers import assert_reads

from seqtrack_lit.data.sets import benchmarks
from seqtrack_lit.data.sets.layout import FOLDER, table
from seqtrack_lit.data.video.sequence import Frames, Video

# name, reader, arguments, sequences in order, frames looked at
CASES: list[tuple[str, Callable[..., Any], dict[str, Any], list[str], int]] = [
    ("lasot", benchmarks.lasot, {}, ["airplane-1", "monkey-17"], 5),
    ("lasot_ext", benchmarks.lasot_ext, {}, ["atv-1", "wingsuit-10"], 5),
    ("trackingnet", benchmarks.trackingnet, {}, ["-Dz7OIf54b0_0", "YaXKZdSEwt4_0"], 1),
    ("got10k", benchmarks.got10k_val, {}, ["GOT-10k_Val_000001", "GOT-10k_Val_000002"], 5),
    ("got10k", benchmarks.got10k_test, {}, ["GOT-10k_Test_000001", "GOT-10k_Test_000002"], 5),
    ("tnl2k", benchmarks.tnl2k, {}, ["Assian_video_Z03_done", "BF5_Blade_video_01-Done", "INF_bike"], 1),
    ("uav123", benchmarks.uav123, {}, ["bird1_1", "bird1_2"], 97),
    (
        "otb100",
        benchmarks.otb100,
        {},
        ["Board", "David", "Deer", "Jogging_1", "Jogging_2", "KiteSurf", "Tiger1"],
        53,
    ),
]


@pytest.mark.parametrize(("name", "read", "arguments", "names", "every"), CASES, ids=[c[1].__name__ for c in CASES])
def test_reads_back(
    make_dataset: Callable[..., Made],
    name: str,
    read: Callable[..., Any],
    arguments: dict[str, Any],
    names: list[str],
    every: int,
    tmp_path: Path,
) -> None:
    root, truth = make_dataset(name)
    index = read(root, complete=False, cache=tmp_path / "index", **arguments)
    assert index.names == names
    assert_reads(index, {key: truth[key] for key in names}, every=every)
    for sequence in index:
        np.testing.assert_array_equal(sequence.visible, truth[sequence.name].visible)
        assert isinstance(sequence.frames, Frames)
        assert len(sequence) == len(truth[sequence.name].shades)


@pytest.mark.parametrize(
    ("fps", "annotation", "key"), [(30, "official", "30"), (240, "official", "240"), (30, "pytracking", "pytracking")]
)
def test_nfs(make_dataset: Callable[..., Made], fps: Any, annotation: Any, key: str) -> None:
    root, truth = make_dataset("nfs")
    index = benchmarks.nfs(root, fps=fps, annotation=annotation, complete=False)
    assert_reads(index, {name: truth[f"{name}@{key}"] for name in ("Gymnastics", "airboard_1")})


def test_nfs_knows_its_variants(make_dataset: Callable[..., Made]) -> None:
    with pytest.raises(ValueError, match="expected 30 or 240 official, or 30 pytracking"):
        benchmarks.nfs(make_dataset("nfs").root, fps=240, annotation="pytracking", complete=False)


def test_folder_wants_a_first_box(make_dataset: Callable[..., Made]) -> None:
    root, truth = make_dataset("folder", names=("cat",))
    assert_reads(benchmarks.folder(root), truth)
    file = root / "cat" / "groundtruth.txt"
    file.write_text("0,0,0,0\n" + file.read_text().partition("\n")[2])
    with pytest.raises(ValueError, match=r"groundtruth.txt, line 1: the first box 0,0,0,0 has no area"):
        benchmarks.folder(root)


def test_a_part_is_asked_for(make_dataset: Callable[..., Made]) -> None:
    root, _ = make_dataset("lasot")
    with pytest.raises(FileNotFoundError, match=r"278 of 280 sequences are missing.*airplane-9 .*complete=false"):
        benchmarks.lasot(root)


@pytest.mark.parametrize("read", [c[1] for c in CASES] + [benchmarks.nfs, benchmarks.folder], ids=lambda f: f.__name__)
def test_missing_root_says_what_was_expected(read: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere.*; expected .*docs/datasets.md"):
        read(tmp_path / "nowhere")


def test_attributes(make_dataset: Callable[..., Made]) -> None:
    def attributes(read: Callable[..., Any], name: str, first: str) -> object:
        return read(make_dataset(name).root, complete=False).select([first])[0].meta["attributes"]

    assert attributes(benchmarks.lasot, "lasot", "airplane-1") == ("POC", "ROT", "SV", "LR")
    assert attributes(benchmarks.lasot_ext, "lasot_ext", "atv-1") == ("ROT", "VC", "SV")
    assert attributes(benchmarks.tnl2k, "tnl2k", "Assian_video_Z03_done") == ("ROT", "VC", "SV", "BC")
    assert attributes(benchmarks.uav123, "uav123", "bird1_1") == tuple(
        next(row for row in table("uav123") if row["name"] == "bird1_1")["attributes"].split()
    )
    assert attributes(benchmarks.otb100, "otb100", "Jogging_2") == ("OCC", "DEF", "OPR")


def test_got10k_val_has_what_ao_needs(make_dataset: Callable[..., Made]) -> None:
    sequence: Video = benchmarks.got10k_val(make_dataset("got10k").root)[0]
    assert sequence.meta["resolution"] == (64, 48)
    assert np.asarray(sequence.meta["cover"]).tolist()[:5] == [8, 8, 8, 0, 0]


# Sequences, frames, and how many sequences show each attribute, as the papers and toolkits print them.
@pytest.mark.parametrize(
    ("name", "count", "counts"),
    [
        ("lasot", 280, "IV47 POC187 DEF142 MB89 CM86 ROT175 BC100 VC33 SV273 FOC118 FM53 OV104 LR141 ARC249"),
        ("lasot_ext", 150, "IV14 POC98 DEF43 MB67 CM18 ROT39 BC68 VC59 SV141 FOC94 FM88 OV32 LR104 ARC129"),
        ("uav123", 123, "SV109 ARC68 LR48 FM28 FOC33 POC73 OV30 BC21 IV31 VC60 CM70 SOB39"),
        ("tnl2k", 700, ""),
        ("otb100", 100, ""),
        ("nfs", 100, ""),
        ("trackingnet", 511, ""),
        ("got10k_vot_forbidden", 1000, ""),
    ],
)
def test_lists(name: str, count: int, counts: str) -> None:
    rows = [row for row in table(name) if row.get("split", "test") == "test"]
    assert len(rows) == len({row["name"] for row in rows}) == count
    for item in counts.split():
        attribute, number = item.rstrip("0123456789"), int(item.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
        assert sum(attribute in row["attributes"].split() for row in rows) == number, item


def test_frames_of_the_lists() -> None:
    def total(name: str, frames: Callable[[dict[str, str]], int], **equal: str) -> int:
        return sum(frames(row) for row in table(name) if all(row[key] == value for key, value in equal.items()))

    assert total("lasot", lambda row: int(row["frames"])) == 3_517_342
    assert total("lasot", lambda row: int(row["frames"]), split="train") == 2_831_982
    assert total("tnl2k", lambda row: int(row["frames"])) == 516_038
    assert total("nfs", lambda row: int(row["frames_30fps"])) == 47_953
    assert total("uav123", lambda row: int(row["last"]) - int(row["first"]) + 1) == 112_578
    assert total("otb100", lambda row: int(row["last"]) - int(row["first"]) + 1 - int(row["skip"])) == 59_035


def test_every_list_has_its_publisher() -> None:
    readme = (FOLDER / "README.md").read_text()
    for file in FOLDER.glob("*.csv"):
        assert f"| {file.name} |" in readme
        assert all(row.keys() == table(file.stem)[0].keys() for row in csv.DictReader(file.open()))


def test_nfs_cuts_one_frame_and_refuses_more(make_dataset: Callable[..., Made]) -> None:
    root, truth = make_dataset("nfs")
    images = root / "Gymnastics" / "240" / "Gymnastics"
    last = sorted(images.iterdir())[-1]
    last.unlink()
    index = benchmarks.nfs(root, fps=240, annotation="official", complete=False)
    np.testing.assert_array_equal(index[0].boxes, truth["Gymnastics@240"].boxes[:-1])
    sorted(images.iterdir())[-1].unlink()
    with pytest.raises(ValueError, match=r"Gymnastics\.txt has boxes for 49 frames, but there are 47 images"):
        benchmarks.nfs(root, fps=240, annotation="official", complete=False)
    for image in sorted(images.iterdir())[7:]:  # an eighth of the images does not make it the set of 30 fps
        image.unlink()
    with pytest.raises(ValueError, match=r"boxes for 49 frames, but there are 7 images"):
        benchmarks.nfs(root, fps=240, annotation="official", complete=False)


@pytest.mark.parametrize(
    ("name", "read", "file", "message"),
    [
        ("otb100", benchmarks.otb100, "David/groundtruth_rect.txt", "has 470 rows; this sequence has 471"),
        ("uav123", benchmarks.uav123, "anno/UAV123/bird1_2.txt", "has 702 rows; this sequence has 703"),
        ("tnl2k", benchmarks.tnl2k, "INF_bike/groundtruth.txt", "has 23 rows, but"),
    ],
)
def test_a_lost_row_is_noticed(
    make_dataset: Callable[..., Made], name: str, read: Callable[..., Any], file: str, message: str
) -> None:
    root, _ = make_dataset(name)
    lines = (root / file).read_text().splitlines()
    (root / file).write_text("\n".join(lines[:3] + lines[4:]) + "\n")
    with pytest.raises(ValueError, match=r"\.txt") as error:
        read(root, complete=False)
    assert message in str(error.value)


def test_a_lost_frame_is_noticed(make_dataset: Callable[..., Made]) -> None:
    root, _ = make_dataset("uav123")
    (root / "data_seq/UAV123/bird1/000900.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"bird1/000900\.jpg is missing: 703 boxes"):
        benchmarks.uav123(root, complete=False)
