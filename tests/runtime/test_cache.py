"""The cache of particle images: one copy for all jobs, by particle, within its limits, and never a wrong or missing image."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.mrc import read_sections, write_stack
from firn.formats.particles import load_images
from firn.formats.tables import image_names, write_table
from firn.runtime import cache_room
from firn.runtime.cache import Cache, open_cache
from firn.runtime.cache_room import Limits
from firn.runtime.entry import open_job
from firn.runtime.params import JobParams, Lane, slot

SCRIPTS = Path(__file__).parents[2] / "scripts"
OWN = Path(f"ssd/firn-{os.getuid()}")
IMAGES, JOBS = OWN / "images", OWN / "jobs"
BOX, COUNT = 32, 40
IMAGE = BOX * BOX * 4
FREE = Limits(reserve=0)
CHILD = """
import sys, time
from pathlib import Path
import numpy as np
sys.path.insert(0, {scripts!r})
from firn.runtime import cache_copy
from firn.runtime.cache import Cache
from firn.runtime.cache_room import Limits
copy = cache_copy._copy_range
def slow(*arguments):
    Path("copying").touch()
    while not Path("go").exists():
        time.sleep(0.01)
    return copy(*arguments)
cache_copy._copy_range = slow
print(Cache(Path("ssd"), Limits(reserve=0), 1, print).fill([("a.mrcs", np.arange({count}))]).copied)
"""


@pytest.fixture(autouse=True)
def stacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Three stacks a, b, c in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FIRN_CACHE", raising=False)
    rng = np.random.default_rng(3)
    made = {name: rng.standard_normal((COUNT, BOX, BOX)).astype(np.float32) for name in "abc"}
    for name, images in made.items():
        write_stack(f"{name}.mrcs", images, 1.0)
    return made


@pytest.fixture
def said() -> list[str]:
    return []


def everything(*names: str) -> list[tuple[str, np.ndarray]]:
    return [(f"{name}.mrcs", np.arange(COUNT)) for name in names]


def cache(said: list[str], limits: Limits = FREE, threads: int = 2) -> Cache:
    return Cache(Path("ssd"), limits, threads, said.append, said.append)


def disk_bytes() -> int:
    return sum(path.stat().st_blocks * 512 for path in IMAGES.iterdir())


def held(*names: str) -> list[bool]:
    """Whether the cache has a copy of each stack, seen from outside."""
    now = Cache(Path("ssd"), Limits(quota=0, reserve=0), 1, lambda _: None)
    found = [now._plan(everything(name))[0][0].held(np.arange(COUNT)).all() for name in names]
    now.close()
    return [bool(one) for one in found]


@pytest.mark.parametrize("float16", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_images_are_those_of_the_stack_and_copied_once(stacks, said, threads, float16):
    if float16:
        for name, images in stacks.items():
            write_stack(f"{name}.mrcs", images, 1.0, float16=True)
    sections = np.array([7, 0, 39, 7])
    first = cache(said, threads=threads)
    assert first.fill(everything("a", "b", "c")).copied == 3 * COUNT * IMAGE // (2 if float16 else 1)
    assert np.array_equal(first.read("b.mrcs", sections), read_sections("b.mrcs", sections))
    first.close()
    again = cache(said).fill(everything("a", "b", "c"))
    assert (again.copied, again.left) == (0, 0)
    assert again.held == again.wanted


def test_images_are_read_from_the_copy(said):
    now = cache(said)
    now.fill(everything("a"))
    (copy,) = IMAGES.iterdir()
    with copy.open("r+b") as stream:
        stream.seek(1024)
        stream.write(np.full(BOX * BOX, 5.0, dtype=np.float32).tobytes())
    assert (now.read("a.mrcs", np.array([0])) == 5).all()


def test_a_subset_of_five_percent_copies_five_percent_of_the_bytes(said):
    count, box = 2000, 64
    write_stack("large.mrcs", np.random.default_rng(0).standard_normal((count, box, box)), 1.0)
    sections = np.sort(np.random.default_rng(1).choice(count, count // 20, replace=False))
    now = cache(said)
    assert now.fill([("large.mrcs", sections)]).copied == 0.05 * count * box * box * 4
    assert disk_bytes() < 0.07 * os.stat("large.mrcs").st_size
    assert np.array_equal(now.read("large.mrcs", sections), read_sections("large.mrcs", sections))
    assert now.fill([("large.mrcs", np.arange(count))]).copied == 0.95 * count * box * box * 4
    assert np.array_equal(now.read("large.mrcs", np.arange(count)), read_sections("large.mrcs", np.arange(count)))


def test_the_size_of_the_data_set_is_said_before_the_copy_starts(said):
    cache(said).fill([("a.mrcs", np.arange(10)), ("b.mrcs", np.arange(5))])
    assert said[0].startswith("cache: 15 images in 2 stacks, 61.4 kB; 0 B held in ssd, 61.4 kB to copy")


def test_a_link_to_a_cached_stack_counts_as_cached(said):
    Path("elsewhere").mkdir()
    Path("elsewhere/link.mrcs").symlink_to(Path("a.mrcs").absolute())
    now = cache(said)
    now.fill(everything("a"))
    assert now.fill([("elsewhere/link.mrcs", np.arange(COUNT))]).copied == 0
    assert cache(said).fill([("elsewhere/link.mrcs", np.arange(3)), ("a.mrcs", np.arange(5))]).wanted == 5 * IMAGE


def test_a_stack_that_changed_is_copied_anew_and_its_old_copy_goes(stacks, said):
    first = cache(said)
    first.fill(everything("a"))
    time.sleep(0.01)
    write_stack("a.mrcs", stacks["b"], 1.0)
    assert np.array_equal(first.read("a.mrcs", np.arange(COUNT)), stacks["b"])
    first.close()
    now = cache(said)
    assert now.fill(everything("a")).copied == COUNT * IMAGE
    assert np.array_equal(now.read("a.mrcs", np.arange(COUNT)), stacks["b"])
    assert len(list(IMAGES.iterdir())) == 1


def test_the_least_recently_used_goes_first_when_the_quota_is_reached(said):
    limits = Limits(quota=2.5 * COUNT * IMAGE, reserve=0)
    for name in ("a", "b"):
        now = cache(said, limits)
        now.fill(everything(name))
        now.close()
    now = cache(said, limits)
    now.read("a.mrcs", np.array([0]))
    now.close()
    now = cache(said, limits)
    assert now.fill(everything("c")).left == 0
    assert held("a", "b", "c") == [True, False, True]
    assert disk_bytes() <= limits.quota


def test_copies_in_use_by_a_running_job_stay_and_the_rest_is_read_where_it_lies(stacks, said):
    limits = Limits(quota=1.5 * COUNT * IMAGE, reserve=0)
    running = cache(said, limits)
    running.fill(everything("a"))
    now = cache(said, limits)
    assert now.fill(everything("b")).left == COUNT * IMAGE
    assert any("cannot free enough space: 168 kB needed" in one and "quota 246 kB" in one for one in said)
    assert np.array_equal(now.read("b.mrcs", np.arange(COUNT)), stacks["b"])
    running.close()
    assert now.fill(everything("b")).left == 0


def test_what_fits_is_cached_when_not_all_does(said):
    limits = Limits(quota=2.5 * COUNT * IMAGE, reserve=0)
    assert cache(said, limits).fill(everything("a", "b", "c")).left == COUNT * IMAGE
    assert held("a", "b", "c") == [True, True, False]
    assert any("1 of 3 stacks are read where they lie" in one for one in said)


def test_the_reserve_of_the_disk_stays_free(said, monkeypatch):
    disk = 2.2 * COUNT * IMAGE
    monkeypatch.setattr(cache_room, "free_bytes", lambda folder: disk - disk_bytes())
    assert cache(said, Limits(reserve=0.5 * COUNT * IMAGE)).fill(everything("a", "b")).left == COUNT * IMAGE
    assert any("stay free" in one for one in said)


def test_copies_untouched_for_their_lifetime_go(said):
    now = cache(said)
    now.fill(everything("a", "b"))
    now.close()
    for path in IMAGES.iterdir():
        os.utime(path, (time.time() - 40 * 86400,) * 2)
    cache(said).read("a.mrcs", np.array([0]))
    cache(said).fill(everything("c"))
    assert held("a", "b", "c") == [True, False, True]


def test_files_of_others_are_never_deleted(said):
    IMAGES.mkdir(parents=True)
    for name in ("ssd/notes.txt", str(IMAGES / "notes.txt")):
        Path(name).write_text("mine")
        os.utime(name, (0, 0))
    cache(said, Limits(quota=0, reserve=0)).fill(everything("a"))
    assert Path("ssd/notes.txt").read_text() == (IMAGES / "notes.txt").read_text() == "mine"


@pytest.fixture
def copying() -> Iterator[subprocess.Popen]:
    """Another process in the middle of copying a.mrcs, until the file `go` appears."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD.format(scripts=str(SCRIPTS), count=COUNT)], stdout=subprocess.PIPE, text=True
    ) as child:
        while not Path("copying").exists():
            time.sleep(0.01)
            assert child.poll() is None
        yield child
        child.kill()


def test_two_jobs_wanting_one_stack_copy_it_once(stacks, said, copying):
    now = cache(said)
    results = []
    second = threading.Thread(target=lambda: results.append(now.fill(everything("a", "b"))))
    second.start()
    while not any(f"waiting for files being copied by {os.uname().nodename} pid {copying.pid}" in one for one in said):
        time.sleep(0.01)
    assert held("b") == [True]
    Path("go").touch()
    second.join()
    assert int(copying.stdout.read().split()[-1]) == COUNT * IMAGE
    assert results[0].copied == COUNT * IMAGE
    assert results[0].left == 0
    assert np.array_equal(now.read("a.mrcs", np.arange(COUNT)), stacks["a"])


def test_the_lock_of_a_job_killed_while_copying_is_taken_over(stacks, said, copying):
    copying.send_signal(signal.SIGKILL)
    copying.wait()
    now = cache(said)
    assert now.fill(everything("a")).copied == COUNT * IMAGE
    assert any(f"pid {copying.pid} stopped while copying; taking over" in one for one in said)
    assert np.array_equal(now.read("a.mrcs", np.arange(COUNT)), stacks["a"])
    assert len(list(JOBS.iterdir())) == 1


def test_a_copy_under_way_is_not_dropped_to_make_room(said, copying):
    assert cache(said, Limits(quota=1.5 * COUNT * IMAGE, reserve=0)).fill(everything("b")).left == COUNT * IMAGE
    Path("go").touch()
    copying.stdout.read()
    assert held("a") == [True]


def test_copies_that_vanish_are_read_where_they_lie_and_copied_by_the_next_job(stacks, said):
    now = cache(said)
    now.fill(everything("a"))
    for path in IMAGES.iterdir():
        path.unlink()
    assert np.array_equal(now.read("a.mrcs", np.arange(COUNT)), stacks["a"])
    assert np.array_equal(now.read("a.mrcs", np.arange(COUNT)), stacks["a"])
    assert sum("vanished" in one for one in said) == 1
    assert now.fill(everything("a")).copied == COUNT * IMAGE


def test_a_stack_that_vanished_is_named_and_the_others_are_copied(said):
    Path("a.mrcs").unlink()
    now = cache(said)
    assert now.fill(everything("a", "b")).copied == COUNT * IMAGE
    assert "cache: not copied: a.mrcs: is not there" in said
    with pytest.raises(InputError, match=r"a\.mrcs"):
        now.read("a.mrcs", np.array([0]))


def test_a_stack_that_changes_while_it_is_copied_is_not_held(said, copying):
    os.utime("a.mrcs", (1, 1))
    Path("go").touch()
    assert "changed while it was copied" in copying.stdout.read()


def test_a_disk_that_gives_no_more_room_is_said(stacks, said, monkeypatch):
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    now = cache(said)
    assert now.fill(everything("a", "b")).left == 2 * COUNT * IMAGE
    assert any("gives no more room (No space left on device); 2 of 2 stacks" in one for one in said)
    assert np.array_equal(now.read("a.mrcs", np.arange(COUNT)), stacks["a"])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 512 kB: three stacks of 160 kB."""
    folder = tmp_path / "ssd"
    folder.mkdir()
    if (
        os.getuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(folder)], capture_output=True, check=False).returncode
    ):
        pytest.skip("needs leave to mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_holds_what_it_can(stacks, said, small_disk):
    (small_disk / "others").write_bytes(bytes(150_000))
    now = cache(said)
    assert now.fill(everything("a", "b", "c")).left == COUNT * IMAGE
    assert any("cannot free enough space" in one for one in said)
    for name, images in stacks.items():
        assert np.array_equal(now.read(f"{name}.mrcs", np.arange(COUNT)), images)


def test_a_stack_on_the_cache_disk_and_a_packed_one_are_not_copied(said, tmp_path):
    subprocess.run(["bzip2", "-k", "b.mrcs"], check=True)
    now = Cache(tmp_path, FREE, 1, said.append)
    assert now.fill([*everything("a"), ("b.mrcs.bz2", np.arange(COUNT))]).wanted == 0


def test_the_folder_comes_from_the_environment_when_the_job_starts(said, tmp_path):
    assert open_cache(said.append, {}) is None
    found = open_cache(said.append, {"FIRN_CACHE": "$NODE_DISK/x", "NODE_DISK": str(tmp_path / "node7"), "FIRN_CACHE_RESERVE_GB": "0"})
    assert found is not None
    assert (tmp_path / f"node7/x/firn-{os.getuid()}/images").is_dir()
    found.close()
    assert said == []


def test_a_cache_that_cannot_be_used_is_said_and_nothing_else_happens(said):
    assert open_cache(said.append, {"FIRN_CACHE": "$NODE_DISK/x"}) is None
    assert "FIRN_CACHE is $NODE_DISK/x, which cannot be used (NODE_DISK is not set here)" in said[-1]
    assert open_cache(said.append, {"FIRN_CACHE": str(Path("a.mrcs").absolute())}) is None
    assert "cannot be used" in said[-1]
    with pytest.raises(InputError, match="FIRN_CACHE_QUOTA_GB is 'much'"):
        open_cache(said.append, {"FIRN_CACHE": "ssd", "FIRN_CACHE_QUOTA_GB": "much"})


class Params(JobParams):
    """A job for tests."""

    stage: ClassVar[str] = "utilities"
    lane: ClassVar[Lane] = "reconstruct"
    particles: str = slot("particles")
    """Particles."""


class TableParams(Params):
    """A job for tests that looks at no image."""

    reads_images: ClassVar[bool] = False


def run_job(params_class: type[Params] = Params) -> np.ndarray:
    table = pd.DataFrame({"image": image_names("a.mrcs", COUNT)[::2]})
    Path("results/up").mkdir(parents=True, exist_ok=True)
    write_table("results/up/particles.star", table, "particles")
    with open_job(params_class, {"particles": "up"}, {"particles": ["results/up"]}, Path("results/job"), "job") as job:
        images = load_images(table)
        Path("in_use").write_text(str(len(list(Path("ssd").rglob("jobs/*")))))
    assert job.warnings == json.loads(Path("results/job/job.json").read_text())["warnings"]
    return images


def test_a_job_reads_through_the_cache_when_the_variable_is_set_and_only_then(stacks, tmp_path, monkeypatch):
    without = run_job()
    assert not Path("ssd").exists()
    monkeypatch.setenv("FIRN_CACHE", str(tmp_path / "ssd"))
    monkeypatch.setenv("FIRN_CACHE_RESERVE_GB", "0")
    assert np.array_equal(run_job(TableParams), without)
    assert not list(Path("ssd").rglob("*.stack"))
    assert np.array_equal(run_job(), without)
    (copy,) = Path("ssd").rglob("*.stack")
    assert copy.stat().st_blocks * 512 >= COUNT // 2 * IMAGE
    assert Path("in_use").read_text() == "1"
    assert list(Path("ssd").rglob("jobs/*")) == []
    with copy.open("r+b") as stream:
        stream.seek(1024)
        stream.write(bytes(IMAGE))
    assert (run_job()[0] == 0).all()
