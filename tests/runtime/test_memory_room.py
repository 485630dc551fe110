"""What memory there is, and jobs that say before they start whether they fit."""

import logging
from pathlib import Path

import pytest
import torch

from firn.errors import InputError
from firn.jobs import reconstruct
from firn.runtime import memory_room
from firn.runtime.entry import open_job
from firn.runtime.memory_room import GB, Part, Room, expect, host_room

MEMINFO = "MemTotal: 16000000 kB\nMemFree: 1000000 kB\nMemAvailable: 8000000 kB\n"


def machine(root: Path, groups: str = "", **files: str) -> Path:
    """A root folder with /proc and /sys of a machine with 16 GB."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(MEMINFO)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_job(reconstruct.Params, {"particles": "p"}, {}, Path("results/rec"), "rec", threads=1) as one:
        one.device = torch.device("cpu")
        yield one


def test_without_limits_the_machine_decides(tmp_path):
    room = host_room(machine(tmp_path, "0::/a/b\n", a__b__memory_DOT_max="max", a__b__memory_DOT_current="5"))
    assert (room.total, room.free, room.whose) == (16e6 * 1024, 8e6 * 1024, "the machine")


def test_the_least_limit_of_the_groups_above_counts_and_file_caches_are_free(tmp_path):
    files = {
        "a__memory_DOT_max": "4000000000",
        "a__memory_DOT_current": "3000000000",
        "a__memory_DOT_stat": "anon 5\ninactive_file 500000000",
    }
    room = host_room(machine(tmp_path, "0::/a/b\n", a__b__memory_DOT_max="6000000000", a__b__memory_DOT_current="0", **files))
    assert (room.total, room.free, room.whose) == (4e9, 1.5e9, "the job's limit")


def test_control_groups_of_version_one_are_read(tmp_path):
    files = {"memory__slurm__memory_DOT_limit_in_bytes": "2000000000", "memory__slurm__memory_DOT_usage_in_bytes": "500000000"}
    room = host_room(machine(tmp_path, "4:cpu:/x\n9:memory:/slurm\n", memory__memory_DOT_limit_in_bytes=str(2**63 - 4096), **files))
    assert (room.total, room.free) == (2e9, 1.5e9)


def test_what_fits_is_logged_with_its_parts(job, monkeypatch, caplog):
    monkeypatch.setattr(memory_room, "host_room", lambda: Room(16 * GB, 14.2 * GB, "the machine"))
    with caplog.at_level(logging.INFO, logger="firn"):
        expect(job, [Part("12,000 particles of 128 px", 0.8 * GB), Part("2 maps of 128 px", 2.3 * GB)])
    assert caplog.messages == ["needs about 3.1 GB: 12,000 particles of 128 px 0.8 GB, 2 maps of 128 px 2.3 GB; 14.2 GB free"]
    assert not job.warnings


def test_what_is_not_free_now_is_a_warning(job, monkeypatch):
    monkeypatch.setattr(memory_room, "host_room", lambda: Room(16 * GB, 2 * GB, "the machine"))
    expect(job, [Part("maps", 3 * GB)])
    assert job.warnings == ["The job needs about 3.0 GB of memory, of which the machine has 2.0 GB free now."]


def test_what_can_never_fit_is_refused_with_the_numbers(job, monkeypatch):
    monkeypatch.setattr(memory_room, "host_room", lambda: Room(2 * GB, 2 * GB, "the job's limit"))
    sentence = r"job rec: needs about 3.5 GB of memory \(maps 3.0 GB, batches 0.5 GB\), but the job's limit has 2.0 GB; give it more"
    with pytest.raises(InputError, match=sentence):
        expect(job, [Part("maps", 3 * GB), Part("batches", 0.5 * GB)])


def test_with_a_gpu_images_count_on_the_host_and_maps_on_the_gpu(job, monkeypatch):
    job.device = torch.device("cuda", 0)
    monkeypatch.setattr(memory_room, "host_room", lambda: Room(64 * GB, 64 * GB, "the machine"))
    monkeypatch.setattr(memory_room, "device_room", lambda device: Room(8 * GB, 8 * GB, str(device)))
    parts = [Part("particles", 30 * GB, on_device=False), Part("maps", 6 * GB)]
    expect(job, parts)
    with pytest.raises(InputError, match=r"10.0 GB of memory \(maps 6.0 GB, more 4.0 GB\), but cuda:0 has 8.0 GB"):
        expect(job, [*parts, Part("more", 4 * GB)])
