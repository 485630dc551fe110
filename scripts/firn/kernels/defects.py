"""Detector pixels that tell nothing: found in the sum of a movie's frames, replaced frame by frame with a good neighbour's value.

Taking a neighbour's value, and not a mean, keeps the counting noise of the frame.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

HOT_SD, DEAD_SD = 7.0, 6.0
LEAST_COUNTS = 14.0
REACHES_PX = (5, 5, 5, 5, 5, 5, 20, 20, 80, 80)


def find_defects(total: Float[Tensor, "y x"], box: int = 15) -> Bool[Tensor, "y x"]:
    """Pixels of the sum of all frames that are hot (7 sd above their surroundings) or dead (6 sd below, or nothing where 14 are due).

    The sd is robust (from the quartiles of the deviations), so that the defects themselves do not widen it.
    """
    surroundings = _box_mean(total, box)
    deviation = total - surroundings
    sample = deviation.flatten()[:: max(1, deviation.numel() // 200_000)]
    quartiles = torch.quantile(sample, torch.tensor([0.25, 0.75], device=total.device, dtype=total.dtype))
    sd = ((quartiles[1] - quartiles[0]) / 1.349).clamp(min=1e-6)
    empty = (total <= 0) & (surroundings > LEAST_COUNTS)
    return (deviation > HOT_SD * sd) | (deviation < -DEAD_SD * sd) | empty


def choose_substitutes(defects: Bool[Tensor, "y x"], frames: int, generator: torch.Generator) -> Tensor:
    """Flat index `(frames, d)` of a good pixel for each defect, drawn anew for each frame: within 5 pixels, further off in large
    defects, anywhere in the end (itself where no pixel is good)."""
    height, width = defects.shape
    rows, columns = torch.nonzero(defects, as_tuple=True)
    good = torch.nonzero(~defects.flatten())[:, 0]
    own = (rows * width + columns).expand(frames, -1)
    if not len(good) or not len(rows):
        return own.clone()
    chosen = torch.full((frames, len(rows)), -1, dtype=torch.long, device=defects.device)
    for reach in REACHES_PX:
        steps = torch.randint(-reach, reach + 1, (2, frames, len(rows)), generator=generator).to(defects.device)
        y, x = (rows + steps[0]).clamp(0, height - 1), (columns + steps[1]).clamp(0, width - 1)
        chosen = torch.where((chosen < 0) & ~defects[y, x], y * width + x, chosen)
    anywhere = torch.randint(0, len(good), chosen.shape, generator=generator).to(defects.device)
    return torch.where(chosen < 0, good[anywhere], chosen)


def _box_mean(image: Float[Tensor, "y x"], box: int) -> Float[Tensor, "y x"]:
    return _running_mean(_running_mean(image, box).T, box).T


def _running_mean(rows: Float[Tensor, "y x"], box: int) -> Float[Tensor, "y x"]:
    """Mean over a window of odd length along each row; the window shrinks at the ends."""
    width = rows.shape[1]
    sums = torch.nn.functional.pad(torch.cumsum(rows.double(), dim=1), (1, 0))
    column = torch.arange(width, device=rows.device)
    low, high = (column - box // 2).clamp(min=0), (column + box // 2 + 1).clamp(max=width)
    return ((sums[:, high] - sums[:, low]) / (high - low)).to(rows.dtype)
