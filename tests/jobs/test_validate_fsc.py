"""The resolution that validate_fsc reports is that of the signal, by closed form and by RELION."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firn.errors import InputError
from firn.formats.fsc import read_fsc
from firn.formats.mrc import write_volume
from firn.formats.volumes import read_volume
from firn.jobs import validate_fsc
from firn.runtime.entry import open_job
from half_maps import atoms_map, noisy_halves, write_halves

N, PIXEL = 64, 1.5


def run(mask: str | None = None, **settings: Any) -> dict[str, Any]:
    inputs = {"volume": ["map"], **({"mask": [mask]} if mask else {})}
    given = {"type": "validate_fsc", "volume": "map", **({"mask": mask} if mask else {}), **settings}
    with open_job(validate_fsc.Params, given, inputs, Path("results/final"), "final", threads=1) as job:
        validate_fsc.run(job)
    return json.loads(Path("results/final/job.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_halves(Path("map"), noisy_halves(atoms_map(N, PIXEL, b_factor=150.0), 2.0), PIXEL)


def test_all_is_there_for_the_next_job_and_for_deposition():
    record = run()
    for name in ("map.mrc", "half1.mrc", "half2.mrc", "mask.mrc", "fsc.star", "fsc.xml"):
        assert (Path("results/final") / name).exists(), name
    np.testing.assert_array_equal(read_volume("results/final/half1.mrc")[0], read_volume("map/half1.mrc")[0])
    table = read_fsc("results/final/fsc.star")
    assert {"shell", "frequency", "resolution", "unmasked", "spherical", "loose", "tight", "randomised", "corrected"} <= set(table.columns)
    metrics = {name: metric["value"] for name, metric in record["metrics"].items()}
    assert metrics["resolution_corrected"] < metrics["resolution_corrected_at_05"]
    assert metrics["resolution_tight"] <= metrics["resolution_corrected"] * 1.001 <= metrics["resolution_unmasked"] * 1.02


def test_a_given_mask_takes_the_place_of_the_tight_one():
    mask = np.zeros((N, N, N), np.float32)
    mask[16:48, 16:48, 16:48] = 1
    write_volume("own/mask.mrc", mask, PIXEL)
    run(mask="own")
    np.testing.assert_array_equal(read_volume("results/final/mask.mrc")[0], mask)


def test_the_map_correlates_with_the_truth_further_than_the_halves_with_each_other():
    write_volume("truth.mrc", atoms_map(N, PIXEL, b_factor=150.0), PIXEL)
    run(reference="truth.mrc")
    table = read_fsc("results/final/fsc.star")
    shells = slice(2, 24)
    expected = np.sqrt((2 * table["tight"] / (1 + table["tight"])).clip(lower=0))
    np.testing.assert_allclose(table["model"][shells], expected[shells], atol=0.15)


def test_pure_noise_has_no_resolution():
    generator = np.random.default_rng(0)
    noise = tuple(generator.normal(size=(N, N, N)).astype(np.float32) for _ in range(2))
    write_halves(Path("map"), (noise[0], noise[1]), PIXEL)
    write_volume("own/mask.mrc", (atoms_map(N, PIXEL, b_factor=1000.0) > 1e-4).astype(np.float32), PIXEL)
    assert run(mask="own")["metrics"]["resolution_corrected"]["value"] > 25


def test_one_map_twice_is_refused_and_missing_halves_are_named():
    shutil.copyfile("map/half1.mrc", "map/half2.mrc")
    with pytest.raises(InputError, match="are the same map"):
        run()
    Path("map/half2.mrc").unlink()
    with pytest.raises(InputError, match=r"no half2\.mrc"):
        run()


def test_halves_that_agree_to_the_end_are_remarked_upon():
    write_halves(Path("map"), noisy_halves(atoms_map(N, PIXEL, b_factor=10.0), 0.05), PIXEL)
    assert any("Nyquist" in warning for warning in run()["warnings"])


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_postprocess") is None, reason="RELION is not installed")
def test_relion_postprocess_finds_the_same_curves_under_the_same_mask():
    run()
    Path("judge").mkdir()
    command = [
        "relion_postprocess",
        "--i",
        "map/half1.mrc",
        "--i2",
        "map/half2.mrc",
        "--mask",
        "results/final/mask.mrc",
        "--angpix",
        str(PIXEL),
        "--o",
        "judge/post",
    ]
    subprocess.run(command, check=False, capture_output=True)
    theirs, ours = read_fsc("judge/post.star"), read_fsc("results/final/fsc.star")
    for curve, tolerance in (("unmasked", 0.04), ("tight", 0.04), ("corrected", 0.12)):
        np.testing.assert_allclose(ours[curve][3:], theirs[curve][3:], atol=tolerance, err_msg=curve)
    crossing = [int(np.argmax(table["corrected"].to_numpy() < 0.143)) for table in (ours, theirs)]
    assert abs(crossing[0] - crossing[1]) <= 1
