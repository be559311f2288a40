"""Images on disk as `Frames`: opened one by one, RGB uint8 whatever the file holds."""

import io
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
import simplejpeg
from jaxtyping import Int32, Shaped, UInt8
from PIL import Image as Pillow
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from seqtrack_lit.crops import Image, ImagePart
from seqtrack_lit.data.video.sequence import position
from seqtrack_lit.files import read_bytes

MAX_PIXELS = 2**27  # 16384 x 8192; a forged header of 30000 x 30000 would take 5 GB
SAMPLES = 9  # frames of a video that are looked at for its range of values

Range = tuple[float, float]  # the value shown black, and the first one beyond white


def check_size(width: int, height: int, what: object) -> None:
    """Refuse a picture before memory is taken for it.

    Raises:
        ValueError: it has no pixel, or more than `MAX_PIXELS`.
    """
    if width * height > MAX_PIXELS or min(width, height) < 1:
        raise ValueError(
            f"{what} says it has {width} x {height} pixels; expected 1 to {MAX_PIXELS / 1e6:.0f} million: the file is "
            "damaged, or make it smaller"
        )


def spread(count: int) -> list[int]:
    """Positions of at most `SAMPLES` frames, evenly over a video of `count`."""
    return sorted({round(i * (count - 1) / (SAMPLES - 1)) for i in range(SAMPLES)}) if count else []


def value_range(samples: Iterable[Shaped[np.ndarray, "..."]]) -> Range:
    """Which values of a video of more than 8 bits are shown black and white: the same for all of its frames.

    Photographs use the whole range of their type (0 to 65535, or 0 to 1) and keep it. Thermal and scientific cameras
    fill a small part of it, which would become a few grey levels: where less than a quarter is used, it is stretched,
    but for a thousandth of the values at either end of a frame.

    Args:
        samples: some frames of the video, any shape.
    """
    low, high, top = np.inf, -np.inf, 1.0
    for values in samples:
        top = float(np.iinfo(values.dtype).max) + 1 if values.dtype.kind in "iu" else 1.0
        finite = values[np.isfinite(values)]
        if finite.size:
            ends = np.percentile(finite, (0.1, 99.9))
            low, high = min(low, float(ends[0])), max(high, float(ends[1]))
    if low > high or (low >= 0 and high <= top and high - low >= top / 4):
        return 0.0, top
    return low, max(high, float(np.nextafter(np.float32(low), np.float32(np.inf))))


def to_rgb8(values: Shaped[np.ndarray, "..."], shown: Range) -> Image:
    """Grey [H W] or colour [H W 3] of any depth as RGB uint8; NaN is black."""
    low, high = shown
    scaled = np.nan_to_num((values.astype(np.float64) - low) * (256 / (high - low)), nan=0.0)
    image = np.clip(scaled, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(image if image.ndim == 3 else np.repeat(image[..., None], 3, 2))


def upright(image: UInt8[np.ndarray, "rows columns 3"], matrix: Int32[np.ndarray, "9"] | None) -> Image:
    """Turn and mirror an image by the display matrix of its file, to the nearest quarter of a turn.

    Args:
        image: as it is stored.
        matrix: nine numbers a b u c d v x y w (ISO/IEC 14496-12, 6.2.2): a stored pixel (p, q) is shown at
            (a p + c q, b p + d q); None where the file has none.
    """
    if matrix is None:
        return image
    a, b, _, c, d = (int(value) for value in matrix[:5])
    if abs(a) + abs(d) < abs(b) + abs(c):  # x is shown along y
        image, a, d = image.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
_LARGEST = 2**29  # bytes of a file
_DEEP = ("I", "F")  # Pillow's modes of 32 bits, which OpenCV reads as they are only
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # our errors say the same


def read_image(path: str | Path, shown: Range | None = None) -> Image:
    """One image as RGB uint8 [H W 3]; grey is repeated, transparency is dropped.

    Args:
        path: the file.
        shown: which values are black and white, of an image of more than 8 bits; None: by the image's own values
            (`pixels.value_range`). Frames of one video share it, see `NumberedFrames` and `ListedFrames`.

    Raises:
        ValueError: the file is missing, empty, cut off, too large, no file, or no image that OpenCV reads.
    """
    values = _read(path)
    if values.dtype == np.uint8:
        return np.asarray(values, np.uint8)
    return to_rgb8(values, shown or value_range([values]))


def image_bytes(path: str | Path) -> bytes:
    """The content of an image file.

    Raises:
        ValueError: as `read_image`.
    """
    try:
        return read_bytes(Path(path), largest=_LARGEST)  # and not cv2.imread, which fails silently, dislikes some names
    except OSError as error:
        raise ValueError(
            f"cannot read image {path}: {error.strerror or 'No such file or directory'}; the frame belongs to an "
            "annotated video, so the download or the unpacking is incomplete: unpack it again"
        ) from error


def _read(path: str | Path) -> Shaped[np.ndarray, "..."]:
    """See `decode_image`."""
    return decode_image(image_bytes(path), path)


def decode_image(data: bytes, path: str | Path) -> Shaped[np.ndarray, "..."]:
    """The values of an image as they are stored: [H W 3] in RGB order, or [H W].

    Args:
        data: the content of its file.
        path: of the file, for messages.

    Raises:
        ValueError: as `read_image`.
    """
    jpeg = _decode_jpeg(data, path)
    if jpeg is not None:
        return jpeg
    mode = _check_header(data, path)
    values = None
    if mode is not None:
        kind = cv2.IMREAD_UNCHANGED if mode in _DEEP else cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH
        values = cv2.imdecode(np.frombuffer(data, np.uint8), kind)
        if values is not None and mode in _DEEP and values.ndim == 3:
            values = values[..., 2::-1]
    if values is None:
        raise ValueError(
            f"cannot read image {path} ({len(data)} bytes): empty, cut off or not an image; unpack or download "
            "it again (seqtrack-data check=NAME lists all such files)"
        )
    return np.asarray(values)


def jpeg_size(data: bytes, path: str | Path) -> tuple[int, int] | None:
    """Height and width of a JPEG in grey or colour that is shown as it is stored; None: another kind.

    Args:
        data: the content of its file, or the beginning of it.
        path: of the file, for messages.
    """
    if not data.startswith(b"\xff\xd8\xff") or b"Exif\0\0" in _before_pixels(data):  # OpenCV turns it as its Exif says
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        check_size(width, height, path)
    except ValueError:
        return None
    return None if colours in ("CMYK", "YCCK") else (height, width)


def _before_pixels(data: bytes) -> bytes:
    """The segments of a JPEG before its first scan; all of it where they are not as they should be."""
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] not in (b"", b"\xff"):
        if data[at + 1] == 0xDA:
            return data[:at]
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data


def _decode_jpeg(data: bytes, path: str | Path) -> Image | None:
    """An ordinary JPEG, bit for bit as OpenCV decodes it and in half the time; None: another kind, or a damaged one."""
    if jpeg_size(data, path) is None:
        return None
    try:
        return np.asarray(simplejpeg.decode_jpeg(data))
    except ValueError:
        return None


def decode_reduced(data: bytes, path: str | Path, factor: int) -> ImagePart | None:
    """A JPEG at 1 / factor (1, 2, 4, 8) of its size by libjpeg's fast transforms; None where it is no ordinary one.

    Args:
        data: the content of its file.
        path: of the file, for messages.
        factor: 1, 2, 4 or 8.
    """
    size = jpeg_size(data, path)
    if size is None:
        return None
    height, width = (-(-side // factor) for side in size)
    try:
        pixels = simplejpeg.decode_jpeg(data, fastdct=True, fastupsample=True, min_height=height, min_width=width)
    except ValueError:
        return None
    return ImagePart(np.asarray(pixels), (0, 0, width * factor, height * factor), (*size, 3))


def _check_header(data: bytes, path: str | Path) -> str | None:
    """Pillow's mode of an image whose header has a bearable size; None where it is no image."""
    try:
        with warnings.catch_warnings(action="ignore"), Pillow.open(io.BytesIO(data)) as image:
            (width, height), mode = image.size, image.mode
    except Pillow.DecompressionBombError:
        raise ValueError(f"{path} says it has far more pixels than a frame: it is damaged; make it smaller") from None
    except Exception:  # Pillow lets through whatever its readers stumble over
        try:
            directory, file = ImageFileDirectory_v2(data[:8]), io.BytesIO(data)  # a TIFF of 32-bit colours, unknown
            file.seek(directory.next)
            directory.load(file)
            (width, height), mode = (int(directory[tag]) for tag in (256, 257)), "F"
        except Exception:
            return None
    check_size(width, height, path)
    return mode


@lru_cache(maxsize=256)
def _range_of(paths: tuple[str, ...]) -> Range:
    """The range of values of a video of more than 8 bits, from some of its frames."""

    def samples() -> Iterator[Shaped[np.ndarray, "..."]]:
        for path in paths:
            try:
                values = _read(path)
            except ValueError:
                continue  # an error when this frame is read
            if values.dtype != np.uint8:
                yield values

    return value_range(samples())


class ImageFiles(ABC):
    """Frames in a file each, all with the same range of values."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def path(self, index: int) -> str:
        """Where frame `index` (0-based) lies."""

    def __getitem__(self, index: int) -> Image:
        values = _read(self.path(index))
        if values.dtype == np.uint8:
            return np.asarray(values, np.uint8)
        return to_rgb8(values, _range_of(tuple(self.path(i) for i in spread(len(self)))))

    def reduced(self, index: int, factor: int) -> Image | ImagePart:
        """See `ReducibleFrames`."""
        path = self.path(index)
        reduced = decode_reduced(image_bytes(path), path, factor)
        return self[index] if reduced is None else reduced


@dataclass(frozen=True)
class NumberedFrames(ImageFiles):
    """Images named by consecutive numbers: `folder/{first + i:0{digits}d}{suffix}`."""

    folder: str
    first: int
    digits: int
    suffix: str
    count: int

    def __len__(self) -> int:
        return self.count

    def path(self, index: int) -> str:
        """Where frame `index` (0-based) lies."""
        number = self.first + position(index, self.count, self.folder)
        return f"{self.folder}/{number:0{self.digits}d}{self.suffix}"


@runtime_checkable
class FileNames(Protocol):
    """File names by position: a list, or a part of an index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> str: ...


@dataclass(frozen=True)
class ListedFrames(ImageFiles):
    """Images with names of any kind, in the order given, relative to `folder`."""

    folder: str
    files: FileNames

    def __len__(self) -> int:
        return len(self.files)

    def path(self, index: int) -> str:
        """Where frame `index` (0-based) lies."""
        return f"{self.folder}/{self.files[position(index, len(self.files), self.folder)]}"
