"""A real browser for tests of pages: the Chromium that is installed, driven by Playwright."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here (apt install chromium)")
DESKTOP, PHONE = (1280, 900), (390, 844)
_running: list[Any] = []  # the browser and its driver


@contextmanager
def opened(
    address: str | Path, *, size: tuple[int, int] = DESKTOP, dark: bool = False, local: bool = True
) -> Iterator[Any]:
    """A page that is open; on leaving it must have said nothing on the console and, with `local`, asked nobody.

    Args:
        address: of the page, or its file.
        size: of the window in pixels.
        dark: whether the reader prefers dark pages.
        local: whether requests but for files are an error.
    """
    heard: list[str] = []
    scheme = "dark" if dark else "light"
    context = _browser().new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page = context.new_page()
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("requestfailed", lambda request: heard.append(f"failed: {request.url[:99]}"))
    if local:
        page.on(
            "request",
            lambda request: None if request.url.startswith(("file:", "data:")) else heard.append(request.url),
        )
    page.goto(address.resolve().as_uri() if isinstance(address, Path) else address)
    try:
        yield page
    finally:
        context.close()
    assert not heard, heard


def _browser() -> Any:
    """Chromium, started once a module: it and its driver take two seconds."""
    if not _running:
        from playwright.sync_api import sync_playwright

        driver = sync_playwright().start()
        _running.extend([driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]), driver])
    return _running[0]


def close() -> None:
    """End what runs; called after each module of tests."""
    if _running:
        browser, driver = _running
        _running.clear()
        browser.close()
        driver.stop()


def until(page: Any, expression: str, seconds: float = 20) -> None:
    """Wait until a JavaScript expression is true; also on pages whose policy forbids eval."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"{expression} did not become true"
        page.wait_for_timeout(20)
