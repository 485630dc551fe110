"""The search for poses in half precision, without scores in memory, beside the plain one."""

import pytest
import torch
from torch import Tensor

from firn.kernels.fourier import irfft2, rfft2
from firn.kernels.grid import fourier_disc
from firn.kernels.project import prepare_volume, project
from firn.kernels.rotation import random_rotations, rotation_distance
from firn.refine import expectation
from firn.refine.expectation import OffsetPrior, Posterior, Searcher
from firn.refine.poses import mean_pose
from firn.refine.schedule import search_levels
from firn.refine.state import HalfModel
from half_scores import by_definition

SIDE, COUNT = 32, 24


def lump(seed: int) -> Tensor:
    """Twenty soft balls without symmetry."""
    chance = torch.Generator().manual_seed(seed)
    axis = torch.arange(SIDE) - SIDE // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    centres = (torch.rand(20, 3, generator=chance) - 0.5) * torch.tensor([18.0, 12.0, 8.0])
    return sum((torch.exp(-((z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2) / 3) for a, b, c in centres), torch.zeros(SIDE, SIDE, SIDE))


def searched(fast: bool, scaled: bool, snr: float) -> tuple[Posterior, Tensor]:
    """(posterior, true rotations) of images of a lump."""
    chance, volume = torch.Generator().manual_seed(11), lump(3)
    true = random_rotations(COUNT, chance)
    clean = project(prepare_volume(volume), true, SIDE)
    power = irfft2(clean, (SIDE, SIDE)).var()
    noise = torch.randn(COUNT, SIDE, SIDE, generator=chance) * (power / snr).sqrt()
    variance = torch.full((1, SIDE // 2 + 1), float(power / snr) * SIDE**2)
    searcher = Searcher(HalfModel(volume, variance, scaled), search_levels(SIDE, 20.0, 10.0, 2, 4), "C1", 2.0, everywhere=True)
    searcher.fast = fast
    ctf = [torch.ones(COUNT, len(reference.disc.index)) for reference in searcher.references]
    prior = OffsetPrior(torch.zeros(COUNT, 2), 2.0)
    groups = torch.zeros(COUNT, dtype=torch.long)
    return searcher.search(clean + rfft2(noise), ctf, groups, torch.eye(3).expand(COUNT, 3, 3), prior), true


@pytest.mark.parametrize(("scaled", "snr"), [(True, 0.05), (True, 0.3), (False, 0.3)])
def test_the_fast_search_finds_what_the_plain_one_does(monkeypatch: pytest.MonkeyPatch, scaled: bool, snr: float):
    monkeypatch.setattr(expectation, "fast_marginals", by_definition)
    plain, true = searched(fast=False, scaled=scaled, snr=snr)
    quick, _ = searched(fast=True, scaled=scaled, snr=snr)
    assert torch.allclose(quick.spread, plain.spread, rtol=0.02)
    assert torch.allclose(quick.evidence, plain.evidence, atol=0.05)
    found, expected = mean_pose(quick), mean_pose(plain)
    assert float(rotation_distance(found[0], expected[0]).median()) < 0.01
    assert snr < 0.1 or float(rotation_distance(found[0], true).median()) < 8.0


def test_a_single_level_is_searched_plainly():
    volume, variance = lump(1), torch.ones(1, SIDE // 2 + 1)
    searcher = Searcher(HalfModel(volume, variance, True), search_levels(SIDE, 20.0, 10.0, 2, 4)[:1], "C1", 1.0, everywhere=True)
    searcher.fast = True
    disc = fourier_disc(SIDE, searcher.levels[0].radius)
    assert searcher.references[0].kept is not None
    image = project(prepare_volume(volume), torch.eye(3)[None], SIDE)
    found = searcher.search(
        image, [torch.ones(1, len(disc.index))], torch.zeros(1, dtype=torch.long), torch.eye(3)[None], OffsetPrior(torch.zeros(1, 2), 1.0)
    )
    assert found.probability.shape[-1] == len(searcher.references[0].kept.nodes)
