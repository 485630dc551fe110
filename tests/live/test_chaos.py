"""Nothing is lost: jobs, Snakemake and supervisor are killed, the disk is full, folders are away; every movie ends with one verdict."""

import json
import os
import random
import subprocess
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


def land(folder: Path, *names: str) -> None:
    """Whole movies, which appear at once."""
    for name in names:
        frames = np.random.default_rng(len(name)).poisson(4, (4, 64, 64)).astype(np.uint8)
        write_tiff_movie(folder / "part", list(frames))
        if name.startswith("short"):
            truncate_file(folder / "part")
        (folder / "part").rename(folder / "raw" / f"{name}.tif")


@pytest.fixture
def begun(tmp_path: Path) -> Iterator[LiveSession]:
    """A session whose first batch is done."""
    session = LiveSession(tmp_path / "run", {"movies": IMPORT})
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


def test_folders_that_are_away_for_a_while_hold_the_session_up_and_lose_nothing(begun: LiveSession) -> None:
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
    ended_well(begun, 5)
    assert {"storage", "movies_movies"} <= alarm_log(folder, "cleared").keys()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own of a few MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "firn-test", str(disk)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_holds_the_session_up_and_loses_nothing(small_disk: Path) -> None:
    session = LiveSession(small_disk / "run", {"movies": IMPORT})
    folder = session.folder
    try:
        land(folder, "a", "bb")
        wait_for_batch(session, "0001")
        land(folder, "cc")
        fill(small_disk / "filler")
        session.wait_for(lambda: "waiting: the run folder's disk" in session.log.read_text(), LIMIT_S)
        (small_disk / "filler").unlink()
        land(folder, "ddd")
        ended_well(session, 4)
        assert not [path for path in small_disk.rglob("*") if path.name.endswith(".tmp")]
    finally:
        session.stop()
