"""A headless chromium that opens pages of a dashboard and keeps what they complain about."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
"""WebGL by software, since a machine that runs tests need not have a GPU."""
PATIENCE_MS = 90_000
"""A state is waited for that long before it counts as missing, however loaded the machine."""
WIDTHS = {"wide": (1280, 900), "phone": (400, 800)}
AUDIT = Path(__file__).with_name("page_audit.js")


class Visitor:
    """A page in a browser window of its own; `complaints` are errors of its console, and what it could not load."""

    def __init__(self, page: Any, folder: Path):
        self.page, self.complaints = page, list[str]()
        self._folder = Path(os.environ.get("FIRN_SCREENSHOTS") or folder)
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda told: self.complaints.append(told.text) if told.type in ("error", "warning") else None)
        page.on("pageerror", lambda fault: self.complaints.append(str(fault)))
        page.on("requestfailed", lambda request: self.complaints.append(request.url) if "ABORTED" not in (request.failure or "") else None)

    def shoot(self, name: str) -> None:
        """A picture of the whole page, in the folder that FIRN_SCREENSHOTS names or else the test's own."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=self._folder / f"{name}.png", full_page=True)

    def look_around(self, name: str) -> list[str]:
        """Pictures of the page by day and by night, and the faults of both."""
        found = []
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            self.shoot(f"{name}_{scheme}")
            found += [f"{scheme}: {fault}" for fault in self.faults()]
        return found

    def complains(self, there: str, name: str) -> list[str]:
        """Pictures of the page once something is there and nothing is loading any more; its faults by day and night, and its complaints."""
        self.page.locator(there).first.wait_for()
        self.page.wait_for_load_state("networkidle")
        return self.look_around(name) + self.complaints

    def faults(self) -> list[str]:
        """What keeps people from using the page: scrolling sideways, controls without a name, text without contrast, ids twice."""
        return list(self.page.evaluate(AUDIT.read_text(encoding="utf-8")))

    def tell(self, sentence: str) -> None:
        """Wait until the page's notice says so; fails with what it says instead."""
        try:
            self.page.locator("#notice", has_text=sentence).wait_for()
        except Exception as error:
            told = self.page.locator("#notice").text_content()
            raise AssertionError(f"the page says {told!r}, not {sentence!r}; its complaints: {self.complaints}") from error


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser; tests that want one are left out where there is none."""
    driver = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=PATIENCE_MS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any, tmp_path: Path) -> Iterator[Any]:
    """visit(address, width): a Visitor who has opened that page."""
    contexts = []

    def open_page(address: str, width: str = "wide") -> Visitor:
        size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
        contexts.append(chromium.new_context(viewport=size, color_scheme="light", reduced_motion="reduce"))
        visitor = Visitor(contexts[-1].new_page(), tmp_path / "screenshots")
        visitor.page.goto(address)
        return visitor

    yield open_page
    for context in contexts:
        context.close()
