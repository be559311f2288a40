"""Generated videos of pictures: pure functions of their key, exact boxes, absences, the folder that is written."""

import numpy as np
import pytest

from seqtrack_lit.data.sets.folder import folder
from seqtrack_lit.data.synthetic.pictures.pool import PicturePool
from seqtrack_lit.data.synthetic.pictures.videos import PLANS, SIZE, PictureVideo, write_videos


@pytest.fixture(scope="module")
def pool(pool_folder):
    return PicturePool(pool_folder, part="train").read()


def test_a_frame_depends_on_the_key_alone(pool):
    one, same, other = PictureVideo(pool, "hard", 3), PictureVideo(pool, "hard", 3), PictureVideo(pool, "hard", 4)
    one.frame(0)  # an access before changes nothing
    (image, box), (again, box_again) = one.frame(20), same.frame(20)
    assert (image == again).all()
    assert (box == box_again).all()
    assert (image != other.frame(20)[0]).any()
    assert image.shape == (SIZE[1], SIZE[0], 3)


def test_the_box_is_what_the_target_changes(pool):
    video = PictureVideo(pool, "easy", 0)
    with_target, box = video.frame(5)
    far = video.actors[0]._replace(center=video.actors[0].center + 1e4)
    video.actors[0] = far
    without, nothing = video.frame(5)
    rows, columns = np.nonzero(np.abs(with_target.astype(int) - without).max(-1) > 40)
    assert (nothing == 0).all()
    assert len(rows) > 50
    low, high = box[:2] - 2, box[:2] + box[2:] + 2
    assert (low <= [columns.min(), rows.min()]).all()
    assert ([columns.max(), rows.max()] <= high).all()


@pytest.mark.parametrize("number", [0, 1])
def test_the_target_is_away_in_each_absence_and_back_for_thirty_frames(pool, number):
    video = PictureVideo(pool, "long", number)
    (first, last), (again, end) = video.absences
    assert 18 <= first < last < again < end <= PLANS["long"].length - 30
    seen = {t: bool(video.frame(t)[1].any()) for t in (0, (first + last) // 2, (again + end) // 2, again - 8, end + 20)}
    assert list(seen.values()) == [True, False, False, True, True]


def test_folders_are_read_as_a_benchmark(pool, tmp_path):
    write_videos(tmp_path, pool, "easy", 1)
    first = (tmp_path / "easy-000" / "000007.jpg").read_bytes()
    write_videos(tmp_path, pool, "easy", 2)  # what is there is kept
    videos = folder(tmp_path, tracking=True)
    assert (tmp_path / "easy-000" / "000007.jpg").read_bytes() == first
    assert [len(videos[i]) for i in range(2)] == [PLANS["easy"].length] * 2
    image, box = PictureVideo(pool, "easy", 1).frame(7)
    np.testing.assert_allclose(videos[1].boxes[7], box, atol=5e-4)
    assert np.abs(videos[1].frames[7].astype(int) - image).mean() < 6
