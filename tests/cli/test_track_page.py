"""The page on this machine: secret, loopback, JSON alone; and in a real browser: draw, track, correct, export."""

import http.client
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from tests.browser import PHONE, needs_browser, opened, until
from tests.data.clips import COUNT, encode

from seqtrack_lit.cli import track
from seqtrack_lit.cli.track_page import Page
from seqtrack_lit.data.sets.exchange import Clip, read_boxes_of_targets
from seqtrack_lit.tracking.baselines import StaticBox
from seqtrack_lit.tracking.source import open_source

COMMAND = track


@pytest.fixture
def page(tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """The page that `ui=true` serves, with the static baseline."""
    encode(tmp_path / "a.mp4")
    pages: list[Page] = []
    ready, end = threading.Event(), threading.Event()

    def serve(page: Page) -> None:
        pages.append(page)
        serving = threading.Thread(target=page.server.serve_forever, daemon=True)
        serving.start()
        ready.set()
        end.wait(100)
        page.server.shutdown()
        page.server.server_close()

    monkeypatch.setattr(Page, "serve", serve)
    command = threading.Thread(target=run, args=("source=a.mp4", "baseline=static", "out=out", "ui=true"))
    command.start()
    assert ready.wait(60)
    yield pages[0]
    end.set()
    command.join()


def request(page: Page, way: str, what: str, body: object = None, **headers: str) -> tuple[int, bytes]:
    parts = urlsplit(page.address)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=20)
    sent = None if body is None else json.dumps(body)
    connection.request(way, what, sent, {"Content-Type": "application/json", **headers})
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_who_may_ask_for_what(page: Page, tmp_path: Path) -> None:
    path = urlsplit(page.address).path
    assert page.server.server_address[0] == "127.0.0.1"
    assert request(page, "GET", "/")[0] == 403
    assert request(page, "GET", path.replace(page.token, page.token[:-1]))[0] == 403
    assert request(page, "GET", path, Host="evil.example")[0] == 403  # DNS that leads a foreign name here
    assert (
        request(page, "POST", f"{path}track", {}, **{"Content-Type": "text/plain"})[0] == 400
    )  # a form of another page
    assert request(page, "GET", path)[0] == 200
    for what in ("frame/40", "frame/-1", "frame/../../etc/passwd", "../state", "tracks/0", "nothing"):
        assert request(page, "GET", path + what)[0] == 404, what
    for what, body, message in [
        ("boxes", {"frame": 99, "target": 0, "box": [1, 2, 30, 20]}, "there is no such one"),
        ("boxes", {"frame": 0, "target": 0, "box": [1, 2, 30]}, "four numbers"),
        ("boxes", {"frame": 0, "target": 0, "box": ["a"]}, "box"),
        ("boxes", [], "expected"),
        ("track", {}, "draw a box first"),
        ("export", {"kind": "mot"}, "track first"),
        ("export", {"kind": "../x"}, "track first"),
    ]:
        status, text = request(page, "POST", path + what, body)
        assert (status, message in json.loads(text)["error"] or message == "expected") == (400, True), (what, text)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*"))
    status, text = request(page, "GET", f"{path}frame/39")
    assert (status, text[:2]) == (200, b"\xff\xd8")


def test_two_pages_of_one_video(page: Page, tmp_path: Path) -> None:
    """Each has a port of its own, and neither writes over the boxes of the other."""
    source = open_source(str(tmp_path / "a.mp4"))
    other = Page(source, page.base, [], lambda given, watch: pytest.fail("not tracked here"))
    assert other.server.server_port != page.server.server_port
    other.server.server_close()
    page.post("boxes", {"frame": 3, "target": 0, "box": [5.0, 5.0, 20.0, 20.0]})
    page.post("boxes", {"frame": 4, "target": 0, "box": [6.0, 5.0, 20.0, 20.0]})
    kept = page.kept.read_text()
    with pytest.raises(ValueError, match=r"another page or program has changed .*a_tracked_corrections\.csv; end this"):
        other.post("boxes", {"frame": 9, "target": 0, "box": [5.0, 5.0, 20.0, 20.0]})
    assert page.kept.read_text() == kept
    assert not other.boxes


@needs_browser
def test_draw_track_correct_export(page: Page, tmp_path: Path) -> None:
    with opened(page.address, local=False) as browser:
        until(browser, "image.naturalWidth === 64")

        def draw(x: float, y: float, w: float, h: float) -> None:
            browser.locator("#picture").scroll_into_view_if_needed()
            picture = browser.locator("#picture").bounding_box()
            scale = picture["width"] / 64
            browser.mouse.move(picture["x"] + x * scale, picture["y"] + y * scale)
            browser.mouse.down()
            browser.mouse.move(picture["x"] + (x + w) * scale, picture["y"] + (y + h) * scale, steps=4)
            browser.mouse.up()

        draw(5, 5, 20, 20)
        until(browser, "state.corrections.length === 1")
        browser.locator("#track").click()
        until(browser, "!state.busy && rows.length === 40")
        browser.evaluate("go(20)")
        until(browser, "shown === 20")
        draw(15, 5, 20, 20)
        until(browser, "state.corrections.length === 2")
        browser.locator("#more").click()
        draw(30, 20, 10, 10)
        until(browser, "state.corrections.length === 3")
        browser.locator("#track").click()
        until(browser, "!state.busy && rows.length === 40 && rows[0].length === 2")
        browser.locator("button[data-kind=mot]").click()
        until(browser, "document.getElementById('told').textContent.includes('a_tracked_mot.txt')")
    kept = (tmp_path / "out" / "a_tracked_corrections.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in kept[1:]] == [["0", "0"], ["20", "0"], ["20", "1"]]
    first, second = read_boxes_of_targets(tmp_path / "out" / "a_tracked_mot.txt", Clip("a", 64, 48, range(COUNT)))
    np.testing.assert_allclose(first.boxes[[0, 20]], [[5, 5, 20, 20], [15, 5, 20, 20]], atol=0.3)
    np.testing.assert_allclose(second.boxes[39], [30, 20, 10, 10], atol=0.3)


def test_a_browser_that_goes_away(page: Page, capfd: pytest.CaptureFixture[str]) -> None:
    """It resets the connection before the answer: nothing on the console."""
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", page.server.server_port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(f"GET {urlsplit(page.address).path}frame/0 HTTP/1.1\r\nHost: x\r\n".encode())
    assert request(page, "GET", f"{urlsplit(page.address).path}state")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_tracking_is_watched_and_stopped(tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    path, slow = urlsplit(page.address).path, threading.Event()
    update = StaticBox.update
    monkeypatch.setattr(StaticBox, "update", lambda *given: (slow.wait(0.1), update(*given))[1])
    for frame in (0, 5):
        assert request(page, "POST", f"{path}boxes", {"frame": frame, "target": 0, "box": [5, 5, 20, 20]})[0] == 200
    assert request(page, "POST", f"{path}track", {})[0] == 200
    while not json.loads(request(page, "GET", f"{path}state")[1])["tracked"]:
        time.sleep(0.01)
    seen = json.loads(request(page, "GET", f"{path}tracks/0")[1])["rows"]  # what is tracked is watched
    assert seen[0][0][:4] == [5, 5, 20, 20]
    assert request(page, "POST", f"{path}stop", {})[0] == 200
    page.worker.join(20)
    state = json.loads(request(page, "GET", f"{path}state")[1])
    assert state["error"].startswith("stopped; ")
    assert 0 < state["tracked"] < COUNT
    written = json.loads((tmp_path / "out" / "a_tracked.json").read_text())
    assert (written["finished"], written["frames"]) == (False, state["tracked"])


def test_boxes_that_were_drawn_before_are_taken_up_again(
    tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    encode(tmp_path / "a.mp4")
    kept = tmp_path / "out" / "a_tracked_corrections.csv"
    kept.parent.mkdir()
    kept.write_text("frame,target,x,y,w,h\n0,0,5,5,20,20\n5,0,6,6,20,20\n")
    found: list[dict[tuple[int, int], list[float]]] = []
    monkeypatch.setattr(Page, "serve", lambda self: found.append(self.boxes))
    given = ["source=a.mp4", "baseline=static", "out=out", "ui=true"]
    assert run(*given, "box=[9,9,20,20]") == 2  # drawing would write over them
    assert "out/a_tracked_corrections.csv holds boxes that were drawn before; go on with" in capsys.readouterr().err
    assert run(*given) == 0
    assert run(*given, "corrections=out/a_tracked_corrections.csv") == 0
    assert found == [{(0, 0): [5, 5, 20, 20], (5, 0): [6, 6, 20, 20]}] * 2
    assert run(*given, "end=4") == 2
    assert "a_tracked_corrections.csv, line 3: frame 5, of frames 0 to 3 that are tracked" in capsys.readouterr().err


@needs_browser
def test_a_page_of_hours(page: Page) -> None:
    """A million frames: the course and the least sure passage are found without a limit on arguments."""
    with opened(page.address, local=False) as browser:
        until(browser, "image.naturalWidth === 64")
        script = """() => {
            state.frames = 1e6;
            rows = Array.from({length: 1e6}, (_, at) => [[1, 2, 3, 4, at > 700000 && at < 700020 ? .1 : .9, 0]]);
            let asked = -1; const before = go; go = (to) => { asked = to; };
            show(); $("worst").disabled = false; $("worst").click(); go = before; return asked;
        }"""
        assert abs(browser.evaluate(script) - 700_010) < 4


@needs_browser
def test_select_on_a_phone_sized_window(tmp_path: Path) -> None:
    """What `select=true` opens: only the first frame, and the command goes on when the targets are drawn."""
    encode(tmp_path / "a.mp4")
    page = Page(open_source(str(tmp_path / "a.mp4")), tmp_path / "a_tracked", [], None)
    serving = threading.Thread(target=page.serve)
    serving.start()
    with opened(page.address, size=PHONE, dark=True, local=False) as browser:
        until(browser, "image.naturalWidth === 64")
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert browser.locator("#place").is_hidden()
        picture = browser.locator("#picture").bounding_box()
        browser.mouse.move(picture["x"] + 50, picture["y"] + 50)
        browser.mouse.down()
        browser.mouse.move(picture["x"] + 150, picture["y"] + 130)
        browser.mouse.up()
        until(browser, "state.corrections.length === 1")
        browser.locator("#track").click()
        serving.join(20)
        assert not serving.is_alive()
    (target,) = page.targets()
    scale = 64 / picture["width"]
    np.testing.assert_allclose(target.boxes, [[50 * scale, 50 * scale, 100 * scale, 80 * scale]], atol=0.3)


def test_without_a_display(tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    encode(tmp_path / "a.mp4")
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert run("source=a.mp4", "baseline=static", "select=true") == 2
    assert "there is no display here; give box=[x,y,w,h], or ui=true" in capsys.readouterr().err
