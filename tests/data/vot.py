"""A small VOT2020 data set: textured ellipses that move over noise, masks, anchors, tags."""

from pathlib import Path

import numpy as np
from tests.data.fixtures import write_image

from seqtrack_lit.data.video.regions import Polygon, Rectangle, Region, Special, format_region, trim

TAGS = ("camera_motion", "occlusion")


def make_vot(
    root: Path, *, sequences: int = 2, frames: int = 24, size: tuple[int, int] = (96, 72), every: int = 8
) -> dict[str, list[Region]]:
    """Write root/sequences/...; ground truth by name: masks, of the last sequence rectangles and polygons in turn."""
    truth: dict[str, list[Region]] = {}
    for number in range(sequences):
        name = f"seq{number}"
        place = root / "sequences" / name
        rng = np.random.default_rng(number)
        ground = rng.integers(60, 120, (size[1], size[0], 3), dtype=np.uint8)
        texture = rng.integers(0, 255, (16, 20, 3), dtype=np.uint8)
        y, x = np.ogrid[:16, :20]
        shape = ((x - 9.5) / 10) ** 2 + ((y - 7.5) / 8) ** 2 <= 1
        regions: list[Region] = []
        length = frames - 3 * number
        for frame in range(length):
            left, top = 10 + 2 * frame % (size[0] - 40), 20 + (frame + number) % 8
            picture = ground.copy()
            picture[top : top + 16, left : left + 20][shape] = texture[shape]
            write_image(place / "color" / f"{frame + 1:08d}.jpg", picture)
            whole = np.zeros(size[::-1], np.bool_)
            whole[top : top + 16, left : left + 20] = shape
            region: Region = trim(whole)
            if number == sequences - 1 and sequences > 1:
                corners = np.array([[left, top], [left + 19, top], [left + 19, top + 15], [left, top + 15]], float)
                region = Rectangle(left, top, 20, 16) if frame % 2 else Polygon(corners)
            regions.append(Special(0) if frame == 5 else region)
        truth[name] = regions
        anchors = [1 if i % every == 0 and i < length / 2 else -1 if i % every == 0 or i == length - 1 else 0
                   for i in range(length)]  # fmt: skip
        write(place / "sequence", f"name={name}\nfps=30\nformat=default\nchannel.default=color\n"
              "channels.color=color/%08d.jpg\n")  # fmt: skip
        write(place / "groundtruth.txt", "".join(f"{format_region(region)}\n" for region in regions))
        write(place / "anchor.value", "".join(f"{value}\n" for value in anchors))
        for tag in TAGS[: number + 1]:
            write(place / f"{tag}.tag", "".join(f"{int(i % 4 == 1)}\n" for i in range(length)))
    write(root / "sequences" / "list.txt", "".join(f"{name}\n" for name in truth))
    return truth


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
