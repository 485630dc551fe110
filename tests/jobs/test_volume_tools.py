"""A changed map keeps its companions in step with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firn.formats.mrc import write_volume
from firn.formats.volumes import read_volume
from firn.jobs import volume_tools
from firn.runtime.entry import open_job
from half_maps import atoms_map, noisy_halves, write_halves

N, PIXEL = 32, 2.0


def run(**settings: Any) -> dict[str, tuple[np.ndarray, float]]:
    home = Path("results/tool")
    given = {"type": "volume_tools", "volume": "map", **settings}
    with open_job(volume_tools.Params, given, {"volume": ["map"]}, home, "tool", threads=1) as job:
        volume_tools.run(job)
    return {name: read_volume(home / f"{name}.mrc") for name in ("map", "half1", "half2", "mask")}


@pytest.fixture(autouse=True)
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_halves(Path("map"), noisy_halves(atoms_map(N, PIXEL), 0.5), PIXEL)
    write_volume("map/mask.mrc", (atoms_map(N, PIXEL, b_factor=500.0) > 0.001).astype(np.float32), PIXEL)


def test_the_map_stays_the_mean_of_its_halves_when_box_pixels_and_hand_change():
    made = run(resample_to_px=24, box_px=30, flip_hand=True)
    np.testing.assert_allclose(made["map"][0], (made["half1"][0] + made["half2"][0]) / 2, atol=1e-5)
    for volume, pixel_size in made.values():
        assert volume.shape == (30, 30, 30)
        assert pixel_size == pytest.approx(PIXEL * N / 24)
    assert made["mask"][0].min() >= 0
    assert made["mask"][0].max() <= 1


def test_low_pass_and_inversion_touch_the_map_alone():
    made = run(low_pass=12.0, invert=True)
    np.testing.assert_array_equal(made["half1"][0], read_volume("map/half1.mrc")[0])
    before, after = (np.fft.fftn(read_volume(path)[0]) for path in ("map/map.mrc", "results/tool/map.mrc"))
    assert np.abs(after[0, 0, 9:17]).max() < 1e-3
    np.testing.assert_allclose(after[0, 0, :2], -before[0, 0, :2], rtol=1e-4)


def test_flipping_the_hand_mirrors_about_the_origin_and_twice_gives_the_map_back():
    before = read_volume("map/map.mrc")[0]
    once = run(flip_hand=True)["map"][0]
    np.testing.assert_array_equal(once[N // 2 + 5], before[N // 2 - 5])
    write_halves(Path("map"), (once, once), PIXEL)
    np.testing.assert_allclose(run(flip_hand=True)["map"][0], before, atol=1e-6)
