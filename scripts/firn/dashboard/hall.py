"""A folder of several runs: a page that lists them, and each run under an address of its own.

Everything about a run is told by a process whose working directory is that run's folder, started when somebody first looks at it. What keeps
people and paths out is asked before: the gate by the server, the names of runs here, and each run's own rules in its process.
"""

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process
from pathlib import Path

from firn.dashboard.pages import RUNS, draw_shell
from firn.dashboard.places import RequestError
from firn.dashboard.routes import Routes, read_static
from firn.dashboard.run_state import Summaries
from firn.dashboard.server import DEADLINE_S, HTML, Answer, Request, as_json
from firn.errors import InputError

MARKS = ("results", "live", ".snakemake")
"""A folder that holds one of these is a run."""
MOST_OPEN = 4
"""Runs that are told at once; the one asked for least recently is closed first."""
NAME = re.compile(r"[^/\\\0.][^/\\\0]*")


def is_run(folder: Path) -> bool:
    """Whether a folder is one run."""
    return any((folder / mark).is_dir() for mark in MARKS)


def list_runs(folder: Path) -> dict[str, Path]:
    """Runs in a folder by name; a link that leads out of the folder is none of them."""
    home = folder.resolve()
    found = [path for path in sorted(folder.iterdir()) if NAME.fullmatch(path.name) and path.is_dir() and is_run(path)]
    return {path.name: path.resolve() for path in found if path.resolve().is_relative_to(home) and path.resolve() != home}


class Hall:
    """Routes of a folder that holds runs; secret: held by the pages, asked for with every change."""

    def __init__(self, folder: Path, secret: str):
        self._folder, self._secret = folder, secret
        self._summaries = Summaries()
        self._open: OrderedDict[str, ProcessPoolExecutor] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, request: Request) -> Answer:
        """Answer a GET."""
        head, _, rest = request.path.partition("/")
        if request.path == "":
            return Answer(draw_shell(RUNS, self._folder.resolve().name, "", self._secret, {"/": ("runs", "Runs")}), HTML)
        if head == "static":
            return read_static(rest)
        if request.path == "api/runs":
            return as_json(self._summaries.of(list_runs(self._folder)))
        return self._pass_on(_read, request)

    def change(self, request: Request) -> Answer:
        """Answer a POST."""
        return self._pass_on(_change, request)

    def close(self) -> None:
        """End the processes of all runs."""
        with self._lock:
            for worker in self._open.values():
                worker.shutdown(wait=False, cancel_futures=True)
            self._open.clear()

    def _pass_on(self, act: Callable[[Request], Answer], request: Request) -> Answer:
        head, _, rest = request.path.partition("/")
        name, _, path = rest.partition("/")
        folder = list_runs(self._folder).get(name) if head == "run" else None
        if folder is None:
            raise RequestError(404, "There is no such run.")
        try:
            return self._worker(name, folder).submit(act, Request(path, request.query, request.body)).result(DEADLINE_S)
        except BrokenProcessPool as error:
            with self._lock:
                self._open.pop(name, None)
            raise RequestError(503, "The process that tells of this run ended; ask again.") from error
        except TimeoutError as error:
            raise RequestError(503, "That takes longer than the dashboard waits; ask again.") from error

    def _worker(self, name: str, folder: Path) -> ProcessPoolExecutor:
        with self._lock:
            if name not in self._open:
                self._open[name] = ProcessPoolExecutor(1, get_context("spawn"), _settle, (str(folder), f"/run/{name}", self._secret))
            self._open.move_to_end(name)
            if len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)[1].shutdown(wait=False)
            return self._open[name]


_routes: list[Routes] = []
"""Of the run that this process tells of."""


def _settle(folder: str, root: str, secret: str) -> None:
    """Make this process the one of a run; it ends with the dashboard, however that ends."""
    os.chdir(folder)
    _routes.append(Routes(secret, root))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
    os._exit(0)


def _read(request: Request) -> Answer:
    return _plainly(_routes[0].read, request)


def _change(request: Request) -> Answer:
    return _plainly(_routes[0].change, request)


def _plainly(act: Callable[[Request], Answer], request: Request) -> Answer:
    """Answer with errors that can be handed to another process."""
    try:
        return act(request)
    except RequestError as refusal:
        raise RequestError(refusal.status, str(refusal)) from None
    except InputError as error:
        raise InputError(str(error)) from None
