"""Boxes hold their centre at index n // 2 and never leave the image."""

import pytest
import torch

from firn.kernels.crop import boxes_fit, crop_boxes


@pytest.mark.parametrize("box", [8, 9])
def test_the_centre_of_a_box_is_the_pixel_asked_for(box):
    image = torch.arange(30 * 40).reshape(30, 40).float()
    centres = torch.tensor([[10, 20], [15, 7]])
    boxes = crop_boxes(image, centres, box)
    assert boxes.shape == (2, box, box)
    assert boxes[:, box // 2, box // 2].tolist() == [image[10, 20], image[15, 7]]
    assert float(boxes[0, box // 2 + 1, box // 2 - 2]) == float(image[11, 18])


@pytest.mark.parametrize("box", [8, 9])
def test_boxes_fit_up_to_the_last_pixel(box):
    first, last = box // 2, 30 - box + box // 2
    centres = torch.tensor([[first, first], [last, first], [first - 1, first], [first, last + 1]])
    assert boxes_fit(centres, box, (30, 30)).tolist() == [True, True, False, False]
