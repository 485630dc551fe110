"""What is answered under which address."""

import html
import re
from pathlib import Path

from firn.dashboard import classes, decide, job_list
from firn.dashboard.exposures import Exposures
from firn.dashboard.gate import Gate
from firn.dashboard.kept import tagged
from firn.dashboard.overview import Overview
from firn.dashboard.places import RequestError, read_file
from firn.dashboard.server import SANDBOX, Answer, Request, as_json

ASSETS = Path(__file__).parent / "assets"
LIVE_ASSETS = Path(__file__).parent.parent / "live"
PAGES = {"": ("overview", "Overview"), "exposures": ("exposures", "Exposures"), "classes": ("classes", "Classes"), "jobs": ("jobs", "Jobs")}
STATIC = {
    "session_page.css": LIVE_ASSETS, "session_page.js": LIVE_ASSETS, "session_streams.js": LIVE_ASSETS, "dashboard.css": ASSETS,
    "dashboard.js": ASSETS, "overview.js": ASSETS, "limits.js": ASSETS, "exposures.js": ASSETS, "classes.js": ASSETS, "jobs.js": ASSETS,
}  # fmt: skip
SCRIPTS = {"overview": ("session_page.js", "session_streams.js", "limits.js", "overview.js")}
KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}


class Routes:
    """The run folder as pages, JSON, pictures and decisions."""

    def __init__(self, gate: Gate):
        self._gate = gate
        self._overview, self._exposures = Overview(), Exposures()

    def read(self, request: Request) -> Answer:
        """Answer a GET."""
        head, _, rest = request.path.partition("/")
        if request.path in PAGES:
            return self._page(*PAGES[request.path])
        if head == "static" and rest in STATIC:
            return tagged((STATIC[rest] / rest).read_bytes(), KINDS[Path(rest).suffix])
        if head == "file":
            content, kind = read_file(rest)
            return Answer(content, kind, headers={"Content-Security-Policy": SANDBOX})
        if head == "api":
            return self._tell(rest, request.query)
        raise RequestError(404, "There is no such page.")

    def change(self, request: Request) -> Answer:
        """Answer a POST."""
        body = request.body
        if request.path == "decide/limits":
            decide.set_limits(body)
        elif request.path == "decide/state":
            decide.set_state(body)
        elif request.path == "decide/exposures":
            decide.judge_exposures(body, self._exposures.table())
        elif request.path == "decide/classes":
            return as_json(decide.choose_classes(body))
        else:
            raise RequestError(404, "There is no such decision.")
        return as_json({"done": True})

    def _tell(self, what: str, query: dict[str, str]) -> Answer:
        if what == "exposure":
            table = self._exposures.table()
            return self._exposures.one(query.get("id", ""), decide.hand_verdicts(table))
        if what == "points":
            return self._overview.points(query.get("count", ""), query.get("digest", ""))
        if what in ("classes", "tiles") and "of" in query:
            result = classes.find_result(query["of"])
            return as_json(classes.table_of(result)) if what == "classes" else classes.tiles(result)
        told = {
            "session": self._overview.session, "pictures": self._overview.pictures, "exposures": lambda: self._exposures.table().answer,
            "hand": lambda: as_json(decide.hand_verdicts(self._exposures.table())), "classes": classes.list_results, "jobs": job_list.list_jobs,
        }  # fmt: skip
        if what not in told:
            raise RequestError(404, "There is nothing of that name.")
        return told[what]()

    def _page(self, page: str, title: str) -> Answer:
        links = "".join(
            f'<a href="/{address}"{" aria-current=page" if name == page else ""}>{text}</a>' for address, (name, text) in PAGES.items()
        )
        scripts = SCRIPTS.get(page, ("session_page.js", f"{page}.js"))
        parts = {
            "title": title, "links": links, "run": html.escape(Path.cwd().name), "page": page, "secret": self._gate.page_secret,
            "scripts": "".join(f'<script src="/static/{name}"></script>\n' for name in ("dashboard.js", *scripts)),
        }  # fmt: skip
        shell = (ASSETS / "shell.html").read_text(encoding="utf-8")
        return Answer(re.sub(r"<!--(\w+)-->", lambda place: parts[place[1]], shell).encode(), "text/html; charset=utf-8")
