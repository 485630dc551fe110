"""What the dashboard tells of the machine: leases, lanes, devices, disks, the cache, sizes."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from firn.dashboard import machine
from firn.formats.mrc import write_stack
from firn.runtime.cache import Cache
from firn.runtime.cache_room import GB, Limits
from served_run import Site, write_job

HOLD = "import sys, pathlib; from firn.runtime.leases import lease; lease(sys.argv[1], None, ['0', '1'], pathlib.Path(sys.argv[2]), print); print('held', flush=True); sys.stdin.read()"


def test_a_leased_device_is_told_with_its_holder_until_that_ends(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LEASES", tmp_path / "leases")
    assert site.get("/api/machine").told["leases"] == {}
    scripts = Path(__file__).resolve().parents[2] / "scripts"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, "reconstruct", str(tmp_path / "leases")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(scripts)}
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == "held\n"
    told = site.get("/api/machine").told
    assert told["leases"] == {"0": {"host": told["host"], "pid": holder.pid, "lane": "reconstruct", "run": told["here"]}}
    holder.stdin.close()
    holder.wait()
    holder.stdout.close()
    assert site.get("/api/machine").told["leases"] == {}


def test_the_driver_is_asked_for_its_devices(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\necho '0, Tesla T4, 37, 1024, 15360'\necho '1, Tesla T4, [N/A], 0, 15360'\necho 'a line of another kind'\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    machine._devices.cache_clear()
    told = site.get("/api/machine").told["devices"]
    machine._devices.cache_clear()
    assert told[0] == {"number": "0", "name": "Tesla T4", "busy": 37.0, "used": 2.0**30, "total": 15 * 2.0**30}
    assert told[1]["busy"] is None
    assert len(told) == 2


def test_lanes_are_told_as_the_file_gives_them_or_what_is_wrong_with_it(site: Site) -> None:
    assert site.get("/api/machine").told["lanes"] is None
    machine.LANES.write_text("preprocess: [0, 1]\nreconstruct: [2]\n")
    assert site.get("/api/machine").told["lanes"] == {"preprocess": ["0", "1"], "reconstruct": ["2"]}
    for wrong in ("preprocess: [0", "- 1\n", "preprocess: 1\n", "preprocess: &all [0]\nreconstruct: *all\n"):
        machine.LANES.write_text(wrong)
        told = site.get("/api/machine").told
        assert (told["lanes"], "lanes.yaml" in told["fault"]) == (None, True)


def test_the_cache_is_told_with_what_it_holds_and_may_hold(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert site.get("/api/machine").told["cache"] is None
    monkeypatch.setenv("FIRN_CACHE", str(tmp_path / "fast"))
    monkeypatch.setenv("FIRN_CACHE_QUOTA_GB", "2")
    told = site.get("/api/machine").told["cache"]
    assert (told["bytes"], told["stacks"], told["quota"], told["oldest"]) == (0, 0, 2e9, None)
    assert not (tmp_path / "fast").exists()
    write_stack("images.mrcs", np.ones((8, 64, 64), np.float32), 1.0)
    cache = Cache(tmp_path / "fast", Limits(2 * GB, 0.0), 1, print)
    cache.fill([("images.mrcs", np.arange(8))])
    cache.close()
    told = site.get("/api/machine").told["cache"]
    assert told["stacks"] == 1
    assert told["bytes"] >= 8 * 64 * 64 * 4
    monkeypatch.setenv("FIRN_CACHE_QUOTA_GB", "much")
    assert "FIRN_CACHE_QUOTA_GB" in site.get("/api/machine").told["cache"]["fault"]


def test_results_are_counted_by_job_beside_the_pages(site: Site) -> None:
    write_job(Path("results/final"), "sharpen")
    Path("results/final/map.bin").write_bytes(b"1" * 100_000)
    Path("results/elsewhere").symlink_to("/usr")
    deadline = time.monotonic() + 60
    while (found := site.get("/api/sizes").told["jobs"]) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    sizes = {job["name"]: job for job in found}
    assert set(sizes) == {"final", "pre"}
    assert (sizes["final"]["type"], sizes["final"]["files"], sizes["pre"]["type"]) == ("sharpen", 2, "preprocess")
    assert 100_000 <= sizes["final"]["bytes"] < 200_000
