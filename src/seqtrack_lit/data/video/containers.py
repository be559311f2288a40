"""Containers of video files: which are read, their packets, and whether a file is cut short."""

from array import array
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import av
import av.error
import numpy as np
from jaxtyping import Int64

STAMPED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")  # containers that store when a frame is shown, and an index
INDEXED = (*STAMPED, "avi")
# FFmpeg's names of containers and bare streams that hold their pictures themselves. Left out is what leads to other
# files or addresses (concat, hls, dash, sdp, imf, avisynth, vobsub, image2 ...), makes pictures of texts (tty), or
# needs a size that is not in the file (rawvideo).
READ = (
    *("mov", "matroska", "avi", "mpeg", "mpegts", "mpegvideo", "asf", "flv", "ogg", "mxf", "gxf", "nut", "ivf", "dv"),
    *("rm", "wtv", "nsv", "swf", "yuv4mpegpipe", "obu", "av1", "h261", "h263", "h264", "hevc", "vvc", "m4v", "vc1"),
    *("vc1test", "mjpeg", "dirac", "cavsvideo", "gif", "apng"),
)
# The outermost boxes of mp4 and mov; anything else there is not theirs, as what cameras append.
_BOXES = (
    b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"mfra", b"sidx", b"styp", b"uuid", b"emsg",
    b"meta", b"pnot", b"prft", b"ssix", b"pdin",
)  # fmt: skip
# Titles need not be UTF-8. Before version 19 PyAV refuses such a file unless told otherwise.
ANY_TITLE = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # Matroska: a header, then one element with all the rest


class Packets(NamedTuple):
    """How many packets a file holds: that show something, that are whole, that are cut off."""

    shown: int
    whole: int
    cut: int


def read_packets(
    container: Any, stream: Any, *, by_dts: bool
) -> tuple[Int64[np.ndarray, "packets"], Packets, Int64[np.ndarray, "keys 2"]]:
    """Stamps of packets that show something, as they come; how many there are; key frames: stamp, and where to seek.

    Nothing else is kept of a packet: an hour of video is 100,000 of them.
    """
    stamps, keys, shown, whole, cut = array("q"), array("q"), 0, 0, 0
    indexed = container.format.name in INDEXED  # elsewhere "corrupt" means that something before may be lost
    hides = stream.codec_context.codec.canonical_name == "vp8"
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt and indexed:
                cut += 1
                continue
            whole += packet.size > 0 or packet.dts is not None  # the last one flushes the decoder
            if not packet.size:
                continue
            pts, dts = packet.pts, packet.dts
            if packet.is_keyframe and pts is not None:
                keys.extend((pts, dts if by_dts and dts is not None else pts))
            # Outside of an edit list; or a frame of VP8 that only serves others (RFC 6386, 9.1: bit 4).
            if packet.is_discard or (hides and not memoryview(packet)[0] & 0x10):
                continue
            shown += 1
            if pts is not None:
                stamps.append(pts)
    except av.error.FFmpegError:
        if not shown:
            raise
    return np.array(stamps, np.int64), Packets(shown, whole, cut), np.array(keys, np.int64).reshape(-1, 2)


def cut_short(path: Path, container: str, packets: Packets, announced: int) -> list[str]:
    """A sentence on a file that ends too early.

    Args:
        path: the file.
        container: FFmpeg's name of it.
        packets: what was found in it.
        announced: number of packets in its header; 0 where it has none.
    """
    missing = missing_bytes(path)
    lacks = container == "avi" and packets.whole < announced  # of an mp4, an edit list takes pictures away
    if not (missing or packets.cut or lacks):
        return []
    end = f"its last {missing:,} bytes are missing" if missing else "its end is missing"
    of = f" of {announced:,}" if announced > packets.whole else ""
    return [f"{path} is cut short: {end}; {packets.whole:,}{of} pictures are whole"]


def missing_bytes(path: Path) -> int:
    """How many bytes more the outermost boxes of an mp4, mov, mkv or webm announce than the file has; 0: none.

    Sources: ISO/IEC 14496-12, 4.2; RFC 8794, 4 to 6.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        end = _matroska_end(file) if file.read(4) == _EBML else _boxes_end(file, size)
    return max(end - size, 0)


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Where the last outermost box ends; 0 where there is none, or one that has no end of its own."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:], "big")
        if head[4:8] not in _BOXES or length < 8:
            return 0
        at += length
    return at


def _matroska_end(file: BinaryIO) -> int:
    """Where the segment ends; 0 where that is not stored, as in a live recording."""
    file.seek(4)
    header = _length(file)
    if header is None:
        return 0
    file.seek(header, 1)
    if file.read(4) != _SEGMENT:
        return 0
    segment = _length(file)
    return 0 if segment is None else file.tell() + segment


def _length(file: BinaryIO) -> int | None:
    """A length of 1 to 8 bytes, their number in the leading zeros of the first; None: unknown, or none."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    rest = file.read(more)
    value = int.from_bytes(first + rest, "big") & ((1 << 7 * (more + 1)) - 1)
    return None if len(rest) < more or value == (1 << 7 * (more + 1)) - 1 else value
