"""Symmetry expansion: copies that reconstruct in C1 to the symmetric map, RELION's poses, and a helix's neighbours."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from firn.errors import InputError
from firn.formats.tables import read_table
from firn.formats.volumes import read_volume
from firn.jobs import reconstruct, symmetry_expansion
from firn.kernels.fsc import fsc
from firn.kernels.mask import soft_sphere
from firn.kernels.rotation import euler_matrices
from firn.runtime.entry import open_job
from firn.simulate.euler import euler_to_matrix
from firn.simulate.phantom import Phantom, phantom_projection, random_phantom
from firn.simulate.symmetry import symmetry_operators
from posed_particles import random_angles, write_particles

BOX, PIXEL = 32, 5.0


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def expand(particles: str = "posed", **settings: object) -> None:
    given = {"type": "symmetry_expansion", "particles": particles, **settings}
    with open_job(symmetry_expansion.Params, given, {"particles": [particles]}, Path("results/expanded"), "expanded", threads=1) as job:
        symmetry_expansion.run(job)


def rebuilt(particles: str, symmetry: str) -> torch.Tensor:
    given = {"type": "reconstruct", "particles": particles, "symmetry": symmetry}
    with open_job(reconstruct.Params, given, {"particles": [particles]}, Path("results/map"), "map", threads=1) as job:
        reconstruct.run(job)
    return torch.tensor(read_volume("results/map/half1.mrc")[0])


def test_the_expanded_set_gives_without_symmetry_the_map_of_the_set_with_it():
    phantom = random_phantom(10, 45.0, 4, symmetry_operators("D2"), (3.5, 5.0))
    write_particles("posed", phantom, random_angles(200), BOX, PIXEL, snr=1.0)
    expand(symmetry="D2")
    ball = soft_sphere(BOX, 11.0, 4.0)
    assert float(fsc(rebuilt("results/expanded", "C1") * ball, rebuilt("posed", "D2") * ball)[1:13].min()) > 0.98


def test_copies_keep_image_half_and_source_and_have_names_of_their_own():
    table = write_particles("posed", random_phantom(5, 45.0, 4), random_angles(6), BOX, PIXEL)
    expand(symmetry="C3")
    copies = read_table("results/expanded/particles.star", "particles")
    assert len(copies) == 18
    assert copies["particle_id"].is_unique
    for source, part in copies.groupby("source_particle", sort=False):
        original = table[table["particle_id"] == source].iloc[0]
        for column in ("image", "half", "defocus_u", "origin_x", "tilt"):
            assert (part[column] == original[column]).all() or np.allclose(part[column], original[column], atol=1e-5), column
        np.testing.assert_allclose(np.sort((part["rot"] - original["rot"] + 60) % 360), [60, 180, 300], atol=1e-3)


@pytest.mark.parametrize("handed", [1, -1])
def test_a_helix_looks_the_same_from_its_neighbouring_subunits(handed: int):
    turn, rise = 40.0 * handed, 7.0
    steps = np.arange(-30, 31)
    azimuth = np.radians(turn * steps)
    strand = Phantom(np.stack((30 * np.cos(azimuth), 30 * np.sin(azimuth), rise * steps), axis=-1), np.full(61, 4.0), np.ones(61))
    write_particles("posed", strand, np.array([[20.0, 70.0, 35.0]]), BOX, PIXEL)
    expand(helical_twist=turn, helical_rise=rise, helical_copies=5)
    copies = read_table("results/expanded/particles.star", "particles")
    assert len(copies) == 5
    views = [
        phantom_projection(strand, euler_to_matrix(row.rot, row.tilt, row.psi), BOX, PIXEL, (-row.origin_x, -row.origin_y))
        for row in copies.itertuples()
    ]
    for view in views[1:]:
        np.testing.assert_allclose(view, views[0], atol=1e-3 * views[0].max())
    assert not np.allclose(views[0], views[0].mean(), atol=0.1 * views[0].max())


def test_nothing_to_expand_and_expanding_twice_are_refused():
    write_particles("posed", random_phantom(5, 45.0, 4), random_angles(6), BOX, PIXEL)
    with pytest.raises(InputError, match="one operator only"):
        expand()
    expand(symmetry="C2")
    with pytest.raises(InputError, match="expanded already"):
        expand("results/expanded", symmetry="C2")
    with pytest.raises(ValidationError, match="a helix needs"):
        symmetry_expansion.Params(particles="p", helical_copies=3)


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_particle_symmetry_expand") is None, reason="needs relion_particle_symmetry_expand")
@pytest.mark.parametrize("group", ["C4", "D3", "T", "O", "I1"])
def test_relion_finds_the_same_poses(group: str):
    write_particles("posed", random_phantom(5, 45.0, 4), random_angles(3), BOX, PIXEL)
    expand(symmetry=group)
    command = ["relion_particle_symmetry_expand", "--i", "posed/particles.star", "--o", "theirs.star", "--sym", group]
    subprocess.run(command, check=True, capture_output=True)
    ours, theirs = (read_table(path, "particles") for path in ("results/expanded/particles.star", "theirs.star"))
    assert len(ours) == len(theirs)
    for image in ours["image"].unique():
        first, second = (
            euler_matrices(torch.tensor(part[part["image"] == image][["rot", "tilt", "psi"]].to_numpy(np.float64)))
            for part in (ours, theirs)
        )
        distances = (first[:, None] - second[None]).abs().amax(dim=(-2, -1))
        assert float(distances.amin(1).max()) < 1e-3
