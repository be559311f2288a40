"""A video file as `Frames`: any frame by its number, exactly the one that reading in order gives.

What was found wrong in files is not used:
- Time stamps number the frames only in containers that store when a frame is shown (mp4, mov, mkv, webm; AVI where
  nothing is reordered), and only if the first frames decoded bear them out. Elsewhere frames are counted by decoding.
- Only containers with an index are sought in, and only with codecs that start afresh at a key frame. Where the search
  arrived is compared with the stamps read at opening; frames shown before the key frame are never taken from there.
  What is not found after two key frames is read from the start.
"""

import os
import stat
from collections.abc import Iterator
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.codec.codec import Properties
from av.sidedata.sidedata import SideDataContainer, Type
from av.stream import Disposition
from av.video.frame import PictureType
from jaxtyping import Int64, Shaped

from seqtrack_lit.checks import printable
from seqtrack_lit.crops import Image
from seqtrack_lit.data.video.containers import ANY_TITLE, INDEXED, READ, STAMPED, cut_short, missing_bytes, read_packets
from seqtrack_lit.data.video.frames import MAX_PIXELS, Range, check_size, spread, to_rgb8, upright, value_range
from seqtrack_lit.data.video.sequence import position

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg")
# Beside those whose every frame is a key frame. Others keep a state over key frames, or their marks are not certain.
_RESTARTING = ("h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "mpeg1video", "mpeg2video", "mpeg4")
_LONGEST = 300  # letters of a name in a message
_LOOKED_AT = 16  # frames decoded at opening; reordered ones come within a few
_NO_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


class VideoFrames:
    """The frames of a video file, in the order they are shown, turned upright by the file's display matrix.

    Opening reads the time stamps of all packets and decodes the first frames. Frame i + 1 after frame i only decodes
    on. Iterating needs no number of frames, `len` may have to decode the file once. Frames have the size they are
    stored in, which may change within a file. Safe to pass to worker processes: each opens the file for itself.

    Args:
        path: a file FFmpeg can read.

    Attributes:
        frame_rate: average frames a second between the first and the last stamp; 0 where unknown.
        notes: what was left out or repaired, in sentences that name the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder, pipe or device, not a video, or a video without frames.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.notes: list[str] = []
        self.frame_rate = 0.0
        require_file(self.path)
        self._stamps: Int64[np.ndarray, frames] | None = None  # of the frames; None: they are counted
        self._keys = np.empty((0, 2), np.int64)  # stamp, and where to seek, of the key frames; none: no seeking
        self._count, self._packets = -1, 0
        self._damaged: set[int] = set()  # frames that came with errors
        self._shown: Range | None = None
        self._decoder: _Decoder | None = None
        try:
            self._scan()
        except av.error.FFmpegError as error:
            missing = missing_bytes(self.path)
            what = f"its last {missing:,} bytes are missing" if missing else error.strerror
            raise ValueError(
                f"cannot open {self.path} as a video: {what}; expected a whole file that FFmpeg reads "
                f"({' '.join(VIDEO_SUFFIXES)}) or a folder of images; copy it again or convert it"
            ) from error

    @property
    def counted(self) -> bool:
        """Whether `len` is known without decoding the file."""
        return self._count >= 0

    def __len__(self) -> int:
        if not self.counted:
            self._count_frames()
        return self._count

    def __getitem__(self, index: int) -> Image:
        index = position(index, len(self), self.path)
        return self._image(self._opened().read(index), index)

    def __iter__(self) -> Iterator[Image]:
        """All frames in order."""
        if self._stamps is not None:
            yield from (self[index] for index in range(len(self)))
            return
        index = -1
        for index, frame in enumerate(_Decoder(self.path).frames):
            yield self._image(frame, index)
        self._tell_lost(index + 1)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_decoder": None}

    def close(self) -> None:
        """Close the file; the next frame asked for opens it again, without reading its stamps again."""
        self._decoder = None

    def _opened(self) -> "_Decoder":
        # After a fork the open file would be shared with the parent, and so would its position.
        if self._decoder is None or self._decoder.process != os.getpid():
            self._decoder = _Decoder(self.path, self._stamps, self._keys)
        return self._decoder

    def _image(self, frame: Any, index: int) -> Image:
        if frame is None:
            raise ValueError(
                f"cannot decode frame {index} of {self.path} ({len(self)} frames announced): the file is damaged, cut "
                f"off, or changes its size there; write it anew, for example ffmpeg -i {self.path.name} fixed.mp4"
            )
        check_size(frame.width, frame.height, f"frame {index} of {self.path}")
        if frame.is_corrupt:
            self._tell_damaged(index)
        return as_image(frame, self._shown_values() if _is_deep(frame) else None)

    def _shown_values(self) -> Range:
        """Of a video of more than 8 bits: the same whichever frame is asked for first."""
        if self._shown is None:
            decoder = _Decoder(self.path, self._stamps, self._keys)
            frames = (decoder.read(index) for index in spread(len(self)))
            self._shown = value_range(_deep_values(frame) for frame in frames if frame is not None)
        return self._shown

    def _scan(self) -> None:
        """Read the stamps of all packets, and decode the first frames."""
        with _open(self.path) as container:
            stream = _best_stream(container, self.path)
            codec = stream.codec_context.codec
            restarts = codec.name in _RESTARTING or bool(codec.properties & Properties.INTRA_ONLY.value)
            reorders = bool(codec.properties & Properties.REORDER.value)
            indexed = container.format.name in INDEXED and restarts
            trusted = container.format.name in STAMPED or (container.format.name == "avi" and not reorders)
            declared, base = stream.average_rate or 0, float(stream.time_base or 0)
            stamps, packets, keys = read_packets(container, stream, by_dts=container.format.name == STAMPED[0])
            self.notes += cut_short(self.path, container.format.name, packets, stream.frames)
        head = [frame.pts for frame in islice(_Decoder(self.path).frames, _LOOKED_AT)]
        if not head:
            raise ValueError(f"{self.path} holds no frame that can be decoded")
        rising = None not in head and all(a < b for a, b in pairwise(head))
        begins = np.flatnonzero(stamps == head[0]) if rising else np.empty(0, np.int64)
        # Only what comes soon after: in joined recordings stamps begin anew.
        leading = int((stamps[: int(begins[0]) + _LOOKED_AT] < head[0]).sum()) if len(begins) else 0
        if leading:
            self.notes.append(
                f"{self.path} begins in the middle of a scene: its first {leading} frames cannot be decoded and are "
                "left out"
            )
        self._packets = packets.shown - leading
        stamps = np.sort(stamps)[leading:]
        ordered = len(stamps) == self._packets and bool((np.diff(stamps) > 0).all())
        self.frame_rate = _rate(stamps, base, float(declared)) if ordered else float(declared)
        if trusted and ordered and head == stamps[: len(head)].tolist():
            self._stamps, self._count = stamps, len(stamps)
        if indexed and (np.diff(keys, axis=0) > 0).all():
            self._keys = keys

    def _count_frames(self) -> None:
        """Decode the whole file; stamps that turn out right serve from then on."""
        stamps = [frame.pts for frame in _Decoder(self.path).frames]
        self._tell_lost(len(stamps))
        self._count = len(stamps)
        if len(self._keys) and None not in stamps and all(a < b for a, b in pairwise(stamps)):
            self._stamps = np.array(stamps, np.int64)
        self._decoder = None

    def _tell_damaged(self, index: int) -> None:
        """Note a frame that came with errors; one note for all of them."""
        old = self._damage()
        self._damaged.add(index)
        if old in self.notes:
            self.notes.remove(old)
        self.notes.append(self._damage())

    def _damage(self) -> str:
        first = min(self._damaged, default=0)
        return f"{self.path} is damaged: {len(self._damaged)} of its pictures came with errors, first frame {first}"

    def _tell_lost(self, count: int) -> None:
        """Note where packets gave no frame; it takes reading all of them to know."""
        note = f"{self.path} has {self._packets} pictures, of which {count} can be decoded: it is damaged"
        if count < self._packets and note not in self.notes:
            self.notes.append(note)


class _Decoder:
    """One open file and the place where it stands."""

    def __init__(
        self,
        path: Path,
        stamps: Int64[np.ndarray, "frames"] | None = None,
        keys: Int64[np.ndarray, "keys 2"] | None = None,
    ) -> None:
        self.process = os.getpid()
        self.path, self.stamps = path, stamps
        self.keys = np.empty((0, 2), np.int64) if keys is None else keys
        self.restart()

    def restart(self) -> None:
        """Stand before the first frame."""
        self.container = _open(self.path)
        self.stream = _best_stream(self.container, self.path)
        # No threads, here and in `as_image`: a worker that was forked from a process that had read the video drops
        # that process's decoder, and would wait for ever for its threads, which were not forked.
        self.stream.codec_context.thread_count = 1
        self.sought, self.next = False, 0  # next: number of the frame that comes now
        self.frames = self._decode(self.container.demux(self.stream))

    def read(self, index: int) -> Any:
        """Frame `index`; None where it does not decode."""
        frame: Any = None
        if self.stamps is None:
            if index < self.next:
                self.restart()
            frame = next(islice(self.frames, index - self.next, None), None)
            self.next = index + 1
            return frame
        wanted = int(self.stamps[index])
        place = self._key_before(wanted)
        if index == self.next or (self.next <= index and self._stands_behind(place)):
            frame = self._forward(index, wanted)
        for key in range(place, max(place - 2, -1), -1):
            if frame is None and self._seek(int(self.keys[key, 1]), wanted):
                frame = self._forward(index, wanted)
        if frame is None and (self.sought or self.next != 0):
            self.restart()
            frame = self._forward(index, wanted)
        return frame

    def _stands_behind(self, place: int) -> bool:
        """Whether the key frame before the wanted frame lies behind: decoding on is the shortest way."""
        assert self.stamps is not None
        return place < 0 or self.next == 0 or bool(self.keys[place, 0] <= self.stamps[self.next - 1])

    def _key_before(self, stamp: int) -> int:
        """Position of the key frame at this stamp or the last one before; -1: none."""
        return int(np.searchsorted(self.keys[:, 0], stamp, side="right")) - 1

    def _forward(self, index: int, wanted: int) -> Any:
        """The frame of this stamp, by decoding on; None where it does not come."""
        self.next = index + 1
        for frame in self.frames:
            if frame.pts is not None and frame.pts >= wanted:
                return frame if frame.pts == wanted and not (self.sought and frame.is_corrupt) else None
        return None

    def _seek(self, place: int, wanted: int) -> bool:
        """Go to a key frame; whether it arrived at one from which the wanted frame decodes.

        The key frame itself must come out first, and be coded by itself: where H.264 refreshes a picture bit by bit,
        what comes after a "key frame" depends on frames before it.
        """
        self.sought = True
        try:
            self.container.seek(place, stream=self.stream, backward=True)
            packets = self.container.demux(self.stream)
            first = next(packets)
        except (av.error.FFmpegError, StopIteration):
            return False
        at = first.pts
        if at is None or at > wanted or not first.is_keyframe or self.keys[self._key_before(at), 0] != at:
            return False
        frames = self._decode(chain([first], packets))
        key = next((frame for frame in frames if frame.pts is not None and frame.pts >= at), None)
        self.frames = chain([key], frames)
        return key is not None and key.pts == at and key.pict_type == PictureType.I and not key.is_corrupt

    def _decode(self, packets: Iterator[Any]) -> Iterator[Any]:
        """The frames of packets; what cannot be decoded gives none."""
        while True:
            try:
                frames = next(packets).decode()
            except StopIteration:
                return
            except av.error.FFmpegError:
                continue
            yield from frames


def as_image(frame: Any, shown: Range | None = None) -> Image:
    """A decoded frame as RGB, turned upright by its file's display matrix.

    Args:
        frame: of FFmpeg, of any pixel format.
        shown: which values are black and white, where it is grey of more than 8 bits; None: by the frame's own values.
    """
    if _is_deep(frame):
        values = _deep_values(frame)
        pixels = to_rgb8(values, shown or value_range([values]))
    else:
        pixels = np.asarray(frame.to_ndarray(format="rgb24", threads=1), np.uint8)  # no threads: see `_Decoder`
    # not frame.side_data: frame and container would hold each other, and hundreds of frames wait for the collector
    matrix = SideDataContainer(frame).get(Type.DISPLAYMATRIX)  # type: ignore[call-arg]  # its stub has none
    return upright(pixels, None if matrix is None else np.frombuffer(bytes(matrix), np.int32))


def require_file(path: Path) -> None:
    """Refuse what is no regular file: opening a pipe would block.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: a folder, a pipe or a device.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # a NUL in the name is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise FileNotFoundError(f"no video file {printable(str(path))[:_LONGEST]} ({reason})") from None
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe or socket" if not stat.S_ISCHR(mode) else "a device"
        raise ValueError(f"{path} is {what}, no video file; write its frames to a file first")


def _open(path: Path) -> Any:
    """The file through FFmpeg, whatever its name looks like; it may lead to no other place.

    Raises:
        ValueError: of a format that is not read.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(READ), "max_pixels": str(MAX_PIXELS)}
    try:
        return av.open(f"file:{path}", options=options, **ANY_TITLE)
    except av.error.ArgumentError:
        raise ValueError(
            f"cannot open {path} as a video: it is no video file, or one that names other files (a playlist), which "
            f"are not followed; expected {' '.join(VIDEO_SUFFIXES)} or a folder of images"
        ) from None


def _best_stream(container: Any, path: Path) -> Any:
    """The video that a player would show, and no cover picture.

    Raises:
        ValueError: there is none.
    """
    moving = [stream for stream in container.streams.video if not stream.disposition & _NO_VIDEO]
    if not moving:
        found = ", ".join(sorted({stream.type for stream in container.streams})) or "none"
        cover = " and the video is a cover picture" if container.streams.video else ""
        raise ValueError(f"{path} holds no video (its streams: {found}{cover})")
    moving = [stream for stream in moving if stream.frames != 1] or moving  # 0: unknown
    best = container.streams.best("video")
    stream = best if best in moving else moving[0]
    if stream.codec_context is None:
        raise ValueError(f"{path} holds a video that this FFmpeg cannot decode; convert it to H.264 in MP4")
    check_size(max(stream.codec_context.width, 1), max(stream.codec_context.height, 1), path)
    return stream


def _rate(stamps: Int64[np.ndarray, "frames"], base: float, declared: float) -> float:
    """Frames a second from the first to the last stamp; as declared where that puts the last one at its time."""
    seconds = float(stamps[-1] - stamps[0]) * base if len(stamps) > 1 else 0.0
    if not seconds or abs(seconds * declared - (len(stamps) - 1)) <= 1.5:
        return declared
    return (len(stamps) - 1) / seconds


def _is_deep(frame: Any) -> bool:
    """Grey of more than 8 bits, as thermal cameras write it."""
    return len(frame.format.components) == 1 and frame.format.components[0].bits > 8


def _deep_values(frame: Any) -> Shaped[np.ndarray, "height width"]:
    kind = "grayf32le" if frame.format.name.startswith("grayf32") else "gray16le"
    return np.asarray(frame.to_ndarray(format=kind, threads=1))
