"""Local refinement as a job: a domain that turns against the rest comes back; poses stay within the search; refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from firn.errors import InputError
from firn.formats.mrc import write_volume
from firn.formats.particles import read_particles
from firn.formats.volumes import read_volume
from firn.jobs import refine_local
from firn.kernels.fsc import fsc
from firn.kernels.mask import soften
from firn.kernels.pose_grid import nearby_nodes, node_rotations
from firn.kernels.rotation import euler_matrices, random_rotations, rotation_distance
from firn.refine.expectation import Candidates
from firn.refine.local import Limits, LocalPrior, from_fulcrum, mask_centre, to_fulcrum
from firn.runtime.entry import open_job
from firn.simulate.phantom import Phantom, phantom_volume, random_phantom
from refine_session import BOX, PIXEL, simulate, write_particles, write_start

CENTRE = np.array([20.0, -5.0, 10.0])
REST = random_phantom(40, 25.0, seed=8, widths=(3.5, 5.0))
DOMAIN = random_phantom(60, 32.0, seed=5, widths=(3.5, 5.0))


def turned(turn: np.ndarray) -> Phantom:
    """The rest, and the domain beside it turned by a matrix (xyz) about its centre."""
    positions = np.concatenate((REST.positions - np.array([30.0, -5.0, 15.0]), DOMAIN.positions @ turn.T + CENTRE))
    return Phantom(positions, np.concatenate((REST.widths, DOMAIN.widths)), np.concatenate((0.4 * REST.weights, 1.5 * DOMAIN.weights)))


def write_domain_session(folder: Path, count: int, snr: float, degrees: float) -> torch.Tensor:
    """Particles whose table has the poses of the rest; returns the poses of the domain."""
    chance = np.random.default_rng(3)
    vectors = chance.normal(size=(count, 3))
    turns = Rotation.from_rotvec(np.radians(degrees) * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).as_matrix()
    truth = simulate(count, [turned(turn) for turn in turns], np.arange(count))
    rot, tilt, psi = truth.angles.T
    images = truth.clean * np.sqrt(snr) + chance.normal(size=truth.clean.shape)
    write_particles(folder, truth, images, rot=rot, tilt=tilt, psi=psi, origin_x=-truth.shifts[:, 0], origin_y=-truth.shifts[:, 1])
    still = phantom_volume(turned(np.eye(3)), BOX, PIXEL)
    write_start(folder, still)
    domain = torch.tensor(phantom_volume(Phantom(DOMAIN.positions + CENTRE, DOMAIN.widths, DOMAIN.weights), BOX, PIXEL))
    (folder / "mask").mkdir()
    write_volume(folder / "mask/mask.mrc", soften(domain > 0.1 * domain.max(), 3.0, 1.0).numpy(), PIXEL)
    zyx = torch.flip(torch.tensor(turns), (-2, -1))
    return zyx.mT @ truth.rotations


def refine(**settings) -> None:
    inputs = {"particles": ["keep"], "volume": ["start"], "mask": ["mask"]}
    settings = {"particles": "keep", "volume": "start", "mask": "mask", **settings}
    with open_job(refine_local.Params, settings, inputs, Path("results/map"), "map", threads=1) as job:
        refine_local.run(job)


def test_a_domain_turned_against_the_rest_comes_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    truth = write_domain_session(tmp_path, count=160, snr=3.0, degrees=9.0)
    refine(initial_lowpass=20.0, iterations=5)
    table = read_particles("results/map/particles.star")
    found = euler_matrices(torch.tensor(table[["rot", "tilt", "psi"]].to_numpy(np.float64)))
    errors = rotation_distance(found, truth)
    assert float(errors.median()) < 4.5
    given = read_particles("keep/particles.star")
    moved = np.hypot(table["origin_x"] - given["origin_x"], table["origin_y"] - given["origin_y"])
    assert float(moved.median()) < 5.0
    still = torch.tensor(phantom_volume(turned(np.eye(3)), BOX, PIXEL))
    mask = torch.tensor(read_volume("mask/mask.mrc")[0])
    volume = torch.tensor(read_volume("results/map/map.mrc")[0])
    assert float(fsc(volume * mask, still * mask)[3:12].mean()) > 0.9


def test_no_detail_is_refined_from_noise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_domain_session(tmp_path, count=120, snr=0.0, degrees=9.0)
    refine(initial_lowpass=30.0, iterations=3)
    mask = torch.tensor(read_volume("mask/mask.mrc")[0])
    first, second = (torch.tensor(read_volume(f"results/map/half{half}.mrc")[0]) * mask for half in (1, 2))
    assert float(fsc(first, second)[round(BOX * PIXEL / 30.0) + 2 :].mean()) < 0.1


def test_the_fulcrum_stays_where_it_is_whatever_the_pose():
    generator = torch.Generator().manual_seed(0)
    rotations, shifts = random_rotations(20, generator), torch.randn(20, 2, generator=generator)
    fulcrum = (3, -5, 7)
    there = to_fulcrum(shifts, rotations, fulcrum)
    assert torch.allclose(from_fulcrum(there, rotations, fulcrum), shifts, atol=1e-5)
    seen = torch.einsum("nij,i->nj", rotations, torch.tensor(fulcrum).float())[:, 1:] - shifts
    assert torch.allclose(there, -seen, atol=1e-5)


def test_the_prior_is_gaussian_within_the_extent_and_forbids_beyond():
    rotations = random_rotations(2, torch.Generator().manual_seed(1))
    nodes = nearby_nodes(rotations, 4, 40, 9)
    shifts = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [9.0, 0.0]]]).expand(2, -1, -1)
    scores = torch.zeros(2, 3, nodes.shape[1])
    everything = torch.ones(1, dtype=torch.bool)
    LocalPrior(rotations, torch.zeros(2, 2), Limits(5.0, 2.0, 12.0, 6.0)).add_(scores, Candidates(nodes, everything, shifts, everything), 4)
    angles = rotation_distance(node_rotations(nodes, 4), rotations[:, None]).float()
    near = angles < 12
    assert torch.allclose(scores[:, 0][near], -0.5 * (angles[near] / 5) ** 2, atol=2e-2)
    assert torch.allclose(scores[:, 0] - scores[:, 1], torch.full_like(angles, 0.5 * 25 / 4), atol=1e-2)
    assert float(scores[:, 2].max()) < -1000
    assert float(scores[:, 0][angles > 15].max()) < -1000


def test_the_centre_of_a_mask_is_its_centre_of_mass():
    mask = torch.zeros(20, 20, 20)
    mask[4:7, 10, 15] = 1
    assert mask_centre(mask) == (-5, 0, 5)


def test_a_point_group_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_domain_session(tmp_path, count=44, snr=1.0, degrees=5.0)
    with pytest.raises(InputError, match="use C1"):
        refine(symmetry="D2")


def test_a_fulcrum_outside_the_box_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_domain_session(tmp_path, count=44, snr=1.0, degrees=5.0)
    with pytest.raises(InputError, match="outside the box"):
        refine(fulcrum=[500.0, 0.0, 0.0])
