"""Components of particles in known poses: what was planted is found, noise gives nothing, first classes are where images come from."""

import numpy as np
import pytest
import torch

from firn.kernels.fsc import fsc
from firn.kernels.grid import fourier_disc
from firn.kernels.mask import soft_sphere
from firn.kernels.project import prepare_volume, project_points
from firn.kernels.rotation import random_rotations
from firn.refine.posed_components import Components, components, first_shares
from firn.refine.posed_disc import DiscImages, PosedDisc
from firn.simulate.phantom import phantom_volume, random_phantom

SIDE, PIXEL, COUNT = 24, 6.0, 400


def planted(strength: float, seed: int = 1) -> tuple[PosedDisc, torch.Tensor]:
    """Images of z times a hidden map, z from two far values, in white noise of variance 1; returns z too."""
    chance = torch.Generator().manual_seed(seed)
    disc = fourier_disc(SIDE, 9.0)
    hidden = torch.tensor(phantom_volume(random_phantom(10, 30.0, seed=3, widths=(5.0, 7.0)), SIDE, PIXEL))
    rotations = random_rotations(COUNT, chance)
    z = (torch.randint(2, (COUNT,), generator=chance) * 2 - 1).float()
    slices = project_points(prepare_volume(hidden), rotations, disc.points)
    slices = slices / slices.abs().square().mean().sqrt()
    noise = torch.complex(*(torch.randn(COUNT, len(disc.points), generator=chance) / 2**0.5 for _ in range(2)))
    data = DiscImages(strength * z[:, None] * slices + noise, torch.ones(COUNT, len(disc.points)), rotations, 1 + torch.arange(COUNT) % 2)
    return PosedDisc(data, disc, SIDE, lambda rows, step: iter(rows)), z


def found(disc: PosedDisc) -> torch.Tensor:
    nothing = prepare_volume(torch.zeros(SIDE, SIDE, SIDE))
    chance = torch.Generator().manual_seed(2)
    return components(disc, (nothing, nothing), soft_sphere(SIDE, 9.0, 2.0), 1, 9.0, chance).coordinates[:, 0]


def test_a_planted_component_is_found_and_its_coordinates_with_it():
    disc, z = planted(0.5)
    correlation = np.corrcoef(found(disc).numpy(), z.numpy())[0, 1]
    assert abs(correlation) > 0.9


def test_noise_alone_gives_coordinates_that_separate_nothing():
    disc, z = planted(0.0)
    assert abs(np.corrcoef(found(disc).numpy(), z.numpy())[0, 1]) < 0.15


def test_maps_of_both_half_sets_come_from_their_own_images():
    disc, z = planted(1.0)
    own = disc.maps(z.clamp(min=0)[:, None], 9.0, None, "maps")[0]
    spoilt = DiscImages(
        torch.where((disc.data.half == 2)[:, None], torch.zeros_like(disc.data.coefficients), disc.data.coefficients),
        disc.data.ctf, disc.data.rotations, disc.data.half,
    )  # fmt: skip
    other = PosedDisc(spoilt, disc.disc, SIDE, lambda rows, step: iter(rows)).maps(z.clamp(min=0)[:, None], 9.0, None, "maps")[0]
    torch.testing.assert_close(other.halves[0], own.halves[0])
    assert float(other.halves[1].abs().max()) == 0
    assert float(fsc(own.halves[0], own.halves[1])[1:4].min()) > 0.9


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.6, 0.3, 0.1)])
def test_first_classes_are_the_points_of_which_noisy_images_come(fractions: tuple[float, ...]):
    chance, count = torch.Generator().manual_seed(4), 4000
    places = torch.tensor([[0.0, 1.0], [1.2, 0.0], [-1.0, -1.2]])[: len(fractions)]
    state = torch.multinomial(torch.tensor(fractions), count, replacement=True, generator=chance)
    powers = torch.eye(2) * (1 + 3 * torch.rand(count, 1, 1, generator=chance))
    along = (powers @ places[state][..., None]).squeeze(-1) + powers[:, 0, :1].sqrt() * torch.randn(count, 2, generator=chance)
    shares = first_shares(Components(along / 3, along, powers), len(fractions), chance)
    logs = along @ places.T - 0.5 * torch.einsum("kp,npq,kq->nk", places, powers, places) + torch.tensor(fractions).log()
    possible = float((logs.argmax(1) == state).float().mean())
    order = [int(shares[state == number].mean(0).argmax()) for number in range(len(fractions))]
    assert sorted(order) == list(range(len(fractions)))
    assert float((shares[:, order].argmax(1) == state).float().mean()) > possible - 0.01
    torch.testing.assert_close(shares.mean(0)[order], torch.tensor(fractions), atol=0.04, rtol=0)
