"""A folder of several runs: what is listed, how each is opened, and that no run shows or changes what is not its own."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from browser import Visitor
from firn.dashboard.gate import Gate
from firn.dashboard.hall import Hall, is_run
from firn.dashboard.run_state import SILENT_S
from firn.live import layout
from firn.live.control import read_control
from served_run import Site, blob, write_job, write_live, write_map

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "dashboard.py"


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, something else, and a link that leads out."""
    home = tmp_path_factory.mktemp("outer") / "nights"
    for name, diameter, resolution in (("night 1", 110.0, 3.4), ("night2", 90.0, 2.9)):
        folder = home / name
        folder.mkdir(parents=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            write_live()
            layout.SESSION.write_text(
                json.dumps(
                    {"state": "running", "counters": {"accepted": 2, "found": 3, "particles": 70}, "alarms": {"disk": "The disk fills."}}
                )
            )
            write_job(Path("results/blobs"), "blob_picker", (), {"picks": 40.0}, min_diameter=diameter, max_diameter=150.0)
            write_map(Path("results/final"), blob(16, (0, 0, 0), 3))
            record = json.loads(Path("results/final/job.json").read_text())
            record["metrics"]["resolution"]["value"] = resolution
            Path("results/final/job.json").write_text(json.dumps(record))
    (home / "notes").mkdir()
    (home.parent / "foreign" / "results").mkdir(parents=True)
    (home / "linked").symlink_to(home.parent / "foreign")
    (home / ".hidden" / "results").mkdir(parents=True)
    return home


@pytest.fixture(scope="module")
def hall(nights: Path) -> Iterator[Site]:
    gate = Gate()
    routes = Hall(nights, gate.page_secret)
    site = Site(gate, 60.0, routes)
    yield site
    site.close()
    routes.close()


def test_runs_are_listed_with_how_they_stand(hall: Site, nights: Path) -> None:
    told = {run["name"]: run for run in hall.get("/api/runs").told}
    assert set(told) == {"night 1", "night2"}
    one = told["night 1"]
    assert (one["state"], one["resolution"], one["particles"], one["accepted"], one["found"], one["jobs"]) == (
        "running",
        3.4,
        5000,
        2,
        3,
        2,
    )
    assert one["alarms"] == ["The disk fills."]
    assert not is_run(nights)


def test_a_session_that_fell_silent_is_not_said_to_run(hall: Site, nights: Path) -> None:
    long_ago = time.time() - 2 * SILENT_S
    changed = [nights / "night2" / path for path in ("live/session.json", "results", "results/blobs/job.json", "results/final/job.json")]
    for path in changed:
        os.utime(path, (long_ago, long_ago))
    told = {run["name"]: run for run in hall.get("/api/runs").told}
    assert told["night2"]["state"] == "no sign of life"
    assert told["night 1"]["state"] == "running"
    for path in changed:
        os.utime(path)


def test_each_run_is_told_under_its_own_address(hall: Site) -> None:
    settings = [
        {job["name"]: job for job in hall.get(f"/run/{name}/api/jobs").told["jobs"]}["blobs"]["settings"]
        for name in ("night%201", "night2")
    ]
    assert [one["min_diameter"] for one in settings] == [110.0, 90.0]
    page = hall.get("/run/night%201/jobs").body.decode()
    assert 'content="/run/night 1"' in page
    assert 'href="/run/night 1/maps"' in page
    assert hall.get("/run/night2/file/results/final/figures/fsc.png").body.startswith(b"\x89PNG")


def test_a_decision_lands_in_its_run_alone(hall: Site, nights: Path) -> None:
    assert hall.post("/run/night2/decide/state", {"state": "pause"}).status == 200
    assert read_control(nights / "night2" / layout.CONTROL).state == "pause"
    assert not (nights / "night 1" / layout.CONTROL).exists()
    assert hall.post("/run/night2/decide/state", {"state": "pause"}, X_Firn_Page="guess").status == 403
    assert hall.post("/decide/state", {"state": "pause"}).status == 404


@pytest.mark.parametrize(
    "path", ["notes/", "linked/", ".hidden/", "../foreign/", "..%2fforeign/", "%2e%2e/", "/", "night2/../notes/", "night3/"]
)
def test_what_is_no_run_of_the_folder_is_not_opened(hall: Site, path: str) -> None:
    assert hall.get(f"/run/{path}").status == 404
    assert hall.get(f"/run/{path}api/jobs").status == 404


@pytest.mark.parametrize(
    "path", ["../night 1/live/session.json", "..%2fnight%201%2flive%2fsession.json", "/etc/passwd", "%2e%2e/night%201/live/exposures.csv"]
)
def test_no_path_leads_from_one_run_into_another(hall: Site, path: str) -> None:
    assert hall.get(f"/run/night2/file/{path.replace(' ', '%20')}").status == 404


def test_faults_of_a_run_are_told_as_its_own_dashboard_would(hall: Site) -> None:
    assert hall.get("/run/night2/api/volume?of=results/none").told["error"] == "There is no such map."
    assert hall.post("/run/night2/decide/limits", {"column": "nothing"}).status == 400
    assert hall.get("/run/night2/api/exposure?id=nobody").status == 404


def test_a_process_that_was_killed_is_started_again(hall: Site) -> None:
    assert hall.get("/run/night2/api/hand").status == 200
    assert isinstance(hall.routes, Hall)
    for process in hall.routes._open["night2"]._processes.values():
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    answers = [hall.get("/run/night2/api/hand").status for _ in range(3)]
    assert answers[-1] == 200


def test_the_token_guards_every_run(nights: Path) -> None:
    gate = Gate("the-token")
    routes = Hall(nights, gate.page_secret)
    site = Site(gate, 60.0, routes)
    try:
        for address in ("/", "/api/runs", "/run/night2/", "/run/night2/api/jobs", "/static/runs.js"):
            assert site.get(address).status == 401
        assert site.get("/api/runs", Authorization="Bearer the-token").status == 200
        assert not routes._open
    finally:
        site.close()
        routes.close()


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_killed_dashboard_leaves_no_process_behind(nights: Path) -> None:
    program = subprocess.Popen([sys.executable, str(SCRIPT), str(nights)], stdout=subprocess.PIPE, text=True)
    try:
        assert program.stdout is not None
        address = program.stdout.readline().strip()
        with urllib.request.urlopen(address + "run/night2/api/hand") as reply:
            assert reply.status == 200
        children = [int(pid) for task in Path(f"/proc/{program.pid}/task").iterdir() for pid in (task / "children").read_text().split()]
        assert children
    finally:
        program.send_signal(signal.SIGKILL)
        program.wait()
        program.stdout.close()
    deadline = time.monotonic() + 60
    while any(_lives(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_lives(child) for child in children)


@pytest.mark.parametrize("width", ["wide", "phone"])
def test_runs_are_compared_and_opened_in_the_browser(hall: Site, visit: Callable[..., Visitor], width: str) -> None:
    visitor = visit(f"http://{hall.host}/", width)
    visitor.page.get_by_text("Compare two runs").click()
    visitor.page.get_by_role("row", name="min diameter 110 90").wait_for()
    visitor.page.get_by_role("row", name="resolution 3.4 Å 2.9 Å").wait_for()
    assert not visitor.page.get_by_text("max diameter").is_visible()
    assert visitor.look_around(f"runs_{width}") == []
    visitor.page.get_by_role("link", name="night 1").click()
    visitor.page.locator(".tiles").wait_for()
    visitor.page.get_by_role("link", name="Jobs").click()
    visitor.page.locator(".node").first.wait_for()
    assert visitor.page.url.endswith("/run/night%201/jobs")
    visitor.page.get_by_role("link", name="Runs").click()
    visitor.page.get_by_role("link", name="night2").wait_for()
    assert visitor.complaints == []
