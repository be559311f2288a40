"""The picture of README: a tracked clip, and where the model attends while it writes the four tokens of a box.

python docs/pictures/make.py bigbuckbunny.mp4 293,253,150,195 8,30,100 docs/pictures/tracked.jpg
"""

import argparse

import cv2
import numpy as np

from seqtrack_lit.attention_maps import predict_attention, strip
from seqtrack_lit.pictures import DARK, WHITE, draw_boxes, titled
from seqtrack_lit.pictures import strip as beside
from seqtrack_lit.tracking.seqtrack import load_seqtrack
from seqtrack_lit.tracking.source import open_source

SIDE = 192  # pixels: height of a frame, side of a map

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name in ("source", "box", "frames", "out"):
    parser.add_argument(name)
source, box, shown, out = vars(parser.parse_args()).values()
tracker, rows = load_seqtrack(device="cpu"), []
for number, image in enumerate(open_source(source).frames):
    if number == 0:
        tracker.init(image, np.array(box.split(","), float))
        continue
    maps = predict_attention(tracker, image) if str(number) in shown.split(",") else None
    estimate = tracker.update(image)
    if maps is not None:
        scale = SIDE / image.shape[0]
        frame = cv2.resize(image, (round(image.shape[1] * scale), SIDE), interpolation=cv2.INTER_AREA)
        frame = draw_boxes(frame, [estimate.box_xywh * scale])
        rows.append(beside([titled(frame, f"frame {number}", DARK, WHITE), strip(maps, side=SIDE)], ground=WHITE))
cv2.imwrite(out, np.vstack(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
