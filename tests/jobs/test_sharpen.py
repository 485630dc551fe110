"""Sharpening undoes a known decay, stops at the resolution, and says when it cannot fit."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from firn.errors import InputError
from firn.formats.mrc import write_volume
from firn.formats.star import read_star
from firn.formats.volumes import read_volume
from firn.jobs import sharpen, validate_fsc
from firn.runtime.entry import open_job
from half_maps import atoms_map, noisy_halves, write_halves

N, PIXEL = 64, 1.5
INPUTS = {"volume": ["map"], "mask": ["soft"]}


def run(**settings: Any) -> tuple[np.ndarray, dict[str, Any]]:
    given = {"type": "sharpen", "volume": "map", **settings}
    with open_job(
        sharpen.Params, given, INPUTS if "mask" in settings else {"volume": ["map"]}, Path("results/sharp"), "sharp", threads=1
    ) as job:
        sharpen.run(job)
    return read_volume("results/sharp/map.mrc")[0], json.loads(Path("results/sharp/job.json").read_text(encoding="utf-8"))


def shell_amplitudes(volume: np.ndarray) -> np.ndarray:
    axis = np.fft.fftfreq(N) * N
    radius = np.rint(np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)).astype(int).reshape(-1)
    power = np.bincount(radius, (np.abs(np.fft.fftn(volume)) ** 2).reshape(-1))
    return np.sqrt(power / np.bincount(radius))[: N // 2 + 1]


@pytest.fixture(autouse=True)
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_halves(Path("map"), noisy_halves(atoms_map(N, PIXEL, atoms=600, b_factor=150.0), 0.2), PIXEL)


def test_the_fitted_b_factor_is_the_decay_of_the_atoms():
    _, record = run()
    assert record["metrics"]["b_factor"]["value"] == pytest.approx(-150.0, abs=40.0)
    assert {Path(figure["file"]).stem for figure in record["figures"]} == {"guinier", "slices", "surface"}


def test_a_given_b_factor_multiplies_every_shell_as_its_formula_says():
    plain, _ = run(b_factor=0.0, fsc_weighting=False, resolution=4.0)
    sharp, _ = run(b_factor=-100.0, fsc_weighting=False, resolution=4.0)
    shells = np.arange(5, 20)
    gain = shell_amplitudes(sharp)[shells] / shell_amplitudes(plain)[shells]
    np.testing.assert_allclose(gain, np.exp(25 * (shells / (N * PIXEL)) ** 2), rtol=0.01)


def test_nothing_is_left_beyond_the_resolution():
    sharp, _ = run(b_factor=-50.0, resolution=6.0, low_pass_edge=2.0)
    amplitudes = shell_amplitudes(sharp)
    assert amplitudes[20:].max() < 1e-4 * amplitudes[5]
    assert amplitudes[13] > 0


def test_half_maps_are_handed_on_unsharpened():
    run()
    np.testing.assert_array_equal(read_volume("results/sharp/half2.mrc")[0], read_volume("map/half2.mrc")[0])
    masked, mask = read_volume("results/sharp/map_masked.mrc")[0], read_volume("results/sharp/mask.mrc")[0]
    assert np.abs(masked[mask == 0]).max() == 0


def test_a_map_worse_than_ten_angstrom_is_not_fitted_and_says_so():
    _, record = run(resolution=12.0)
    assert record["metrics"]["b_factor"]["value"] == 0
    assert any("No Guinier fit is possible" in warning for warning in record["warnings"])


def test_a_resolution_beyond_nyquist_is_refused():
    with pytest.raises(InputError, match="beyond Nyquist, 3 Å"):
        run(resolution=2.5)


def test_the_resolution_is_the_one_that_the_validation_of_the_same_halves_tells():
    volume = np.abs(read_volume("map/map.mrc")[0])
    Path("soft").mkdir()
    write_volume("soft/mask.mrc", np.clip(3 * gaussian_filter((volume > volume.max() / 5).astype(np.float32), 2), 0, 1), PIXEL)
    _, sharpened = run(mask="soft")
    with open_job(validate_fsc.Params, {"volume": "map", "mask": "soft"}, INPUTS, Path("results/fsc"), "fsc", threads=1) as job:
        validate_fsc.run(job)
    told = json.loads(Path("results/fsc/job.json").read_text(encoding="utf-8"))["metrics"]
    assert sharpened["metrics"]["resolution_corrected"]["value"] == told["resolution_corrected"]["value"]


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_postprocess") is None, reason="RELION is not installed")
def test_relion_postprocess_fits_the_same_b_factor_to_the_same_shells():
    _, record = run()
    resolution = record["metrics"]["resolution_corrected"]["value"]
    Path("judge").mkdir()
    command = [
        "relion_postprocess",
        "--i",
        "map/half1.mrc",
        "--i2",
        "map/half2.mrc",
        "--mask",
        "results/sharp/mask.mrc",
        "--angpix",
        str(PIXEL),
    ]
    fit = ["--auto_bfac", "--autob_lowres", "10", "--autob_highres", f"{resolution:.3f}", "--o", "judge/post"]
    subprocess.run([*command, *fit], check=False, capture_output=True)
    theirs = float(read_star("judge/post.star")["general"]["rlnBfactorUsedForSharpening"].iloc[0])
    assert record["metrics"]["b_factor"]["value"] == pytest.approx(theirs, abs=40.0)
