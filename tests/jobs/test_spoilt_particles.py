"""One particle with an image or a CTF that is no number: every job that makes averages or maps refuses it in a sentence, none spreads it."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.mrc import read_mrc, write_stack, write_volume
from firn.formats.tables import read_table, write_table
from firn.jobs import (
    ab_initio,
    check_particles,
    classify_2d,
    classify_3d,
    ctf_refine_global,
    ctf_refine_local,
    reconstruct,
    refine_heterogeneous,
    refine_homogeneous,
    refine_local,
    refine_nonuniform,
    stream_2d,
    stream_refine,
    subtract_particles,
)
from firn.runtime.entry import open_job
from firn.simulate.phantom import phantom_volume, random_phantom
from posed_particles import random_angles, write_particles

COUNT, BOX, PIXEL, SPOILT = 104, 32, 3.0, 60
PHANTOM = random_phantom(20, 30.0, seed=3)
SIZE = {"particle_diameter": 70.0}
JOBS: dict[str, tuple[ModuleType, dict[str, Any]]] = {
    "classify_2d": (classify_2d, SIZE | {"classes": 4}),
    "stream_2d": (stream_2d, SIZE | {"classes": 4}),
    "ab_initio": (ab_initio, SIZE),
    "reconstruct": (reconstruct, {}),
    "classify_3d": (classify_3d, {"classes": 2, "resolution": 12.0}),
    "refine_homogeneous": (refine_homogeneous, SIZE | {"volume": "start"}),
    "refine_nonuniform": (refine_nonuniform, SIZE | {"volume": "start"}),
    "stream_refine": (stream_refine, SIZE | {"volume": "start"}),
    "refine_local": (refine_local, {"volume": "start", "mask": "start"}),
    "refine_heterogeneous": (refine_heterogeneous, SIZE | {"volumes": ["start", "start"]}),
    "ctf_refine_local": (ctf_refine_local, {"volume": "start"}),
    "ctf_refine_global": (ctf_refine_global, {"volume": "start"}),
    "subtract_particles": (subtract_particles, {"volume": "start", "mask": "start"}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Particles with poses in stack/, and the map that they are of in start/."""
    place = tmp_path_factory.mktemp("particles")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        write_particles("stack", PHANTOM, random_angles(COUNT), BOX, PIXEL, snr=0.5)
        volume = phantom_volume(PHANTOM, BOX, PIXEL)
        for name in ("map", "half1", "half2"):
            write_volume(Path(f"start/{name}.mrc"), volume, PIXEL)
        write_volume(Path("start/mask.mrc"), (volume > 0.05 * volume.max()).astype(np.float32), PIXEL)
    return place


@pytest.fixture
def table(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """The particles' table, still sound; the spoilt set is to be written to spoilt/ of the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("stack", "start"):
        Path(name).symlink_to(folder / name)
    return read_table("stack/particles.star", "particles")


def _run(name: str, module: ModuleType, settings: dict[str, Any]) -> None:
    inputs = {"particles": ["spoilt"]} | {
        slot: [value] if isinstance(value, str) else value for slot, value in settings.items() if slot in ("volume", "volumes", "mask")
    }
    with open_job(module.Params, {"particles": "spoilt", **settings}, inputs, Path("results", name), name, threads=1) as job:
        module.run(job)


def _spoil_image(table: pd.DataFrame) -> None:
    images, _ = read_mrc("stack/particles.mrcs")
    images = np.array(images)
    images[SPOILT, 5, 7] = np.nan
    write_stack(Path("spoilt/particles.mrcs"), images, PIXEL)
    write_table("spoilt/particles.star", table.assign(image=table["image"].str.replace("stack/", "spoilt/")), "particles")


@pytest.mark.parametrize("name", JOBS)
def test_an_image_with_a_pixel_that_is_no_number_is_named(name: str, table: pd.DataFrame) -> None:
    _spoil_image(table)
    with pytest.raises(
        InputError, match=rf"{SPOILT + 1:06d}@spoilt/particles.mrcs: the image has pixels that are no number; check_particles"
    ):
        _run(name, *JOBS[name])


@pytest.mark.parametrize("name", JOBS)
def test_a_particle_without_defocus_is_named(name: str, table: pd.DataFrame) -> None:
    Path("spoilt").mkdir()
    write_table("spoilt/particles.star", table.assign(defocus_u=table["defocus_u"].where(table.index != SPOILT)), "particles")
    with pytest.raises(
        InputError, match=rf"1 of {COUNT} rows, the first row {SPOILT + 1}, have no number in _rlnDefocusU; check_particles"
    ):
        _run(name, *JOBS[name])


def test_what_check_particles_leaves_in_is_taken(table: pd.DataFrame) -> None:
    _spoil_image(table.assign(defocus_v=table["defocus_v"].where(table.index != 3)))
    _run("checked", check_particles, {})
    with open_job(
        reconstruct.Params, {"particles": "checked"}, {"particles": ["results/checked"]}, Path("results/map"), "map", threads=1
    ) as job:
        reconstruct.run(job)
    assert job.metrics["particles"]["value"] == COUNT - 2
    assert np.isfinite(read_mrc("results/map/map.mrc")[0]).all()
