"""What is answered under which address of a run."""

from collections.abc import Callable, Mapping
from pathlib import Path

from firn.dashboard import classes, decide, job_list, machine, maps, picking, picks
from firn.dashboard.exposures import Exposures
from firn.dashboard.kept import tagged
from firn.dashboard.overview import Overview
from firn.dashboard.pages import KINDS, PAGES, STATIC, draw_shell
from firn.dashboard.places import RequestError, read_file
from firn.dashboard.server import HTML, SANDBOX, Answer, Request, as_json

Query = Mapping[str, str]


class Routes:
    """The run folder, which is the working directory, as pages, JSON, pictures and decisions.

    secret: held by the pages, asked for with every change; root: what the addresses of the run begin with, such as /run/night12.
    """

    def __init__(self, secret: str, root: str = ""):
        self._secret, self._root = secret, root
        self._overview, self._exposures, self._sizes = Overview(), Exposures(), machine.Sizes()

    def read(self, request: Request) -> Answer:
        """Answer a GET."""
        head, _, rest = request.path.partition("/")
        if request.path in PAGES:
            return self._page(request.path)
        if head == "static":
            return read_static(rest)
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
        elif request.path == "decide/picks":
            return as_json(picking.limit_picks(body))
        elif request.path == "decide/picker":
            picking.switch_picker(body)
        elif request.path == "decide/trial":
            picking.try_picker(body, self._exposures.table())
        else:
            raise RequestError(404, "There is no such decision.")
        return as_json({"done": True})

    def _tell(self, what: str, query: Query) -> Answer:
        told = self._told.get(what)
        if told is None:
            raise RequestError(404, "There is nothing of that name.")
        return told(query)

    @property
    def _told(self) -> dict[str, Callable[[Query], Answer]]:
        """Answers by what is asked for."""
        table = self._exposures.table
        return {
            "session": lambda _: self._overview.session(),
            "pictures": lambda _: self._overview.pictures(),
            "points": lambda query: self._overview.points(query.get("count", ""), query.get("digest", "")),
            "exposures": lambda _: table().answer,
            "exposure": lambda query: self._exposures.one(query.get("id", ""), decide.hand_verdicts(table())),
            "hand": lambda _: as_json(decide.hand_verdicts(table())),
            "classes": lambda query: classes.tell(query.get("of")),
            "tiles": lambda query: classes.tiles(classes.find_result(query.get("of", ""))),
            "maps": lambda query: maps.tell(query.get("of")),
            "volume": lambda query: maps.send_volume(query.get("of", ""), query.get("kind", "map")),
            "picking": lambda _: picking.tell(table()),
            "picks": lambda query: picks.tell(query.get("of", "")),
            "jobs": lambda _: job_list.list_jobs(),
            "log": lambda query: job_list.tell_log(query.get("of", "")),
            "machine": lambda _: machine.tell(),
            "sizes": lambda _: self._sizes.tell(),
        }

    def _page(self, address: str) -> Answer:
        links = {f"{self._root}/{place}": (page.name, page.title) for place, page in PAGES.items()}
        if self._root:
            links = {"/": ("runs", "‹ Runs")} | links
        return Answer(draw_shell(PAGES[address], Path.cwd().name, self._root, self._secret, links), HTML)


def read_static(name: str) -> Answer:
    """A style sheet or script of the pages; RequestError (404) when there is none of that name."""
    if name not in STATIC:
        raise RequestError(404, "There is no such page.")
    return tagged(STATIC[name].read_bytes(), KINDS[STATIC[name].suffix])
