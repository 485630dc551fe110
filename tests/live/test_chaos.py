"""Nothing is lost: jobs, Snakemake and supervisor are killed, the disk is full, folders are away; every movie ends with one verdict."""

import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firn.live import layout
from firn.simulate.write_movie import truncate_file, write_tiff_movie
from workflow.chaos import KINDS, LiveSession, faults, fill, verdicts

IMPORT: dict[str, Any] = {
    "type": "import_movies", "files": "raw/*.tif", "pixel_size": 2.0, "voltage_kv": 300, "cs_mm": 2.7, "dose_per_frame": 1.0, "batch_size": 2,
}  # fmt: skip
LIMIT_S = 300
DISK_MB = 24
DISK_FILES = 4000


def land(folder: Path, *names: str) -> None:
    """Whole movies, which appear at once."""
    for name in names:
        frames = np.random.default_rng(len(name)).poisson(4, (4, 64, 64)).astype(np.uint8)
        write_tiff_movie(folder / "part", list(frames))
        if name.startswith("short"):
            truncate_file(folder / "part")
        (folder / "part").rename(folder / "raw" / f"{name}.tif")


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A disk of its own of a few MB, or one with a quota on the folder `run`; where only root could mount one, a folder."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,nr_inodes={DISK_FILES}", "firn-test", str(folder)]
    commands = with_quota(folder) if getattr(request, "param", "") == "quota" else [mount]
    if os.getuid() == 0:
        all(subprocess.run(command, capture_output=True, check=False).returncode == 0 for command in commands)
    try:
        yield folder
    finally:
        if folder.is_mount():
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def with_quota(folder: Path) -> list[list[str]]:
    """Commands that mount a disk of which the folder `run` has a quota of DISK_MB."""
    image, run = str(folder.with_name("image")), str(folder / "run")
    if not shutil.which("mkfs.btrfs"):
        return []
    return [
        ["truncate", "--size", "160M", image],
        ["mkfs.btrfs", "--mixed", image],
        ["mount", "-o", "loop", image, str(folder)],
        ["btrfs", "quota", "enable", str(folder)],
        ["btrfs", "subvolume", "create", run],
        ["btrfs", "qgroup", "limit", f"{DISK_MB}M", run],
    ]


@pytest.fixture
def begun(disk: Path) -> Iterator[LiveSession]:
    """A session whose first batch is done."""
    session = LiveSession(disk / "run", {"movies": IMPORT}, log=disk.with_name("log"))
    try:
        land(session.folder, "a", "bb")
        wait_for_batch(session, "0001")
        yield session
    finally:
        session.stop()


def wait_for_batch(session: LiveSession, batch: str) -> None:
    session.wait_for((session.folder / layout.outcome_file("movies", batch)).exists, LIMIT_S)


def alarm_log(folder: Path, event: str) -> dict[str, str]:
    """Sentences of the alarms that came, or went, by their key."""
    path = folder / layout.ALARM_LOG
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {line["alarm"]: line["sentence"] for line in lines if line["event"] == event}


def ended_well(session: LiveSession, movies: int) -> None:
    """The session ends with one verdict for each of its movies, and none of them failed but those cut short."""
    assert session.end(LIMIT_S) == 0, session.text()
    assert faults(session.folder, "movies", "movies") == []
    found = verdicts(session.folder)
    assert len(found) == movies
    assert {path for path, words in found.items() if words == ["failed"]} == {path for path in found if "short" in path}


def test_two_kills_of_each_kind_lose_nothing(begun: LiveSession) -> None:
    chance = random.Random(3)
    kinds = list(KINDS * 2)
    chance.shuffle(kinds)
    land(begun.folder, "short")
    for number, kind in enumerate(kinds):
        land(begun.folder, f"{number}")
        begun.wait_for(lambda kind=kind: begun.kill(kind, chance), LIMIT_S)
    ended_well(begun, 3 + len(kinds))


def test_a_disk_that_is_full_or_away_holds_the_session_up_and_loses_nothing(begun: LiveSession, disk: Path) -> None:
    folder = begun.folder
    (folder / "results").rename(folder / "results_away")
    land(folder, "cc", "ddd")
    begun.wait_for(lambda: "storage" in alarm_log(folder, "raised"), LIMIT_S)
    assert "results is not there" in alarm_log(folder, "raised")["storage"]
    (folder / "results_away").rename(folder / "results")
    wait_for_batch(begun, "0002")
    (folder / "raw").rename(folder / "raw_away")
    (folder / "live/end").touch()
    begun.wait_for(lambda: "movies_movies" in alarm_log(folder, "raised"), LIMIT_S)
    (folder / "raw_away").rename(folder / "raw")
    land(folder, "late")
    if disk.is_mount():
        wait_until_full(begun, disk / "filler")
    ended_well(begun, 5)
    assert {"storage", "movies_movies"} <= alarm_log(folder, "cleared").keys()
    assert not [path for path in disk.rglob("*") if path.name.endswith(".tmp")]


@pytest.mark.parametrize("fault", ["read-only", "no more files"])
def test_a_disk_that_takes_no_more_files_holds_the_session_up_and_loses_nothing(begun: LiveSession, disk: Path, fault: str) -> None:
    if not disk.is_mount():
        pytest.skip("a disk of its own can be mounted by root only")
    land(begun.folder, "cc")
    before = len(begun.log.read_text())
    refuse_files(begun, disk, fault)
    begun.wait_for(lambda: "waiting: the run folder's disk" in begun.log.read_text()[before:], LIMIT_S)
    take_files_again(disk, fault)
    ended_well(begun, 3)
    assert not [path for path in disk.rglob("*") if path.name.endswith(".tmp")]


def test_results_that_are_seen_late_as_over_nfs_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snakemake and ticks see each result four seconds after they looked for it; the profile waits for ten."""
    settings = {"PYTHONPATH": str(Path(__file__).parents[1] / "late"), "LATE_S": "4", "LATE_BELOW": str(tmp_path / "run/results")}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    session = LiveSession(tmp_path / "run", {"movies": IMPORT})
    try:
        land(session.folder, "a", "bb", "short")
        ended_well(session, 3)
    finally:
        session.stop()
    assert "Waiting at most 10 seconds for missing files" in session.log.read_text()
    assert not list((session.folder / "live/failures").rglob("*.json"))


@pytest.mark.parametrize("disk", ["quota"], indirect=True)
def test_a_quota_that_is_used_up_holds_the_session_up_and_loses_nothing(begun: LiveSession, disk: Path) -> None:
    if not disk.is_mount():
        pytest.skip("a disk with a quota can be mounted by root only, with the programs of btrfs")
    land(begun.folder, "cc", "short")
    wait_until_full(begun, begun.folder / "filler", "Disk quota exceeded")
    ended_well(begun, 4)
    assert not [path for path in disk.rglob("*") if path.name.endswith(".tmp")]


def refuse_files(session: LiveSession, disk: Path, fault: str) -> None:
    """Make a disk one to which nothing can be written, which takes a session that stands, or on which there is room but for no other file."""
    if fault == "read-only":
        session.stop()
        end = time.monotonic() + LIMIT_S
        while (done := subprocess.run(["mount", "-o", "remount,ro", str(disk)], capture_output=True, check=False)).returncode:
            assert time.monotonic() < end, done.stderr
            time.sleep(0.1)
        session.start()
        return
    (disk / "filler").mkdir()
    with contextlib.suppress(OSError):
        for number in range(DISK_FILES):
            (disk / "filler" / str(number)).touch()


def take_files_again(disk: Path, fault: str) -> None:
    if fault == "read-only":
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    else:
        shutil.rmtree(disk / "filler")


def wait_until_full(session: LiveSession, filler: Path, why: str = "No space left on device") -> None:
    """Fill the disk, and make room when the session has said that it waits, and why."""
    before = len(session.log.read_text())
    fill(filler)
    session.wait_for(lambda: re.search(rf"waiting: the run folder's disk .*{why}", session.log.read_text()[before:]), LIMIT_S)
    filler.unlink()
