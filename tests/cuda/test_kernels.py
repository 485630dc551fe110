"""Kernels on a device give what they give on the CPU. Tolerances are of the largest value; sums in another order differ in the last places."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ctf_images import noisy_micrograph
from firn.kernels.backproject import completed, empty_sums, insert_points_, reconstruct, symmetrise_sums
from firn.kernels.correlate import local_correlation
from firn.kernels.ctf import ctf_2d
from firn.kernels.ctf_fit import Optics
from firn.kernels.fourier import frequencies2, irfft2, rfft2, rfft3, shift_phases
from firn.kernels.grid import fourier_disc
from firn.kernels.half_precision import half_columns, half_rows, split_points
from firn.kernels.pose_grid import all_nodes, node_rotations
from firn.kernels.project import prepare_volume, project
from firn.kernels.rotation import random_rotations
from firn.kernels.score import fast_marginals, marginals_, marginals_are_fast, score_halves, score_poses, shifted_rows, weigh_projections
from firn.kernels.spectrum import read_slices, slice_products, spectrum_table
from firn.kernels.symmetry import symmetry_matrices
from firn.kernels.templates import disc_mask, draw_blobs
from firn.preprocess.ctf import estimate_ctf
from firn.preprocess.ctf_spectrum import CtfSettings
from firn.preprocess.motion import Settings, align_whole_frames
from firn.preprocess.pick import Picks, Scene, Shape
from firn.preprocess.reduced import Reduced
from firn.preprocess.second_look import particle_gains
from firn.refine.slice_sums import SliceSums

SIDE, COUNT = 32, 40


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


def assert_alike(work: Callable[..., Any], inputs: tuple[Any, ...], device: torch.device, tolerance: float) -> None:
    """That work gives the same, within a part of its largest value, from inputs on the CPU and on the device."""
    expected, found = work(*inputs), work(*(moved(value, device) for value in inputs))
    for known, got in zip(*((part,) if isinstance(part, Tensor) else part for part in (expected, found)), strict=True):
        assert got.device.type == device.type
        assert float((got.cpu() - known).abs().max()) <= tolerance * float(known.abs().max())


def slices(volume: Tensor, rotations: Tensor) -> Tensor:
    return project(prepare_volume(volume), rotations, SIDE)


def test_fourier_transforms(device: torch.device) -> None:
    assert_alike(rfft2, (drawn(3, 60, 45),), device, 1e-6)
    assert_alike(rfft3, (drawn(30, 30, 30),), device, 1e-6)
    assert_alike(lambda image: irfft2(rfft2(image), (45, 60)), (drawn(3, 45, 60),), device, 1e-6)


def test_projections(device: torch.device) -> None:
    assert_alike(slices, (drawn(SIDE, SIDE, SIDE), random_rotations(COUNT, torch.Generator().manual_seed(2))), device, 1e-5)


def test_back_projections(device: torch.device) -> None:
    rotations = random_rotations(COUNT, torch.Generator().manual_seed(3))

    def volume(images: Tensor, turns: Tensor) -> Tensor:
        disc = fourier_disc(SIDE, 12, images.device)
        sums = empty_sums(2 * SIDE, images.device)
        values = rfft2(images).flatten(1)[:, disc.index] * (disc.weights / 2)
        insert_points_(*sums, values, (disc.weights / 2).expand(len(images), -1), turns, disc.points)
        operators = symmetry_matrices("D2").float().to(images.device)
        return reconstruct(*symmetrise_sums(*completed(*sums), operators), SIDE, radius=12)

    assert_alike(volume, (drawn(COUNT, SIDE, SIDE), rotations), device, 5e-4)


def test_runs_of_slices_in_given_poses(device: torch.device) -> None:
    rotations = random_rotations(COUNT, torch.Generator().manual_seed(4))

    def sums(images: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
        disc = fourier_disc(SIDE, 12, images.device)
        gathered = SliceSums(SIDE, 12, disc.points)
        values = rfft2(images).flatten(1)[:, disc.index]
        for rows in torch.arange(len(images)).split(7):
            gathered.add(values[rows], values[rows].abs(), turns[rows])
        return gathered.completed()

    assert_alike(sums, (drawn(COUNT, SIDE, SIDE), rotations), device, 1e-5)


def test_sums_do_not_care_in_which_order_slices_come(device: torch.device) -> None:
    disc, rotations = fourier_disc(SIDE, 12, device), random_rotations(COUNT, torch.Generator().manual_seed(5)).to(device)
    values = rfft2(drawn(COUNT, SIDE, SIDE).to(device)).flatten(1)[:, disc.index]
    found = []
    for order in (torch.arange(COUNT), torch.randperm(COUNT, generator=torch.Generator().manual_seed(6))):
        sums = empty_sums(2 * SIDE, device)
        insert_points_(*sums, values[order], values[order].abs(), rotations[order], disc.points)
        found.append(sums[0].cpu())
    assert torch.allclose(found[0], found[1], atol=1e-4 * float(found[0].abs().max()))


def test_products_of_slices_read_where_they_are_needed(device: torch.device) -> None:
    frames = 2 * random_rotations(4 * 5, torch.Generator().manual_seed(7)).reshape(4, 5, 3, 3)
    every = torch.ones(4, 5, dtype=torch.bool), torch.ones(4, 3, dtype=torch.bool)

    def products(volume: Tensor, frames: Tensor, rows: Tensor, powers: Tensor, *wanted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        disc = fourier_disc(SIDE, 9, volume.device)
        table = spectrum_table(prepare_volume(volume))
        rows, powers = (part[..., : len(disc.points)] for part in (rows, powers))
        cross, norms, found = slice_products(table, frames, disc.points, rows, powers, (wanted[0], wanted[1]))
        assert found is not None
        return cross, norms, found

    rows = torch.complex(drawn(4, 3, 200, seed=8), drawn(4, 3, 200, seed=9))
    assert_alike(products, (drawn(SIDE, SIDE, SIDE), frames, rows, drawn(4, 200).abs(), *every), device, 1e-5)


def test_slices_beyond_the_spectrum_are_zero_alike(device: torch.device) -> None:
    def read(volume: Tensor, turns: Tensor) -> Tensor:
        points = fourier_disc(SIDE, 15, volume.device).points
        return read_slices(spectrum_table(prepare_volume(volume)), 1.9 * turns, points)

    assert_alike(read, (drawn(SIDE, SIDE, SIDE), random_rotations(9, torch.Generator().manual_seed(10))), device, 1e-5)


def scored(device: torch.device, snr: float) -> dict[str, Any]:
    """Rows, columns and the rest for the scores of a few images of a lump against the orientations of the coarsest grid."""
    axis = torch.arange(SIDE) - SIDE // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    volume = torch.exp(-(z**2 + (y - 4) ** 2 + 2 * x**2) / 40.0) + torch.exp(-((z - 5) ** 2 + y**2 + (x + 4) ** 2) / 20.0)
    turns = node_rotations(all_nodes(2, "D2"), 2)
    clean = slices(volume, turns[::150])
    noise = float(irfft2(clean, (SIDE, SIDE)).var()) / snr
    images = clean + rfft2(math.sqrt(noise) * drawn(len(clean), SIDE, SIDE, seed=12))
    disc, variance = fourier_disc(SIDE, 8), noise * SIDE**2
    shifts = torch.cartesian_prod(*[torch.arange(-1, 2.0)] * 2)
    rows = shifted_rows(images.flatten(1)[:, disc.index] / variance, shift_phases(disc.points / SIDE, shifts))
    columns, powers = weigh_projections(slices(volume, turns).flatten(1)[:, disc.index], disc.weights)
    power = torch.full((len(images), len(disc.index)), 1 / variance)
    split = split_points(powers, torch.full((len(disc.index),), variance), disc.weights, scaled=True)
    values = {"rows": rows, "ctf_power": power, "columns": columns, "powers": powers, "split": split, "prior": -drawn(len(images), 9).abs()}
    return {name: value.to(device) for name, value in values.items()}


@pytest.mark.parametrize("snr", [0.02, 0.1, 1.0])
def test_scores_in_half_precision_are_those_in_single_precision(device: torch.device, snr: float) -> None:
    here = scored(torch.device("cpu"), snr)
    expected = score_poses(*(here[name].double() for name in ("rows", "ctf_power", "columns", "powers")))
    parts = scored(device, snr)
    full = score_poses(*(parts[name] for name in ("rows", "ctf_power", "columns", "powers"))).cpu()
    rows, columns = half_rows(parts["rows"], parts["split"]), half_columns(parts["columns"], parts["split"])
    half = score_halves(rows, columns, parts["ctf_power"] @ parts["powers"].T, scaled=True).cpu()
    assert float((full - expected).abs().max()) < 0.01
    assert float((half - expected).abs().max()) < 0.05


@pytest.mark.parametrize("scaled", [True, False])
def test_the_compiled_marginals_are_those_of_the_scores(device: torch.device, scaled: bool) -> None:
    if not marginals_are_fast(device):
        pytest.skip("no tensor cores, or no Triton, are here")
    parts = scored(device, 0.1)
    rows, columns = half_rows(parts["rows"], parts["split"]), half_columns(parts["columns"], parts["split"])
    norms = parts["ctf_power"] @ parts["powers"].T
    found = fast_marginals(rows, columns, norms, parts["prior"], 0.5, scaled)
    expected = marginals_(score_halves(rows, columns, norms, scaled) + parts["prior"][:, :, None], 0.5)
    for got, known in zip(found, expected, strict=True):
        assert torch.allclose(got, known, rtol=1e-3, atol=1e-5)


def test_ctfs(device: torch.device) -> None:
    def ctf(u: Tensor, v: Tensor, angle: Tensor) -> Tensor:
        return ctf_2d(frequencies2((64, 64), u.device) / 1.5, u, v, angle, 300.0, 2.7)

    assert_alike(ctf, (torch.tensor([9e3, 2e4]), torch.tensor([1e4, 2.1e4]), torch.tensor([10.0, 70.0])), device, 1e-4)


def test_fits_of_the_ctf(device: torch.device) -> None:
    image = torch.from_numpy(noisy_micrograph((400, 400), 1.5, 15000, 14500, 20, cs=2.7, ac=0.1, signal=2.0)).float()
    found = [estimate_ctf(image.to(place), 1.5, Optics(300.0, 2.7, 0.1), CtfSettings()) for place in (torch.device("cpu"), device)]
    assert found[1].defocus_u == pytest.approx(found[0].defocus_u, abs=5.0)
    assert found[1].defocus_v == pytest.approx(found[0].defocus_v, abs=5.0)
    assert found[1].fit_resolution == pytest.approx(found[0].fit_resolution, rel=0.02)


def test_motion_of_whole_frames(device: torch.device) -> None:
    scene = np.random.default_rng(3).normal(size=(96, 96)).cumsum(0).cumsum(1)
    frames = torch.stack([torch.from_numpy(np.roll(scene - scene.mean(), (step, -step), (0, 1))).float() for step in range(6)])
    frames = frames / frames.std() + 0.5 * drawn(6, 96, 96)
    times, settings = torch.linspace(0, 1, 6), Settings(pixel_size=3.0, max_align_resolution=8.0)
    expected, found = (align_whole_frames(frames.to(place), 3.0, times.to(place), settings)[0] for place in (torch.device("cpu"), device))
    assert float((found.cpu() - expected).abs().max()) < 0.01


def test_matches_of_templates(device: torch.device) -> None:
    def match(image: Tensor) -> tuple[Tensor, Tensor]:
        blobs = draw_blobs("disc", 60.0, 60.0, torch.zeros(1, device=image.device), 32, 4.0)
        inside = torch.ones_like(image, dtype=torch.bool)
        return local_correlation(image, inside, blobs[..., 1:, 1:], disc_mask(66.0, 31, 4.0, image.device))

    assert_alike(match, (drawn(90, 100),), device, 1e-4)


def test_weights_of_a_second_look(device: torch.device) -> None:
    angles = torch.arange(0, 180, 30.0)
    templates = draw_blobs("ellipse", 110.0, 36.0, angles, 54, 8.0)
    points = torch.cartesian_prod(torch.arange(40.0, 280, 40), torch.arange(40.0, 280, 40))
    image = drawn(320, 320)
    for number, (y, x) in enumerate(points.int().tolist()):
        image[y - 27 : y + 27, x - 27 : x + 27] += 3 * (number % 2) * templates[number % len(angles)]

    def gains(image: Tensor, templates: Tensor, angles: Tensor, points: Tensor) -> Tensor:
        known, ones = torch.ones_like(image, dtype=torch.bool), torch.ones_like(points[:, 0])
        number = torch.arange(len(points))
        turns = angles[(number % len(angles)).to(angles.device)]
        picks = Picks(points, ones, ones, torch.zeros_like(ones).long(), turns)
        reduced, shape = Reduced(image, torch.zeros_like(image), known, 8.0, (1.0, 1.0)), Shape(templates, angles, 160.0)
        factors = torch.ones(54, 28, device=image.device)
        return particle_gains(Scene(reduced, [shape], known, factors), picks, number % 2 == 1, number % 2 == 0)

    assert_alike(gains, (image, templates, angles, points), device, 1e-3)
