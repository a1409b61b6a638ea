"""A headless Chromium of this machine, and the built site served to it on loopback."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collapse_book.errors import BadInput, BuildFailed

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: No sandbox, because containers have none to give; the pages are our own, on loopback.
FLAGS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def find_chromium() -> str:
    """Path of the browser: what ``CHROMIUM`` says, or the first one on the path.

    Raises
    ------
    BadInput
        If there is none.
    """
    given = os.environ.get("CHROMIUM")
    found = shutil.which(given) if given else next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        what = f"CHROMIUM={given} is no program" if given else "no Chromium or Chrome found"
        raise BadInput(f"{what}: install chromium, or set CHROMIUM to the path of one")
    return found


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser, closed at the end.

    Raises
    ------
    BadInput
        If playwright or a browser is missing.
    BuildFailed
        If the browser does not start.
    """
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        raise BadInput("playwright is not installed: pip install -e '.[audit]'") from None
    program = find_chromium()
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        except Error as error:
            first = str(error).strip().splitlines()[0]
            raise BuildFailed(f"{program} does not start: {first}") from None
        try:
            yield browser
        finally:
            browser.close()


class _Quiet(SimpleHTTPRequestHandler):
    """Serves one folder below a prefix and writes no log; unknown paths get ``404.html``."""

    def __init__(self, *args: Any, prefix: str, **keywords: Any) -> None:
        self._prefix = prefix
        super().__init__(*args, **keywords)

    def translate_path(self, path: str) -> str:
        inside = path.startswith(self._prefix)
        rest = path.removeprefix(self._prefix) if inside else "outside-of-the-site"
        return super().translate_path(f"/{rest}")

    def send_error(self, code: int, *args: Any, **keywords: Any) -> None:
        page = Path(self.directory) / "404.html"
        if code != 404 or not page.is_file():
            super().send_error(code, *args, **keywords)
            return
        body = page.read_bytes()
        self.send_response(404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing: the report is what the reader wants."""


@contextlib.contextmanager
def served(folder: Path, prefix: str = "/") -> Iterator[str]:
    """The address of ``folder`` on loopback, below ``prefix`` as on its host, while it lasts."""
    handler = functools.partial(_Quiet, directory=str(folder), prefix=prefix)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{prefix}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
