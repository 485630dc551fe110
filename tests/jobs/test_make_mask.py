"""Masks made from maps enclose the molecule, by hand or by themselves."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firn.errors import InputError
from firn.formats.volumes import read_volume
from firn.jobs import make_mask
from firn.runtime.entry import open_job
from half_maps import atoms_map, noisy_halves, write_halves

N, PIXEL = 48, 2.0


def run(**settings: Any) -> tuple[np.ndarray, dict[str, Any]]:
    with open_job(
        make_mask.Params, {"type": "make_mask", "volume": "map", **settings}, {"volume": ["map"]}, Path("results/mask"), "mask", threads=1
    ) as job:
        make_mask.run(job)
    return read_volume("results/mask/mask.mrc")[0], json.loads(Path("results/mask/job.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_halves(Path("map"), noisy_halves(atoms_map(N, PIXEL), 0.7), PIXEL)


def distance() -> np.ndarray:
    axis = (np.arange(N) - N // 2) * PIXEL
    return np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)


def test_the_automatic_mask_holds_the_molecule_with_its_margin_and_not_the_solvent():
    mask, record = run(low_pass=15.0, dilate=6.0, soft_edge=12.0)
    assert mask.min() >= 0
    assert mask.max() == 1
    assert (mask[distance() < 18] > 0.99).all()
    assert mask[distance() > 18 + 6 + 12 + 10].max() == 0
    assert record["metrics"]["mask_volume"]["value"] == pytest.approx(mask.sum() * (PIXEL / 10) ** 3, rel=1e-4)
    assert {Path(figure["file"]).stem for figure in record["figures"]} == {"slices", "densities"}
    assert not record["warnings"]


def test_dilation_and_edge_are_in_angstrom():
    hard, _ = run(dilate=0.0, soft_edge=0.0)
    grown, _ = run(dilate=8.0, soft_edge=0.0)
    radii = [(3 * mask.sum() * PIXEL**3 / (4 * np.pi)) ** (1 / 3) for mask in (hard, grown)]
    assert radii[1] - radii[0] == pytest.approx(8.0, abs=1.0)


def test_a_threshold_above_all_density_is_refused_with_the_numbers():
    with pytest.raises(InputError, match=r"nothing is denser than the threshold 1e\+06"):
        run(threshold=1e6)


def test_a_mask_that_reaches_the_edge_of_the_box_is_remarked_upon():
    _, record = run(dilate=60.0)
    assert any("touches the edge" in warning for warning in record["warnings"])
