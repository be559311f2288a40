import numpy as np

from seqtrack_lit.boxes import iou_rows
from seqtrack_lit.data.synthetic.videos import photo_clip


def test_the_face_is_in_the_box():
    """Skin, brighter in red than in blue, fills the middle of every box; the thing that hides it is grey."""
    video = photo_clip(40, hidden=(20, 24))
    assert (len(video), video.visible.sum()) == (40, 36)
    for t in range(40):
        x, y, w, h = video.boxes[t]
        middle = video.frames[t][int(y + 0.4 * h) : int(y + 0.6 * h), int(x + 0.4 * w) : int(x + 0.6 * w)]
        red, _, blue = middle.reshape(-1, 3).mean(0)
        assert (red - blue > 10) == (t not in range(20, 24))
    assert iou_rows(video.boxes, video.boxes).tolist() == [1.0] * 40
    assert 0 < iou_rows(video.boxes[:1], video.boxes[5:6])[0] < 1
    assert np.ptp(video.boxes[:, 2]) > 5  # nearer and farther
