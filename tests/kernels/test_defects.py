"""Defects are found in the sum of frames, good pixels are not, and substitutes keep the statistics of the frame."""

import torch

from firn.kernels.defects import choose_substitutes, find_defects, places_of


def frames(count: int, mean: float) -> torch.Tensor:
    return torch.poisson(torch.full((count, 256, 256), mean), generator=torch.Generator().manual_seed(4))


def test_hot_and_dead_pixels_are_found_and_no_others() -> None:
    movie = frames(20, 2.0)
    movie[:, 10, 20], movie[:, 200, 100], movie[:, 0, 0] = 9.0, 0.0, 8.0
    found = torch.nonzero(find_defects(movie.sum(dim=0))).tolist()
    assert found == [[0, 0], [10, 20], [200, 100]]


def test_counting_noise_and_gradients_hold_no_defects() -> None:
    ramp = torch.linspace(0.5, 1.5, 256)
    total = torch.poisson(30 * ramp.expand(256, 256), generator=torch.Generator().manual_seed(5))
    assert not find_defects(total).any()


def test_substitutes_are_good_pixels_nearby_drawn_anew_for_each_frame() -> None:
    defects = torch.zeros(40, 50, dtype=torch.bool)
    defects[10, :] = True
    chosen = choose_substitutes(defects, places_of(defects), 30, torch.Generator().manual_seed(6))
    assert chosen.shape == (30, 50)
    assert int(chosen.min()) >= 0
    assert not defects.flatten()[chosen].any()
    assert int((chosen // 50 - 10).abs().max()) <= 5
    assert len(torch.unique(chosen[:, 20])) > 5


def test_a_large_defect_is_filled_from_further_off_and_a_wholly_bad_frame_from_itself() -> None:
    defects = torch.zeros(200, 60, dtype=torch.bool)
    defects[20:60] = True
    chosen = choose_substitutes(defects, places_of(defects), 3, torch.Generator().manual_seed(6))
    assert not defects.flatten()[chosen].any()
    everything = torch.ones(4, 5, dtype=torch.bool)
    assert choose_substitutes(everything, places_of(everything), 2, torch.Generator().manual_seed(6)).tolist() == [list(range(20))] * 2


def test_places_are_those_of_all_true_pixels() -> None:
    for shape in ((3, 5), (16, 17), (1, 8)):
        rare = torch.rand(shape, generator=torch.Generator().manual_seed(7)) < 0.2
        assert places_of(rare).tolist() == torch.nonzero(rare.flatten())[:, 0].tolist()


def test_pixels_of_a_small_image_of_any_shape_are_judged_by_their_surroundings() -> None:
    for shape in ((3, 200), (61, 7), (124, 126)):
        total = torch.poisson(torch.full(shape, 50.0), generator=torch.Generator().manual_seed(8))
        total[1, 2], total[2, 6] = 400.0, 0.0
        found = find_defects(total)
        assert found.shape == shape
        assert torch.nonzero(found).tolist() == [[1, 2], [2, 6]]
