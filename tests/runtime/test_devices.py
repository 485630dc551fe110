"""What is said when a device has too little memory."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from firn.errors import InputError
from firn.formats.tables import write_table
from firn.jobs import classify_2d, patch_motion, refine_homogeneous
from firn.runtime import devices
from firn.runtime.devices import check_memory, lease_devices, movie_floor, saying_out_of_memory

CPU = torch.device("cpu")


def movies(folder: Path, name: str, width: int, height: int) -> dict[str, list[str]]:
    table = pd.DataFrame({"exposure_id": ["a"], "batch": ["0001"], "movie": [name], "width_px": [width], "height_px": [height]})
    write_table(folder / "exposures.star", table, "exposures")
    return {"exposures": [str(folder)]}


@pytest.mark.parametrize(
    ("name", "width", "height", "floor"),
    [
        ("k2.tif", 3838, 3710, 8),
        ("k2_super.tif", 7676, 7420, 11),
        ("k3.tif", 5760, 4092, 11),
        ("falcon3.mrc", 4096, 4096, 8),
        ("falcon4.eer", 4096, 4096, 11),
    ],
)
def test_the_floor_is_that_of_the_camera(tmp_path, name, width, height, floor):
    assert movie_floor(movies(tmp_path, name, width, height))[0] == floor


def test_other_jobs_have_their_own_floor_and_small_gpus_are_named(tmp_path, monkeypatch):
    said = []
    small = type("Properties", (), {"total_memory": 6e9})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: small)
    check_memory(patch_motion.Params.gpu_gb, movies(tmp_path, "k3.tif", 5760, 4092), torch.device("cuda", 0), said.append)
    check_memory(classify_2d.Params.gpu_gb, {}, torch.device("cuda", 0), said.append)
    check_memory(refine_homogeneous.Params.gpu_gb, {}, torch.device("cuda", 1), said.append)
    check_memory(refine_homogeneous.Params.gpu_gb, {}, CPU, said.append)
    assert said == [
        "cuda:0 has 6.0 GB; 11 GB or more should be there for movies of 5760 x 4092 pixels",
        "cuda:1 has 6.0 GB; 11 GB or more should be there for jobs of this type",
    ]


def test_a_lack_of_memory_is_one_sentence():
    with (
        pytest.raises(InputError, match=r"^out of memory: \d+\.\d GiB more were wanted; give the job more .* smaller$"),
        saying_out_of_memory(CPU),
    ):
        torch.empty(2**50)
    with (
        pytest.raises(InputError, match=r"^out of memory: 12\.50 GiB more were wanted of cuda:0"),
        saying_out_of_memory(torch.device("cuda", 0)),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 12.50 GiB. GPU 0 has a total capacity of 11 GiB")
    with pytest.raises(InputError, match=r"^out of memory: the machine gave no more"), saying_out_of_memory(CPU):
        raise MemoryError


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match=r"^shapes differ$"), saying_out_of_memory(CPU):
        raise RuntimeError("shapes differ")


@pytest.mark.parametrize("allocation", [None, "77"])
def test_a_lane_with_a_gpu_leases_it_and_a_scheduler_s_allocation_has_leases_of_its_own(tmp_path, monkeypatch, allocation):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(devices, "LEASES", tmp_path / "leases")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    if allocation:
        monkeypatch.setenv("SLURM_JOB_ID", allocation)
    Path("lanes.yaml").write_text("preprocess: [1]")
    assert lease_devices("cpu") == [CPU]
    assert lease_devices("preprocess") == [torch.device("cuda", 0 if allocation else 1)]
    with pytest.raises(InputError, match=f"wants 3 GPUs, but {'Slurm.s job 77 was given' if allocation else 'this machine has'} 2"):
        lease_devices("preprocess", 3)
    assert lease_devices("cpu", 3) == [CPU] * 3
    (lease,) = (path for path in Path("leases").rglob("gpu*"))
    assert str(lease) == ("leases/77/gpu4" if allocation else "leases/gpu5")
    assert (tmp_path / "leases").stat().st_mode & 0o1777 == 0o1777
