"""Half maps that are one, flat maps and empty masks: every job that measures or compares maps refuses them in a sentence."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from firn.errors import InputError
from firn.formats.mrc import write_volume
from firn.jobs import align_volumes, local_resolution, orientation_diagnostics, sharpen, validate_fsc
from firn.runtime.entry import open_job
from half_maps import atoms_map, noisy_halves, write_halves

N, PIXEL = 24, 2.5
MEASURING = (validate_fsc, sharpen, local_resolution, orientation_diagnostics)


@pytest.fixture
def halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    """Two sound half maps; the working directory is empty."""
    monkeypatch.chdir(tmp_path)
    return noisy_halves(atoms_map(N, PIXEL), 0.5)


def _run(module: ModuleType, **inputs: str) -> None:
    folders = {slot: [folder] for slot, folder in inputs.items()}
    with open_job(module.Params, dict(inputs), folders, Path("results/out"), "out", threads=1) as job:
        module.run(job)


@pytest.mark.parametrize("module", MEASURING, ids=lambda module: module.__name__.rpartition(".")[2])
def test_half_maps_that_are_one_are_refused(module: ModuleType, halves: tuple[np.ndarray, np.ndarray]) -> None:
    write_halves(Path("maps"), (halves[0], halves[0]), PIXEL)
    with pytest.raises(InputError, match=r"^maps: half1.mrc and half2.mrc are the same map, so their FSC means nothing"):
        _run(module, volume="maps")


@pytest.mark.parametrize("module", MEASURING, ids=lambda module: module.__name__.rpartition(".")[2])
def test_an_empty_half_map_is_refused(module: ModuleType, halves: tuple[np.ndarray, np.ndarray]) -> None:
    write_halves(Path("maps"), (halves[0], 0 * halves[0]), PIXEL)
    with pytest.raises(InputError, match=r"^maps: a half map is empty"):
        _run(module, volume="maps")


@pytest.mark.parametrize("module", MEASURING, ids=lambda module: module.__name__.rpartition(".")[2])
def test_a_mask_that_is_empty_or_leaves_its_range_is_refused(module: ModuleType, halves: tuple[np.ndarray, np.ndarray]) -> None:
    write_halves(Path("maps"), halves, PIXEL)
    for height, remark in ((0, "the mask is empty"), (2, "has values from 0 to 2, but a mask has values from 0 to 1")):
        write_volume(Path("outline/mask.mrc"), height * np.eye(N, dtype=np.float32)[:, :, None].repeat(N, 2), PIXEL)
        with pytest.raises(InputError, match=rf"^outline/mask.mrc: {remark}"):
            _run(module, volume="maps", mask="outline")


def test_a_map_in_which_nothing_stands_out_is_not_aligned(halves: tuple[np.ndarray, np.ndarray]) -> None:
    write_halves(Path("maps"), halves, PIXEL)
    write_volume(Path("flat/map.mrc"), np.full((N, N, N), 3.0, np.float32), PIXEL)
    for volume, reference in (("flat", "maps"), ("maps", "flat")):
        with pytest.raises(InputError, match=r"^flat/map.mrc: nothing stands out of its noise"):
            _run(align_volumes, volume=volume, reference=reference)


def test_what_comes_with_a_map_is_looked_at_before_it_is_aligned(halves: tuple[np.ndarray, np.ndarray]) -> None:
    write_halves(Path("maps"), halves, PIXEL)
    write_volume(Path("maps/mask.mrc"), 0 * halves[0], PIXEL)
    with pytest.raises(InputError, match=r"^maps/mask.mrc: the map is empty"):
        _run(align_volumes, volume="maps", reference="maps")
