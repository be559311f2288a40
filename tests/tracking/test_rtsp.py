"""Cameras that speak RTSP: a small server (RFC 2326, RTP in the same connection, H.264 by RFC 6184) sends a clip."""

import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from tests.data.clips import COUNT, encode, in_order

from seqtrack_lit.tracking.source import open_source

pytestmark = pytest.mark.timeout(60)
PAYLOAD = 1400  # bytes of a packet, so that pictures come in several
SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\nc=IN IP4 0.0.0.0\r\n"
    "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=framerate:25\r\na=control:track\r\n"
)


def packets(path: Path) -> list[bytes]:
    """A clip as RTP packets."""
    made: list[bytes] = []
    with av.open(str(path)) as container:
        for picture, packet in enumerate(container.demux(video=0)):
            units = [unit.rstrip(b"\0") for unit in bytes(packet).split(b"\0\0\1") if unit.strip(b"\0")]
            parts = [part for unit in units for part in fragments(unit)]
            for part in parts:
                head = struct.pack(">BBHII", 0x80, 96 | 128 * (part is parts[-1]), len(made), picture * 3600, 7)
                made.append(head + part)
    return made


def fragments(unit: bytes) -> list[bytes]:
    """A unit of H.264 in one packet, or its parts (FU-A)."""
    if len(unit) <= PAYLOAD:
        return [unit]
    parts = [unit[at : at + PAYLOAD] for at in range(1, len(unit), PAYLOAD)]
    flags = [0x80, *[0] * (len(parts) - 2), 0x40]
    return [bytes([unit[0] & 0xE0 | 28, unit[0] & 0x1F | flag]) + part for flag, part in zip(flags, parts, strict=True)]


class Camera(socketserver.StreamRequestHandler):
    """Answers what a client asks; sends the packets on PLAY, then ends the connection or falls silent."""

    sent: list[bytes]
    silent = False

    def handle(self) -> None:
        while request := self.rfile.readline().decode():
            heads = {}
            while line := self.rfile.readline().decode().strip():
                key, _, value = line.partition(": ")
                heads[key.lower()] = value
            method, address, _ = request.split()
            if "gone" in address:
                self.answer("404 Not Found", heads)
            elif method == "DESCRIBE":
                self.answer("200 OK", heads, {"Content-Type": "application/sdp"}, SDP)
            else:
                self.answer("200 OK", heads, {"Session": "1", "Transport": heads.get("transport", "")})
            if method == "PLAY":
                for packet in self.sent:
                    self.wfile.write(b"$\0" + struct.pack(">H", len(packet)) + packet)
                if not self.silent:
                    return
                time.sleep(3)

    def answer(self, status: str, heads: dict[str, str], more: dict[str, str] | None = None, body: str = "") -> None:
        given = {"CSeq": heads["cseq"], "Content-Length": str(len(body)), **(more or {})}
        lines = "".join(f"{key}: {value}\r\n" for key, value in given.items() if value)
        self.wfile.write(f"RTSP/1.0 {status}\r\n{lines}\r\n{body}".encode())


@contextmanager
def camera(sent: list[bytes], *, silent: bool = False) -> Iterator[str]:
    handler = type("Handler", (Camera,), {"sent": sent, "silent": silent})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"rtsp://user:secret@127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """H.264 without a container; the parameter sets come with every key frame."""
    return encode(tmp_path / "a.h264")


def test_every_picture_of_a_camera(clip: Path) -> None:
    with camera(packets(clip)) as address:
        source = open_source(f"{address}/live")
        assert (source.count, source.again) == (None, None)
        assert "secret" not in source.name
        found = list(source.frames)
    assert [image.mean() for image in found] == [image.mean() for image in in_order(clip)]
    np.testing.assert_array_equal(found, in_order(clip))


def test_a_camera_that_falls_silent(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came is kept, and the message says after how many pictures; it takes no longer than a stream may."""
    monkeypatch.setattr("seqtrack_lit.tracking.source._SECONDS", 1)
    with camera(packets(clip), silent=True) as address:
        frames, found = open_source(f"{address}/live").frames, []
        with pytest.raises(
            ValueError, match=rf"source=rtsp://127.*the stream broke off after {COUNT} frames"
        ) as caught:
            found.extend(frames)
    assert "secret" not in str(caught.value)


def test_an_address_that_the_camera_has_not(clip: Path) -> None:
    with camera(packets(clip)) as address, pytest.raises(FileNotFoundError, match=r"cannot be opened: .*404") as caught:
        open_source(f"{address}/gone")
    assert "secret" not in str(caught.value)
