"""Boxes cut out of an image at whole pixels.

Convention: the box around a centre c, yx, holds the pixels c - n // 2 ... c - n // 2 + n - 1, so that c is at index `n // 2`.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def crop_boxes(image: Float[Tensor, "y x"], centres: Int[Tensor, "n 2"], box: int) -> Float[Tensor, "n box box"]:
    """Boxes of side `box` around integer centres yx, all of which must fit (see boxes_fit)."""
    first = centres - box // 2
    if image.device.type == "cpu" and len(centres):
        return torch.stack([image[y : y + box, x : x + box] for y, x in first.tolist()])  # whole rows at once, thrice as fast
    windows = image.unfold(0, box, 1).unfold(1, box, 1)
    return windows[first[:, 0], first[:, 1]]


def boxes_fit(centres: Int[Tensor, "n 2"], box: int, shape: tuple[int, int]) -> Bool[Tensor, "n"]:
    """Whether the box around each centre lies wholly inside an image of the shape yx."""
    first = centres - box // 2
    limit = torch.tensor(shape, device=centres.device)
    return ((first >= 0) & (first + box <= limit)).all(-1)
