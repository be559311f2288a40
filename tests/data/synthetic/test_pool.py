"""Building the pool out of packages that lie in the cache; fetching is left to apt-get and npm."""

import csv
import io
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from seqtrack_lit.data.synthetic.pictures.collect.build import Pick, build, cut_out, picks, without_white
from seqtrack_lit.data.synthetic.pictures.collect.packages import qt_resources, read, tier

COPYRIGHT = """Files: *
License: GPL-2+

Files: usr/share/stamps/free*
License: CC0-1.0
"""
CHOSEN = [
    Pick("photo", "stamps", "usr/share/stamps/free cat.png"),
    Pick("photo", "stamps", "usr/share/stamps/dog.png"),
    Pick("background", "stamps", "usr/share/stamps/free.zip!hills/a.png"),
    Pick("photo", "stamps", "usr/share/stamps/free speck.png"),
]


def png(picture):
    file = io.BytesIO()
    picture.save(file, "png")
    return file.getvalue()


def disc(side=100, radius=40):
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    alpha = ((x**2 + y**2) < radius**2) * 255
    return Image.fromarray(np.dstack([np.full((side, side, 3), (200, 30, 30)), alpha]).astype(np.uint8))


@pytest.fixture
def cache(tmp_path):
    root = tmp_path / "cache/stamps"
    (root / "usr/share/stamps").mkdir(parents=True)
    (root / "usr/share/doc/stamps").mkdir(parents=True)
    (root / "VERSION").write_text("1.2-3")
    (root / "usr/share/doc/stamps/copyright").write_text(COPYRIGHT)
    for name, radius in (("free cat", 40), ("dog", 30), ("free speck", 3)):
        (root / f"usr/share/stamps/{name}.png").write_bytes(png(disc(radius=radius)))
    with zipfile.ZipFile(root / "usr/share/stamps/free.zip", "w") as archive:
        archive.writestr("hills/a.png", png(Image.new("RGB", (1280, 720), (9, 9, 9))))
    return tmp_path / "cache"


def rows(folder):
    with (folder / "pool.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_free_pictures_with_their_licences(tmp_path, cache):
    done = []
    built = build(tmp_path / "pool", cache, chosen=CHOSEN, step=lambda *now: done.append(now))
    table = rows(tmp_path / "pool")
    assert [(row["file"], row["licence"], row["tier"], row["version"]) for row in table] == [
        ("objects/stamps_free-cat.png", "CC0-1.0", "A", "1.2-3"),
        ("backgrounds/stamps_a.jpg", "CC0-1.0", "A", "1.2-3"),
    ]
    assert (table[1]["width"], table[1]["height"]) == ("640", "360")
    assert built.left_out == [CHOSEN[3]]
    assert done[-1] == (4, 4)
    assert "objects      tier A     1" in built.text()


def test_all_pictures_keep_the_names_of_the_free_ones(tmp_path, cache):
    build(tmp_path / "pool", cache, chosen=CHOSEN)
    free = {row["file"] for row in rows(tmp_path / "pool")}
    build(tmp_path / "pool", cache, chosen=CHOSEN, only_free=False)
    assert {row["file"] for row in rows(tmp_path / "pool")} == free | {"objects/stamps_dog.png"}


def test_mistakes_leave_what_was_there(tmp_path, cache):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="no pool of pictures"):
        build(tmp_path / "mine", cache, chosen=CHOSEN)
    build(tmp_path / "pool", cache, chosen=CHOSEN)
    with pytest.raises(FileNotFoundError, match=r"does not hold usr/share/stamps/free cow\.png: it is another version"):
        build(tmp_path / "pool", cache, chosen=[Pick("photo", "stamps", "usr/share/stamps/free cow.png")])
    assert len(rows(tmp_path / "pool")) == 2


def test_a_cut_out_fills_its_frame_and_its_colour_goes_on_outside():
    picture = np.array(cut_out(disc(), 256))
    assert picture.shape[:2] == (80, 80)  # a disc of diameter 80
    assert picture[0, 0, 3] == 0
    np.testing.assert_allclose(picture[2, 2, :3], [200, 30, 30], atol=8)


def test_white_around_an_object_is_cleared_and_white_inside_stays():
    picture = Image.new("RGB", (100, 100), "white")
    picture.paste((0, 90, 0), (20, 20, 80, 80))
    picture.paste("white", (40, 40, 60, 60))
    alpha = np.array(without_white(picture))[..., 3]
    assert (alpha[5, 5], alpha[50, 50], alpha[30, 30]) == (0, 255, 255)


@pytest.mark.parametrize(
    ("licence", "letter"),
    [
        ("CC-BY-SA-4.0", "C"),
        ("LGPL-3+", "C"),
        ("CC BY 3.0", "B"),
        ("public domain", "A"),
        ("Expat", "A"),
        ("GFDL", "C"),
    ],
)
def test_tiers(licence, letter):
    assert tier(licence) == letter


def test_an_unknown_licence_is_no_free_one():
    with pytest.raises(ValueError, match="unknown licence 'Proprietary'"):
        tier("Proprietary")


def test_a_qt_resource_file(tmp_path):
    tree = struct.pack(">iHii", 0, 2, 1, 1) + struct.pack(">iHHHi", 0, 0, 0, 0, 0)  # a folder with one file
    names = struct.pack(">HI", 5, 0) + "a.txt".encode("utf-16-be")
    data = struct.pack(">i", 4) + b"text"
    header = b"qres" + struct.pack(">4i", 1, 20, 20 + len(tree), 20 + len(tree) + len(data))
    content = header + tree + data + names
    assert qt_resources(content) == {"a.txt": b"text"}
    (tmp_path / "one.rcc").write_bytes(content)
    assert read(tmp_path, "one.rcc!a.txt") == b"text"


def test_the_list_of_picks():
    listed = list(picks())
    assert len(listed) > 1800
    assert len({(pick.package, pick.path) for pick in listed}) == len(listed)
