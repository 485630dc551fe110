"""Leases of devices: never two jobs on one, whatever is killed; lanes that change while jobs wait; lanes that do not hinder each other."""

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from firn.errors import InputError
from firn.runtime import leases
from firn.runtime.leases import devices_of, lease, visible_devices

STARTS = int(os.environ.get("FIRN_LEASE_STARTS", "40"))
SCRIPTS = Path(__file__).parents[2] / "scripts"
JOB = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, {scripts!r})
from firn.runtime.leases import lease
lane, name, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
(device,) = lease(lane, Path("lanes.yaml"), list("0123"), Path("leases"), lambda _: None)
start = time.monotonic()
Path("runs", name + ".new").write_text(json.dumps([device, start]))
Path("runs", name + ".new").rename(Path("runs", name))
time.sleep(seconds)
Path("ends", name).write_text(json.dumps(time.monotonic()))
"""


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("runs", "ends"):
        Path(folder).mkdir()
    give(preprocess=[0, 1], reconstruct=[2], auxiliary=[2])


def give(**lanes: list[int]) -> None:
    Path("lanes.new").write_text(yaml.safe_dump(lanes))
    Path("lanes.new").replace("lanes.yaml")


def start(lane: str, name: object, seconds: float) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", JOB.format(scripts=str(SCRIPTS)), lane, str(name), str(seconds)])


@contextlib.contextmanager
def running(lane: str, name: str) -> Iterator[subprocess.Popen]:
    """A job that holds its device until the block is left."""
    with start(lane, name, 60) as job:
        while not Path("runs", name).exists():
            time.sleep(0.01)
        yield job
        job.kill()


def began() -> dict[str, tuple[int, float]]:
    """Device and time at which each job had it."""
    return {path.name: json.loads(path.read_text()) for path in Path("runs").iterdir() if path.suffix != ".new"}


def overlaps(killed: dict[str, float]) -> list[tuple[str, str]]:
    """Pairs of jobs that had one device at one time; killed: when those that were killed got the signal."""
    runs: dict[int, list[tuple[float, float, str]]] = {}
    for name, (device, at) in began().items():
        end = killed[name] if name in killed else json.loads(Path("ends", name).read_text())
        runs.setdefault(device, []).append((at, end, name))
    return [(a[2], b[2]) for spans in runs.values() for a, b in itertools.combinations(sorted(spans), 2) if b[0] < a[1]]


def test_no_two_jobs_have_one_device_while_jobs_are_killed_and_devices_come():
    chance, jobs, killed, left = random.Random(5), {}, {}, STARTS
    while left or jobs:
        while left and len(jobs) < 6:
            lane = chance.choice(["preprocess"] * 4 + ["reconstruct", "auxiliary"])
            jobs[str(left)] = start(lane, left, chance.uniform(0.1, 0.3))
            left -= 1
        if left <= STARTS // 2:
            give(preprocess=[0, 1, 3], reconstruct=[2], auxiliary=[2])
        time.sleep(0.05)
        computing = [name for name in jobs if Path("runs", name).exists() and not Path("ends", name).exists()]
        if computing and chance.random() < 0.1:
            name = chance.choice(computing)
            killed[name] = time.monotonic()
            jobs[name].send_signal(signal.SIGKILL)
            jobs[name].wait()
        jobs = {name: job for name, job in jobs.items() if job.poll() is None}
    assert len(spans := began()) == STARTS
    assert len(killed) > STARTS // 20
    assert overlaps(killed) == []
    assert any(device == 3 for device, _ in spans.values())


def test_a_full_lane_does_not_keep_another_waiting():
    with running("reconstruct", "round"):
        at = time.monotonic()
        with running("preprocess", "batch"):
            assert began()["batch"][0] == 0
        assert time.monotonic() - at < 5
        sharing = start("auxiliary", "shares", 0)
        with pytest.raises(subprocess.TimeoutExpired):
            sharing.wait(1)
    sharing.wait(5)


def test_a_job_that_waits_takes_a_device_added_to_its_lane_and_says_who_has_the_others():
    said = []

    def add(sentence: str) -> None:
        said.append(sentence)
        give(reconstruct=[2, 3])

    with running("reconstruct", "round") as job:
        assert lease("reconstruct", Path("lanes.yaml"), list("0123"), Path("leases"), add) == [3]
        assert said == [f"waiting for a device of lane reconstruct (0 s): 2 is held by {os.uname().nodename} pid {job.pid}"]


def test_a_job_that_wants_two_devices_holds_none_while_it_waits_and_then_both():
    said = []
    give(reconstruct=[2, 3])
    with running("reconstruct", "round") as job:

        def end_the_other(sentence: str) -> None:
            said.append(sentence)
            start("reconstruct", "between", 0).wait()
            job.kill()

        assert lease("reconstruct", Path("lanes.yaml"), list("0123"), Path("leases"), end_the_other, count=2) == [2, 3]
    assert said == [f"waiting for 2 devices of lane reconstruct (0 s): 2 is held by {os.uname().nodename} pid {job.pid}"]
    assert began()["between"][0] == 3
    waiting = start("reconstruct", "after", 0)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(1)
    waiting.kill()
    waiting.wait()


def test_a_lane_with_too_few_devices_says_so():
    def give_more(sentence: str) -> None:
        assert sentence == "waiting for 2 devices of lane reconstruct (0 s): lanes.yaml gives it 1 now"
        give(reconstruct=[2, 0])

    assert lease("reconstruct", Path("lanes.yaml"), list("0123"), Path("leases"), give_more, count=2) == [2, 0]


def test_a_lease_lasts_as_long_as_a_child_of_a_killed_job_that_still_computes():
    code = JOB.format(scripts=str(SCRIPTS)).replace(
        "time.sleep", "import os\nif pid := os.fork():\n    Path('child').write_text(str(pid))\ntime.sleep"
    )
    with subprocess.Popen([sys.executable, "-c", code, "reconstruct", "parent", "60"]) as parent:
        while not Path("child").exists() or not Path("child").read_text():
            time.sleep(0.01)
        child = int(Path("child").read_text())
        parent.kill()
    following = start("reconstruct", "next", 0)
    with pytest.raises(subprocess.TimeoutExpired):
        following.wait(1)
    os.kill(child, signal.SIGKILL)
    following.wait(5)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("preprocess: [0]", "has no lane reconstruct"),
        ("reconstruct: 1", "must list devices 0 to 1"),
        ("reconstruct: [2]", "must list devices 0 to 1"),
        ("reconstruct: [true]", "must list devices 0 to 1"),
        ("reconstruct: [", "cannot be read as lists of devices"),
        ("", "has no lane"),
    ],
)
def test_a_fault_in_lanes_is_named(text, fault, monkeypatch):
    Path("lanes.yaml").write_text(text)
    with pytest.raises(InputError, match=fault):
        devices_of("reconstruct", Path("lanes.yaml"), 2)
    monkeypatch.setattr(leases, "FAULT_S", 0.1)
    with pytest.raises(InputError, match=fault):
        lease("reconstruct", Path("lanes.yaml"), list("01"), Path("leases"), lambda _: None)


def test_a_fault_that_is_mended_at_once_disturbs_nobody():
    Path("lanes.yaml").write_text("recon")

    def mend(_: str) -> None:
        give(reconstruct=[1])

    assert lease("reconstruct", Path("lanes.yaml"), list("01"), Path("leases"), mend) == [1]


def test_without_lanes_every_device_belongs_to_every_lane():
    assert devices_of("reconstruct", Path("none.yaml"), 3) == [0, 1, 2]
    assert devices_of("reconstruct", None, 1) == [0]


def test_a_device_is_known_by_its_name_on_the_machine():
    assert visible_devices({"CUDA_VISIBLE_DEVICES": "3,1"}, 2) == ["3", "1"]
    assert visible_devices({}, 2) == ["0", "1"]
