"""A real server, real workers and a real browser for the tests in this folder; images of the
pages go to tests/screens/.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT

playwright = (
    pytest.importorskip("playwright.sync_api")
    if not os.environ.get("CI")
    else __import__("playwright.sync_api").sync_api
)
# After the lines above, which skip these tests where there is no playwright.
from tests.browser import look  # noqa: E402

# Chromium without a window system starts and draws a third faster (measured: docs/architecture.md);
# either will do.
CHROMIUM = (
    shutil.which("chromium-headless-shell")
    or shutil.which("chromium")
    or shutil.which("chromium-browser")
    or "/usr/bin/chromium"
)
CI = os.environ.get("CI", "").lower() in ("1", "true")
# A camera that shows a green pattern, and nobody to ask for leave to use it.
FLAGS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
DRAWN = """() => { const found = selector => [...document.querySelectorAll(selector)];
    return found('[data-testid=stApp][data-test-script-state=notRunning] h1').length
           && !found('[data-testid=stSkeleton]').length
           && found('[data-testid=stPlotlyChart]')
              .every(chart => chart.querySelector('.main-svg')); }"""
IMAGES_LOADED = "() => Array.from(document.images).every(i => i.complete && i.naturalWidth > 0)"
SCREENS = ROOT / "tests" / "screens"
PATIENCE = 20_000  # milliseconds: the machine may be busy with other things
PLAIN = {"viewport": {"width": 1280, "height": 900}, "permissions": ["camera"]}


def pytest_collection_modifyitems(items):
    """A browser on noisy cores: a test that fails is tried once more after a pause, and has failed
    if it fails again.
    """
    for item in items:
        if "browser" in item.path.parts:
            item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=5))


# --- the server -----------------------------------------------------------------------------------


class Server:
    """`streamlit run app.py` on a free port, with a VEIL_HOME of its own and no data but the
    bundled digits.
    """

    def __init__(self, folder: Path):
        self.home, self.log = folder / "home", folder / "server.log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://localhost:{port}"
        environment = os.environ | {"VEIL_HOME": str(self.home), "VEIL_DATA": str(folder / "data")}
        environment.pop("VEIL_SCHEDULER", None)
        command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log
            )

    def wait(self, seconds: float = 60.0) -> "Server":
        """Until it answers."""
        deadline = time.monotonic() + seconds
        while not self.answers():
            assert self.process.poll() is None and time.monotonic() < deadline, (
                f"no server: {self.log.read_text()}"
            )
            time.sleep(0.05)
        return self

    def answers(self) -> bool:
        try:
            return urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=5).status == 200
        except (urllib.error.URLError, OSError):
            return False

    def family(self) -> list[psutil.Process]:
        """The server's descendants: the cluster process and its workers."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def workers(self) -> list[psutil.Process]:
        """The processes that compute: those that a nanny has spawned."""
        return [
            p for p in self.family() if p.is_running() and "spawn_main" in " ".join(p.cmdline())
        ]

    def end(self) -> None:
        """End the server; its cluster has to follow by itself."""
        family = self.family()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        finally:
            _, alive = psutil.wait_procs(family, timeout=20)
            for process in [*alive, self.process]:
                process.kill()
        assert not alive, f"left behind: {alive}"


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """A function that starts a fresh server; all of them are ended after the last test."""
    servers = []

    def start_one() -> Server:
        servers.append(Server(tmp_path_factory.mktemp("server")))
        return servers[-1].wait()

    yield start_one
    for server in servers:
        if server.process.poll() is None:
            server.end()


@pytest.fixture(scope="package")
def server(start, chromium):
    """The server that most tests share.

    Nothing that they did may have left a traceback in its log.
    """
    server = start()
    yield server
    log = server.log.read_text()
    server.end()
    assert "Traceback" not in log, log


# --- the browser ----------------------------------------------------------------------------------


# not longer: while playwright's loop runs in this thread, dask's clients complain
@pytest.fixture(scope="package")
def chromium():
    """The browser. Where there is none the tests are skipped, but never under CI."""
    if not Path(CHROMIUM).exists():
        missing = (
            "no chromium here: the browser tests did not run (Debian: apt-get install chromium)"
        )
        pytest.fail(missing) if CI else pytest.skip(missing)
    playwright.expect.set_options(timeout=PATIENCE)
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def profile(chromium):
    """A browser profile that has been here before: it has Streamlit's scripts already, which saves
    a second a visit.
    """
    return chromium.new_context(**PLAIN)


class Visitor:
    """One page in a browser profile, and everything that went wrong in it."""

    def __init__(self, context, url: str):
        self.url, self.errors = url, []
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        self.page.on("console", self._listen)

    def _listen(self, message) -> None:
        """Console errors.

        Two kinds are Streamlit's own: it looks for its server at /page/_stcore first, and an image
        that a newer run has replaced may be gone before it is fetched (`leave` looks at those that
        stay).
        """
        where = message.text + message.location.get("url", "")
        if message.type == "error" and "/_stcore/" not in where and "/media/" not in where:
            self.errors.append(f"console: {where}")

    def open(self, path: str = ""):
        """Go to a path and wait until the page has been drawn."""
        self.page.goto(f"{self.url}/{path}")
        return self.drawn()

    def drawn(self):
        """Until the script has run to its end and the browser has drawn all that it was sent."""
        self.page.wait_for_function(DRAWN)
        look.settled(self.page, 200)  # a key that is pressed while elements still come is lost
        return self.page

    def shot(self, name: str, folder: Path = SCREENS) -> None:
        """An image of the whole page: Streamlit scrolls inside, so the window is made as tall as
        the page.
        """
        size = self.page.viewport_size
        height = self.page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
        self.page.set_viewport_size(
            {"width": size["width"], "height": min(max(height, size["height"]), 6000)}
        )
        self.page.mouse.move(2, 2)
        self.page.wait_for_timeout(500)
        folder.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=folder / f"{name}.png")
        self.page.set_viewport_size(size)

    def leave(self) -> None:
        """Close the page; no script may have failed, no exception may stand on it, no image may
        be missing.
        """
        boxes = self.page.locator("[data-testid=stException]").all_inner_texts()
        try:
            self.page.wait_for_function(IMAGES_LOADED, timeout=PATIENCE)
        finally:
            self.page.close()
        assert not self.errors and not boxes, (self.errors, boxes)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Tell the fixtures whether the test itself has failed."""
    report = yield
    if report.when == "call":
        item.failed = report.failed
    return report


@pytest.fixture
def visit(chromium, profile, server, request):
    """A function that lets one more visitor in: visit(path, at=another server, **options of the
    browser context).

    The first comes in the profile of earlier tests' visitors, unless there are options; every other
    has one of their own. Where the test fails, what its visitors saw is kept in tests/screens/.
    """
    visitors, own = [], []

    def one_more(path: str = "", at: Server = None, **options) -> Visitor:
        if visitors or options:
            own.append(chromium.new_context(**PLAIN | options))
        visitors.append(Visitor(own[-1] if visitors or options else profile, (at or server).url))
        visitors[-1].open(path)
        return visitors[-1]

    yield one_more
    if getattr(request.node, "failed", False):
        for i, visitor in enumerate(visitors):
            visitor.shot(f"failed_{request.node.name}_{i}".replace("/", "_"))
    try:
        for visitor in visitors:
            visitor.leave()
    finally:
        for context in own:
            context.close()
