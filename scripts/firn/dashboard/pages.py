"""The pages of a run and what each is made of.

A page is added by one entry in PAGES and a script of the same name in assets/, which fills `#page` with what it asks of an address below /api/;
the answer to that address is one entry in `Routes._told`. A page that decides something adds an entry to `Routes.change` and a function to decide.py.
"""

import html
import re
from dataclasses import dataclass
from pathlib import Path

ASSETS = Path(__file__).parent / "assets"
LIVE_ASSETS = Path(__file__).parent.parent / "live"
COMMON = ("dashboard.js", "session_page.js")


@dataclass(frozen=True)
class Page:
    """name: of its script and of the body's class; more: scripts read before its own."""

    name: str
    title: str
    more: tuple[str, ...] = ()

    @property
    def scripts(self) -> tuple[str, ...]:
        """In the order in which they are run."""
        return (*COMMON, *self.more, f"{self.name}.js")


PAGES = {
    "": Page("overview", "Overview", ("session_streams.js", "limits.js")),
    "exposures": Page("exposures", "Exposures", ("stage_map.js",)),
    "picking": Page("picking", "Picking", ("plane.js",)),
    "classes": Page("classes", "Classes"),
    "maps": Page("maps", "Maps", ("session_streams.js", "surface.js", "viewer.js", "slices.js")),
    "jobs": Page("jobs", "Jobs", ("differences.js", "graph.js")),
    "machine": Page("machine", "Machine"),
}
RUNS = Page("runs", "Runs", ("differences.js",))
"""Of a folder that holds several runs."""
SHARED = {name: LIVE_ASSETS / name for name in ("session_page.css", "session_page.js", "session_streams.js")}
STATIC = {path.name: path for path in ASSETS.iterdir() if path.suffix in (".css", ".js")} | SHARED
KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}


def draw_shell(page: Page, name: str, root: str, secret: str, links: dict[str, tuple[str, str]]) -> bytes:
    """The page without its content; name: of the run or folder; root: what its addresses begin with; links: address by name of the page and text."""
    drawn = "".join(
        f'<a href="{html.escape(address)}"{" aria-current=page" if page.name == target else ""}>{text}</a>'
        for address, (target, text) in links.items()
    )
    parts = {
        "title": page.title, "links": drawn, "run": html.escape(name), "page": page.name, "secret": secret, "root": html.escape(root),
        "scripts": "".join(f'<script src="/static/{script}"></script>\n' for script in page.scripts),
    }  # fmt: skip
    shell = (ASSETS / "shell.html").read_text(encoding="utf-8")
    return re.sub(r"<!--(\w+)-->", lambda place: parts[place[1]], shell).encode()
