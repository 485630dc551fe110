"""Support of classes: gains beyond chance count, merging follows distances; what half-sets share is kept, the rest fades."""

import pytest
import torch

from firn.refine.posed_support import centred_products, merged, supported
from firn.refine.shared_difference import shared_by_place, shared_by_shell, shared_differences

SIDE = 25


def noise(seed: int, side: int = SIDE) -> torch.Tensor:
    return torch.randn(side, side, side, generator=torch.Generator().manual_seed(seed))


def test_more_classes_are_supported_only_when_they_gain_beyond_chance():
    chance = torch.randn(1000, generator=torch.Generator().manual_seed(1))
    chance = (chance - chance.mean()) / chance.std()
    none, good, same = torch.zeros(1000), 0.3 + chance, 0.3 + chance + 0.01 * chance.flip(0)
    assert supported(torch.stack((none, good, same), 1)).classes == 2
    assert supported(torch.stack((none, 0.05 + chance), 1)).classes == 1
    assert supported(torch.stack((none, -good), 1)).classes == 1
    told = supported(torch.stack((none, good), 1))
    assert told.gains == pytest.approx((0, 0.3), abs=1e-6)
    assert told.errors == pytest.approx((0, 1000**-0.5), rel=1e-4)


def test_two_classes_that_hardly_differ_are_merged_first_and_weighted_by_their_size():
    places = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.1, 0.0], [0.0, 5.0]])
    fractions = torch.tensor([0.3, 0.4, 0.1, 0.2])
    one, two, three, four = merged(fractions, places @ places.T)
    torch.testing.assert_close(four[:, :-1], torch.eye(4))
    torch.testing.assert_close(three[-1], torch.tensor([0.75, 0.0, 0.25, 0.0, 0.4]))
    torch.testing.assert_close(two[:, -1].sort().values, torch.tensor([0.4, 0.6]))
    torch.testing.assert_close(one[0, :-1] @ places, fractions @ places)


@pytest.mark.parametrize("side", [24, 25])
def test_what_both_have_is_kept_and_independent_noise_fades(side: int):
    signal = noise(1, side)
    first, second = signal + noise(2, side), signal + noise(3, side)
    shared = shared_by_shell(first, second)
    assert float(shared[4:12].mean()) == pytest.approx(0.5, abs=0.06)
    assert float(shared_by_shell(noise(2, side), noise(3, side))[4:12].mean()) < 0.06
    torch.testing.assert_close(shared_by_shell(signal, signal), torch.ones(side // 2 + 1))


def test_a_difference_in_one_place_is_kept_there_and_removed_elsewhere():
    place = torch.zeros(SIDE, SIDE, SIDE)
    place[4:9, 4:9, 4:9] = 3.0
    first, second = shared_differences(place + 0.3 * noise(4), place + 0.3 * noise(5), 8.0)
    inside = place > 0
    elsewhere = ~torch.nn.functional.max_pool3d(inside[None].float(), 9, 1, 4)[0].bool()
    for found in (first, second):
        assert float(found[inside].mean()) > 0.7 * 3.0
        assert float(found[elsewhere].std()) < 0.3 * 0.3
    part = shared_by_place(place + 0.01 * noise(4), place + 0.01 * noise(5), 1.5)
    assert float(part.min()) >= 0
    assert float(part.max()) <= 1
    assert float(part[inside].min()) > 0.9


def test_what_all_images_have_in_common_is_no_difference_between_them():
    chance = torch.Generator().manual_seed(3)
    differences = torch.randn(2, 6, generator=chance)
    models = torch.stack((differences[0], differences[1], -differences[0] - differences[1])) * torch.rand(50, 1, 1, generator=chance)
    images = 0.7 * models[:, 0] - 0.2 * models[:, 1]
    along, powers = (models @ images[..., None]).squeeze(-1), models @ models.mT
    torch.testing.assert_close(centred_products(along, powers), torch.zeros(50, 3), atol=1e-4, rtol=0)
