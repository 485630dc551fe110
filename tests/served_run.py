"""A small run folder, and a dashboard that serves it on a free port."""

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from firn.dashboard.gate import Gate
from firn.dashboard.hall import Hall
from firn.dashboard.routes import Routes
from firn.dashboard.server import Server
from firn.formats.mrc import write_stack, write_volume
from firn.formats.tables import image_names, write_table
from firn.live import layout, page
from firn.live.exposures import Row, write_exposures
from firn.live.points import read_points
from firn.live.round_cards import read_rounds


@dataclass
class Reply:
    """status, headers (lower case), body of an answer; status 0 when the connection was closed without one."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> dict:
        return json.loads(self.body)


class Site:
    """A dashboard and what a client says to it, over real sockets."""

    def __init__(self, gate: Gate, deadline_s: float = 20.0, routes: Routes | Hall | None = None):
        self.gate = gate
        self.routes = routes or Routes(gate.page_secret)
        self.server = Server("127.0.0.1", 0, gate, self.routes.read, self.routes.change, deadline_s)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def send(self, raw: bytes) -> Reply:
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=10) as line:
            try:
                line.sendall(raw)
                answer = b"".join(iter(lambda: line.recv(65536), b""))
            except ConnectionError:
                answer = b""
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {part.split(": ", 1)[0].lower(): part.split(": ", 1)[1] for part in lines[1:] if ": " in part}
        return Reply(int(lines[0].split()[1]) if lines[0].startswith("HTTP/") else 0, headers, body)

    def get(self, address: str, **headers: str) -> Reply:
        return self.send(f"GET {address} HTTP/1.1\r\n{_lines({'Host': self.host} | headers)}\r\n".encode())

    def post(self, address: str, content: object, **headers: str) -> Reply:
        body = json.dumps(content).encode()
        own = {"Host": self.host, "Origin": f"http://{self.host}", "X-Firn-Page": self.gate.page_secret}
        own |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        given = {name: value for name, value in (own | {key.replace("_", "-"): value for key, value in headers.items()}).items() if value}
        return self.send(f"POST {address} HTTP/1.1\r\n{_lines(given)}\r\n".encode() + body)


def _lines(headers: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


SUMMARY = {
    "updated": "", "state": "running", "reason": "", "backlog": 0, "minutes_since_last_file": 1.0, "failures": {}, "last_refused": [],
    "alarms": {}, "disk_free_gb": 9.0, "imports": {}, "batches_in_work": 0,
    "counters": {"particles": 10, "found": 3}, "rates": {"particles_per_hour": 5.0},
}  # fmt: skip


def write_live(count: int = 3) -> None:
    """A session with exposures e000, e001, ... of which the last is rejected."""
    rows = [
        Row("movies", "0001", {"exposure_id": f"e{at:03d}", "movie": f"raw/a b/shot_{at:03d}.tif",
            "numbers": {"ctf_fit_resolution": 4.0 + at, "defocus": 1e4, "picks": 10.0 * at, "time_found": 1e9 + at}},
            "rejected" if at == count - 1 else "accepted", "ctf_fit_resolution 6 is above 5" if at == count - 1 else "")
        for at in range(count)
    ]  # fmt: skip
    write_exposures(rows)
    page.write_page(SUMMARY, read_points(), {}, read_rounds())


def write_classes(folder: Path, kind: str, kept: list[int] | None = None, **settings: object) -> None:
    """Four classes; with `kept`, a selection of them made from the classes of results/class2d."""
    folder.mkdir(parents=True)
    table = pd.DataFrame({"class_number": [1, 2, 3, 4], "class_count": [40, 30, 20, 10], "class_resolution": 8.0, "class_ess": 1.5})
    table["class_image"] = image_names("results/class2d/classes.mrcs", 4)
    if kept is None:
        write_stack(folder / "classes.mrcs", np.random.default_rng(1).normal(size=(4, 12, 12)).astype(np.float32), 3.0)
        write_table(folder / "classes.star", table, "classes")
    else:
        chosen = table.assign(kept=[int(number in kept) for number in table["class_number"]], reason="passes all rules")
        write_table(folder / "decisions.star", chosen, "classes")
    record = {"job": folder.name, "type": kind, "settings": settings, "figures": [], "metrics": {}, "warnings": [], "seconds": 1.0}
    (folder / "job.json").write_text(json.dumps(record))


def blob(n: int, centre: tuple[float, float, float], width: float) -> np.ndarray:
    """A Gaussian `(n, n, n)` of height 1 at a place (z, y, x) in pixels from the origin n//2."""
    z, y, x = np.indices((n, n, n)) - n // 2
    return np.exp(-((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2) / (2 * width**2)).astype(np.float32)


def write_job(
    folder: Path, kind: str, figures: tuple[str, ...] = (), metrics: dict[str, float] | None = None, /, **settings: object
) -> None:
    """The job.json of a job that is done, and its figures."""
    (folder / "figures").mkdir(parents=True)
    told = [{"file": f"figures/{name}.png", "title": name, "caption": "as made"} for name in figures]
    for figure in told:
        Image.new("L", (90, 60), 230).save(folder / figure["file"])
    numbers = {name: {"value": value, "unit": "Å" if "resolution" in name else ""} for name, value in (metrics or {}).items()}
    record = {
        "job": folder.name,
        "type": kind,
        "settings": {"type": kind} | settings,
        "figures": told,
        "metrics": numbers,
        "warnings": [],
        "seconds": 61.0,
    }
    (folder / "job.json").write_text(json.dumps(record))


def write_map(folder: Path, volume: np.ndarray, kind: str = "refine_homogeneous", /, **settings: object) -> None:
    """A job that made a map at 3.2 Å of pixels of 1.5 Å, with a mask around it."""
    write_job(folder, kind, ("fsc", "directions"), {"resolution": 3.2, "particles": 5000.0}, **settings)
    write_volume(folder / "map.mrc", volume, 1.5)
    write_volume(folder / "mask.mrc", (volume > 0.2 * volume.max()).astype(np.float32), 1.5)


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "night 12"
    (folder / "results" / "pre" / "batches" / "0001" / "figures").mkdir(parents=True)
    (tmp_path / "outside.txt").write_text("secret")
    monkeypatch.chdir(folder)
    write_live()
    layout.CONTROL.write_text("# ours\nsettle_s: 3  # short\n")
    batch = folder / "results" / "pre" / "batches" / "0001"
    Image.new("L", (8, 6), 90).save(batch / "figures" / "ctf_e001.png")
    figure = {"file": "figures/ctf_e001.png", "title": "CTF", "caption": "fit"}
    (batch / "job.json").write_text(json.dumps({"job": "pre", "type": "preprocess", "figures": [figure], "settings": {"box": 9}}))
    return folder


@pytest.fixture
def site(run_folder: Path) -> Iterator[Site]:
    dashboard = Site(Gate())
    yield dashboard
    dashboard.close()


@pytest.fixture
def guarded(run_folder: Path) -> Iterator[Site]:
    dashboard = Site(Gate("the-token"))
    yield dashboard
    dashboard.close()
