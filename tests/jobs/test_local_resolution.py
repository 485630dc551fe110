"""Local resolution and local filtering as jobs, on a map of two blobs of which one is disordered."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from firn.errors import InputError
from firn.formats.mrc import write_volume
from firn.formats.volumes import read_volume
from firn.jobs import local_filter, local_resolution
from firn.kernels.filter import low_pass_volume
from firn.kernels.mask import soften
from firn.runtime.entry import open_job
from half_maps import atoms_map, noisy_halves, write_halves

N, PIXEL, APART = 40, 2.0, 9
ORDERED, DISORDERED = (slice(None), slice(None), slice(0, 17)), (slice(None), slice(None), slice(23, 40))


@pytest.fixture(autouse=True)
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sharp, soft = (atoms_map(N, PIXEL, radius=12.0, b_factor=b, seed=seed) for b, seed in ((60.0, 1), (1200.0, 2)))
    both = np.roll(sharp, -APART, 2) + np.roll(soft, APART, 2)
    write_halves(Path("map"), noisy_halves(both, 1.5), PIXEL)
    mask = soften(low_pass_volume(torch.tensor(both), PIXEL, 15.0) > 0.005, 3.0, 2.0)
    write_volume("own/mask.mrc", mask.numpy(), PIXEL)


def measure(**settings: Any) -> dict[str, Any]:
    given = {"type": "local_resolution", "volume": "map", "mask": "own", **settings}
    inputs = {"volume": ["map"], "mask": ["own"]}
    with open_job(local_resolution.Params, given, inputs, Path("results/local"), "local", threads=1) as job:
        local_resolution.run(job)
    return json.loads(Path("results/local/job.json").read_text(encoding="utf-8"))


def filtered(resolution: str = "results/local", **settings: Any) -> np.ndarray:
    given = {"type": "local_filter", "volume": "map", "resolution": resolution, **settings}
    inputs = {"volume": ["map"], "resolution": [resolution]}
    with open_job(local_filter.Params, given, inputs, Path("results/filtered"), "filtered", threads=1) as job:
        local_filter.run(job)
    return read_volume("results/filtered/map.mrc")[0]


def test_the_disordered_part_is_found_and_filtered_and_the_other_keeps_its_detail():
    record = measure()
    local, mask = (read_volume(f"results/local/{name}.mrc")[0] for name in ("local_resolution", "mask"))
    medians = [float(np.median(local[part][mask[part] > 0.9])) for part in (ORDERED, DISORDERED)]
    assert medians[0] < 6 < 1.5 * medians[0] < medians[1]
    assert record["metrics"]["local_resolution_best"]["value"] < record["metrics"]["local_resolution_worst"]["value"]
    for name in ("map.mrc", "half1.mrc", "half2.mrc"):
        np.testing.assert_array_equal(read_volume(f"results/local/{name}")[0], read_volume(f"map/{name}")[0])
    before, after = read_volume("map/map.mrc")[0], filtered()
    grain = [float(np.std(np.diff(volume[:6, :6, :6], axis=0))) for volume in (before, after)]
    assert grain[1] < 0.1 * grain[0]
    inside = mask[ORDERED] > 0.9
    assert np.corrcoef(before[ORDERED][inside], after[ORDERED][inside])[0, 1] > 0.9
    inside = mask[DISORDERED] > 0.9
    truth = np.roll(atoms_map(N, PIXEL, radius=12.0, b_factor=1200.0, seed=2), APART, 2)[DISORDERED][inside]
    closeness = [np.corrcoef(volume[DISORDERED][inside], truth)[0, 1] for volume in (before, after)]
    assert closeness[1] > closeness[0]


def test_pure_noise_has_the_coarsest_resolution():
    chance = np.random.default_rng(0)
    noise = [chance.normal(size=(N, N, N)).astype(np.float32) for _ in range(2)]
    write_halves(Path("map"), (noise[0], noise[1]), PIXEL)
    write_volume("own/mask.mrc", np.ones((N, N, N), np.float32), PIXEL)
    measure()
    local = read_volume("results/local/local_resolution.mrc")[0]
    assert np.median(local) == pytest.approx(N * PIXEL / 4, rel=0.01)
    assert float((local < 12).mean()) < 0.01


def test_a_job_without_local_resolution_and_coarse_limits_are_refused():
    with pytest.raises(InputError, match=r"no local_resolution\.mrc"):
        filtered("map")
    with pytest.raises(InputError, match="coarser than two pixels"):
        measure(coarsest=3.0)
