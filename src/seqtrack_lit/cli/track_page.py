"""A page on this machine to draw boxes, track, correct and export; the server listens on the loopback address alone.

Its address holds a secret, requests must name the loopback address as their host, and nothing but JSON is accepted: so
no other user of the machine and no other page in the browser can use it.
"""

import json
import re
import secrets
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import TypedDict

from seqtrack_lit.data.sets.exchange import EXPORTS, Clip, TargetBoxes, export
from seqtrack_lit.files import typed, write_atomic
from seqtrack_lit.pictures import encoded
from seqtrack_lit.tracking.tracker import check_first_box

if TYPE_CHECKING:
    from seqtrack_lit.tracking.output import TrackFiles
    from seqtrack_lit.tracking.source import Source

_LARGEST = 100_000  # bytes of a request
_POLICY = "default-src 'self'; img-src 'self' data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_MOST_TARGETS = 50
_MOST_ROWS = 20_000  # frames whose boxes are sent at once
Track = Callable[[list[TargetBoxes], Callable[["TrackFiles"], None]], "TrackFiles"]


class _Drawn(TypedDict):
    """A box that was drawn; None: removed."""

    frame: int
    target: int
    box: list[float] | None


class Page:
    """What the page shows and does.

    Args:
        source: a file or a folder; its frames are read as they are looked at.
        base: path of the result without its ending; boxes are kept in <base>_corrections.csv.
        targets: boxes to begin with.
        track: tracks and writes the files; None: the page only picks targets in the first frame.
    """

    def __init__(self, source: "Source", base: Path, targets: list[TargetBoxes], track: Track | None) -> None:
        assert source.again is not None
        self.source, self.base, self.track, self.frames = source, base, track, source.again
        self.count = len(source.again) if track else 1
        self.first = source.again[0]
        self.boxes: dict[tuple[int, int], list[float]] = {
            (int(frame), target): box.tolist()
            for target, one in enumerate(targets)
            for frame, box in zip(one.frames, one.boxes, strict=True)
        }
        self.kept = base.with_name(f"{base.name}_corrections.csv")
        self.before = self.kept.read_bytes() if self.kept.exists() else b""  # as this page left it
        self.lock, self.worker = threading.Lock(), threading.Thread()
        self.picked = threading.Event()
        self.result: TrackFiles | None = None
        self.version, self.error, self.stopped = 0, "", False
        self.token = secrets.token_urlsafe(16)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"page": self}))
        self.address = f"http://127.0.0.1:{self.server.server_port}/{self.token}/"

    def serve(self) -> None:
        """Answer until a target was picked, or for ever; Ctrl-C ends it."""
        thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        thread.start()
        try:
            while not self.picked.wait(0.5):
                pass
        finally:
            self._stop()  # what was tracked so far is written
            if self.worker.is_alive():
                self.worker.join()
            self.server.shutdown()
            self.server.server_close()

    def targets(self) -> list[TargetBoxes]:
        """The boxes that were drawn, by target; those without a box are left out."""
        found = []
        for target in sorted({target for _, target in self.boxes}):
            rows = sorted((frame, box) for (frame, of), box in self.boxes.items() if of == target)
            boxes = np.array([box for _, box in rows], np.float64)
            found.append(TargetBoxes(f"target {target}", np.array([f for f, _ in rows]), boxes, np.ones(len(rows))))
        return found

    def get(self, what: str) -> tuple[str, bytes]:
        """Kind and content of what is asked for.

        Raises:
            KeyError: there is no such thing.
        """
        if what == "":
            return "text/html; charset=utf-8", files(__package__).joinpath("track_page.html").read_bytes()
        if what == "state":
            return "application/json", json.dumps(self._state()).encode()
        asked = re.fullmatch(r"tracks/(\d{1,9})", what)
        if asked is not None and self.result is not None:
            first, rows = int(asked[1]), self.result.rows[int(asked[1]) :][:_MOST_ROWS].round(4).tolist()
            found = [[[None if value != value else value for value in row] for row in frame] for frame in rows]  # NaN
            return "application/json", json.dumps({"first": first, "rows": found}).encode()
        numbered = re.fullmatch(r"frame/(\d{1,9})", what)
        if numbered is None or int(numbered[1]) not in self.source.numbers[: self.count]:
            raise KeyError(what)
        with self.lock:
            image = self.frames[self.source.numbers.index(int(numbered[1]))]
        return "image/jpeg", encoded(image, ".jpg")

    def post(self, what: str, content: object) -> Mapping[str, object]:
        """Do what is asked for.

        Raises:
            KeyError: there is no such thing.
            ValueError: a box that no tracker can start on, or it cannot be done now.
        """
        if what == "boxes":
            self._draw(typed(content, _Drawn, "the request"))
        elif what == "track":
            self._start()
        elif what == "stop":
            self._stop()
        elif what == "export":
            kind = content.get("kind") if isinstance(content, dict) else None
            if kind not in EXPORTS or self.result is None or self.worker.is_alive():
                raise ValueError("track first, then export to mot, coco, cvat or yolo")
            return {"file": str(self._export(str(kind), self.result))}
        else:
            raise KeyError(what)
        return {}

    def _state(self) -> dict[str, object]:
        busy, task = self.worker.is_alive(), None
        if busy and self.result is not None:
            task = self.result.bar.tasks[0]
        return {
            "name": self.source.name, "frames": self.count, "rate": self.source.rate, "select": self.track is None,
            "start": self.source.numbers.start, "stride": self.source.numbers.step,
            "size": [self.first.shape[1], self.first.shape[0]], "busy": busy, "error": self.error,
            "version": self.version, "files": str(self.base),
            "tracked": self.result.frames if self.result else 0,
            "done": int(task.completed) if task else None, "total": task.total if task else None,
            "phase": task.description if task else "",
            "corrections": [[*key, *box] for key, box in sorted(self.boxes.items())],
        }  # fmt: skip

    def _draw(self, drawn: _Drawn) -> None:
        frame, target = drawn["frame"], drawn["target"]
        if frame not in self.source.numbers[: self.count] or not 0 <= target < _MOST_TARGETS:
            raise ValueError(f"frame {frame} or target {target}: there is no such one")
        if self.worker.is_alive():
            raise ValueError("tracking goes on; draw when it has ended")
        if (self.kept.read_bytes() if self.kept.exists() else b"") != self.before:
            raise ValueError(f"another page or program has changed {self.kept}; end this page and start it anew")
        if drawn["box"] is None:
            self.boxes.pop((frame, target), None)
        else:
            check_first_box(drawn["box"], self.first)
            self.boxes[frame, target] = [round(float(value), 2) for value in drawn["box"]]
        numbers = {target: place for place, target in enumerate(sorted({target for _, target in self.boxes}))}
        rows = sorted((frame, numbers[target], *box) for (frame, target), box in self.boxes.items())
        lines = "".join(f"{','.join(map(str, row))}\n" for row in rows)
        content = f"frame,target,x,y,w,h\n{lines}".encode()
        write_atomic(self.kept, content)
        self.before = content

    def _start(self) -> None:
        if not self.boxes or self.worker.is_alive():
            raise ValueError("draw a box first" if not self.boxes else "tracking goes on already")
        if self.track is None:
            self.picked.set()
            return
        self.error, self.stopped, self.result, track = "", False, None, self.track
        self.version += 1  # the page forgets the former boxes

        def watch(files: "TrackFiles") -> None:
            self.result, files.stop = files, self.stopped

        def work() -> None:
            try:
                track(self.targets(), watch)
            except (ValueError, OSError) as error:
                self.error = str(error)
            except Exception as error:  # a fault of ours: the page says so, the terminal says where
                self.error = f"{type(error).__name__}: {error}"
                traceback.print_exc()
            self.version += 1

        self.worker = threading.Thread(target=work, daemon=True)
        self.worker.start()

    def _stop(self) -> None:
        self.stopped = True
        if self.result is not None:
            self.result.stop = True

    def _export(self, kind: str, result: "TrackFiles") -> Path:
        rows = result.rows
        targets = [result.boxes_of(target, rows) for target in range(len(result.labels))]
        name = self.base.name.removesuffix("_tracked")
        return export(kind, self.base, targets, Clip(name, *result.size, result.numbers[: result.frames]))


class _Handler(BaseHTTPRequestHandler):
    """Requests to the page behind its secret."""

    page: Page

    def handle(self) -> None:
        """Requests of a connection; a browser that closes it early is no fault."""
        with suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        """Pictures, state and the page itself."""
        self._answer(lambda what: self.page.get(what))

    def do_POST(self) -> None:
        """Boxes, and what is to be done."""
        length = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Content-Type") != "application/json" or not 0 <= length <= _LARGEST:
            self._send(HTTPStatus.BAD_REQUEST, "application/json", b'{"error": "expected JSON"}')
            return
        body = self.rfile.read(length)
        self._answer(lambda what: ("application/json", json.dumps(self.page.post(what, json.loads(body))).encode()))

    def _answer(self, of: Callable[[str], tuple[str, bytes]]) -> None:
        port = self.page.server.server_port
        secret, _, what = self.path.lstrip("/").partition("/")
        own = self.headers.get("Host") in (f"127.0.0.1:{port}", f"localhost:{port}")
        if not own or not secrets.compare_digest(secret.encode(), self.page.token.encode()):
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"the address that seqtrack-track printed is needed")
            return
        try:
            self._send(HTTPStatus.OK, *of(what))
        except KeyError:
            self._send(HTTPStatus.NOT_FOUND, "application/json", b'{"error": "there is no such thing"}')
        except (ValueError, RecursionError) as error:
            self._send(HTTPStatus.BAD_REQUEST, "application/json", json.dumps({"error": str(error)[:500]}).encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind, "Content-Length": str(len(content)), "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
            "Content-Security-Policy": _POLICY,
        }  # fmt: skip
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing on the console for every picture."""
