"""Tiny video files of every container and codec, and the odd ones that real archives hold."""

import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

W, H, COUNT = 64, 48, 40
KEYS = 8  # frames between key frames

# name -> (encoder, pixel format, its options); h264 with frames that look both ways, open groups, no key frames at all
CODECS: dict[str, tuple[str, str, dict[str, str]]] = {
    "mpeg1": ("mpeg1video", "yuv420p", {"bf": "2"}),
    "mpeg2": ("mpeg2video", "yuv420p", {"bf": "2"}),
    "mpeg4": ("mpeg4", "yuv420p", {"bf": "2"}),
    "mpeg4one": ("mpeg4", "yuv420p", {"bf": "1"}),
    "h264": ("libx264", "yuv420p", {"bf": "3", "x264-params": "threads=1"}),
    "h264open": ("libx264", "yuv420p", {"bf": "3", "x264-params": "open-gop=1:threads=1"}),
    "h264refresh": ("libx264", "yuv420p", {"x264-params": "intra-refresh=1:threads=1"}),
    "hevc": ("libx265", "yuv420p", {"x265-params": f"keyint={KEYS}:bframes=3:pools=none:frame-threads=1:log-level=0"}),
    "vp8": ("libvpx", "yuv420p", {"auto-alt-ref": "1", "lag-in-frames": "9", "deadline": "realtime"}),
    "vp9": ("libvpx-vp9", "yuv420p", {"auto-alt-ref": "1", "lag-in-frames": "9", "deadline": "realtime"}),
    "av1": ("libsvtav1", "yuv420p", {"preset": "12"}),
    "prores": ("prores_ks", "yuv422p10le", {}),
    "mjpeg": ("mjpeg", "yuvj420p", {}),
    "ffv1": ("ffv1", "yuv420p", {}),
    "msmpeg4": ("msmpeg4", "yuv420p", {}),
    "wmv2": ("wmv2", "yuv420p", {}),
    "png": ("png", "rgb24", {}),
    "raw": ("rawvideo", "yuv420p", {}),
}


def pictures(count: int = COUNT, width: int = W, height: int = H) -> list[np.ndarray]:
    """Frames that move over noise, no two alike."""
    noise = np.random.default_rng(0).integers(64, 192, (height + count, width + count, 3), np.uint8)
    made = [noise[k // 2 : k // 2 + height, k : k + width].copy() for k in range(count)]
    for k, picture in enumerate(made):
        picture[:8, :8] = 5 * k % 256
    return made


def encode(
    path: Path,
    codec: str = "h264",
    *,
    frames: Sequence[np.ndarray] | None = None,
    container: str | None = None,
    options: dict[str, str] | None = None,
    times: Iterable[int] | None = None,
) -> Path:
    """Write a video, with key frames every `KEYS` pictures; `times` of the frames are in milliseconds."""
    encoder, pixels, settings = CODECS[codec]
    frames = pictures() if frames is None else frames
    with av.open(f"file:{path}", "w", format=container, options=options or {}) as output:
        stream = output.add_stream(encoder, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.options = pixels, {**settings, "g": str(KEYS)}
        stream.codec_context.thread_count = 1
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for picture, time in zip(frames, times or range(len(frames)), strict=True):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            if times is not None:
                frame.pts, frame.time_base = time, Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def remux(
    source: Path,
    path: Path,
    change: Callable[[list[Any]], Sequence[Any]] = lambda packets: packets,
    *,
    container: str | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Copy the packets of a video, changed, into another file."""
    with av.open(str(source)) as opened, av.open(str(path), "w", format=container, options=options or {}) as output:
        stream = output.add_stream_from_template(opened.streams.video[0])
        packets = [packet for packet in opened.demux(opened.streams.video[0]) if packet.size]
        for packet in change(packets):
            packet.stream = stream
            output.mux(packet)
    return path


def in_order(path: Path) -> list[np.ndarray]:
    """All frames as FFmpeg gives them from the start: what random access must repeat bit for bit."""
    decoded = []
    with av.open(f"file:{path}") as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            try:
                decoded += [frame.to_ndarray(format="rgb24") for frame in packet.decode()]
            except av.error.FFmpegError:
                continue
    return decoded


def repack(packets: Sequence[Any]) -> list[Any]:
    """MPEG-4 with one B frame as DivX packs it: a P with the B that follows, then an empty frame."""
    made: list[av.Packet] = []
    waiting = list(packets)
    while waiting:
        first = waiting.pop(0)
        data = [bytes(first)]
        if waiting and _kind(bytes(waiting[0])) == 2:  # a B frame
            data = [data[0] + bytes(waiting.pop(0)), bytes.fromhex("000001b65f")]
        for part in data:
            packet = av.Packet(part)
            packet.pts = packet.dts = len(made)
            packet.time_base, packet.is_keyframe = Fraction(1, 25), first.is_keyframe and part is data[0]
            made.append(packet)
    return made


def _kind(data: bytes) -> int:
    """Of an MPEG-4 frame: 0 I, 1 P, 2 B (the two bits after its start code)."""
    return data[data.index(b"\0\0\1\xb6") + 4] >> 6


def bomb(width: int, height: int) -> bytes:
    """A PNG of a hundred bytes that says it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )
