"""Cross-validated local regularisation: better references where order is uneven, and nothing out of noise."""

import itertools

import torch

from firn.kernels.filter import low_pass_volume
from firn.kernels.fourier import rfft3
from firn.kernels.fsc import fsc
from firn.kernels.mask import centre_distance
from firn.kernels.project import gridding_window, pad_volume
from firn.refine.nonuniform import CrossValidated, band_cutoffs
from firn.refine.regularise import HalfMaps, Sums, wiener

SIDE = 40
RADIUS = 19.0


def sums_of(volume: torch.Tensor) -> Sums:
    """Evenly weighted sums whose reconstruction is the volume."""
    spectrum = rfft3(pad_volume(volume * gridding_window(SIDE, 2), 2 * SIDE))
    return spectrum, torch.ones_like(spectrum.real)


def half_maps(truth: torch.Tensor, noise: float, seed: int = 0) -> HalfMaps:
    chance = torch.Generator().manual_seed(seed)
    maps = [truth + noise * torch.randn(truth.shape, generator=chance) for _ in range(2)]
    return HalfMaps((sums_of(maps[0]), sums_of(maps[1])), (maps[0], maps[1]), RADIUS, fsc(maps[0], maps[1]))


def membrane_protein() -> tuple[torch.Tensor, torch.Tensor]:
    """(truth, where it is ordered): detail in a ball, a smooth belt around it, nothing elsewhere."""
    distance = centre_distance((SIDE, SIDE, SIDE))
    inside = distance < 7
    detail = low_pass_volume(torch.randn(SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(9)), 1.0, 3.0)
    belt = ((distance > 8) & (distance < 15)).float()
    return low_pass_volume(3 * detail * inside, 1.0, 3.0) + low_pass_volume(1.5 * belt, 1.0, 12.0), inside


def test_references_are_closer_to_the_truth_than_those_of_one_filter_for_all():
    truth, inside = membrane_protein()
    halves = half_maps(truth, 1.0)
    band = low_pass_volume(truth, 1.0, SIDE / RADIUS)
    for one, local in zip(
        (*wiener(halves)[0], wiener(halves)[1]), (*CrossValidated()(halves)[0], CrossValidated()(halves)[1]), strict=True
    ):
        assert float((local - band).square().mean()) < 0.75 * float((one - band).square().mean())
        assert float((local - band)[inside].square().mean()) < 0.9 * float((one - band)[inside].square().mean())


def test_nothing_comes_out_of_noise():
    halves = half_maps(torch.zeros(SIDE, SIDE, SIDE), 1.0)
    (first, second), combined = CrossValidated()(halves)
    for volume in (first, second, combined):
        assert float(volume.square().mean()) < 0.005
    curve = fsc(first, second)
    assert float(first.mul(second).mean()) < 0.002
    assert float(curve[4:].mean()) < 0.3


def test_noise_beside_a_molecule_carries_no_detail():
    truth, inside = membrane_protein()
    (first, _), _ = CrossValidated()(half_maps(truth, 1.0))
    far = centre_distance((SIDE, SIDE, SIDE)) > 17.5
    detail = first - low_pass_volume(first, 1.0, 10.0)
    assert float(detail[far].square().mean()) < 0.01 * float(detail[inside].square().mean())


def test_perfect_halves_are_left_as_they_are():
    truth = low_pass_volume(membrane_protein()[0], 1.0, 3.0)
    halves = half_maps(truth, 1e-4)
    (first, _), combined = CrossValidated()(halves)
    assert float((first - truth).square().mean()) < 1e-4 * float(truth.square().mean())
    assert float((combined - truth).square().mean()) < 1e-4 * float(truth.square().mean())


def test_bands_reach_from_the_coarsest_to_the_radius():
    for radius in (2.5, 9.0, 23.0, 127.0):
        cutoffs = band_cutoffs(radius)
        assert cutoffs[-1] == radius
        assert all(later - earlier > 1 for earlier, later in itertools.pairwise(cutoffs))
