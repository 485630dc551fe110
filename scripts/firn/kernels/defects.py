"""Detector pixels that tell nothing: found in the sum of a movie's frames, replaced frame by frame with a good neighbour's value.

Taking a neighbour's value, and not a mean, keeps the counting noise of the frame.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

HOT_SD, DEAD_SD = 7.0, 6.0
LEAST_COUNTS = 14.0
HALF_BOX, STRIP_ROWS = 7, 64
REACHES_PX = (5, 5, 5, 5, 5, 5, 20, 20, 80, 80)


def find_defects(total: Float[Tensor, "y x"]) -> Bool[Tensor, "y x"]:
    """Pixels of the sum of all frames that are hot (7 sd above their surroundings) or dead (6 sd below, or nothing where 14 are due).

    The sd is robust (from the quartiles of the deviations), so that the defects themselves do not widen it.
    """
    deviation = _box_deviation(total)
    sample = deviation.view(-1)[:: max(1, deviation.numel() // 50_000)]
    quartiles = torch.quantile(sample, torch.tensor([0.25, 0.75], device=total.device, dtype=total.dtype))
    sd = float((quartiles[1] - quartiles[0]).clamp(min=1e-6) / 1.349)
    defects = deviation < -min(DEAD_SD * sd, LEAST_COUNTS)
    rows, columns = torch.nonzero(defects, as_tuple=True)
    defects[rows, columns] = (deviation[rows, columns] < -DEAD_SD * sd) | (total[rows, columns] <= 0)
    return defects.logical_or_(deviation > HOT_SD * sd)


def choose_substitutes(defects: Bool[Tensor, "y x"], frames: int, generator: torch.Generator) -> Tensor:
    """Flat index `(frames, d)` of a good pixel for each defect, drawn anew for each frame: within 5 pixels, further off in large
    defects, anywhere in the end (itself where no pixel is good)."""
    height, width = defects.shape
    rows, columns = torch.nonzero(defects, as_tuple=True)
    if not len(rows) or len(rows) == defects.numel():
        return (rows * width + columns).repeat(frames, 1)
    chosen = torch.full((frames, len(rows)), -1, dtype=torch.long, device=defects.device)
    for reach in REACHES_PX:
        steps = torch.randint(-reach, reach + 1, (2, frames, len(rows)), generator=generator).to(defects.device)
        y, x = (rows + steps[0]).clamp(0, height - 1), (columns + steps[1]).clamp(0, width - 1)
        chosen = torch.where((chosen < 0) & ~defects[y, x], y * width + x, chosen)
    if bool((chosen >= 0).all()):
        return chosen
    good = torch.nonzero(~defects.flatten())[:, 0]
    anywhere = torch.randint(0, len(good), chosen.shape, generator=generator).to(defects.device)
    return torch.where(chosen < 0, good[anywhere], chosen)


def _box_deviation(image: Float[Tensor, "y x"]) -> Float[Tensor, "y x"]:
    """Image less its mean over squares of 15 pixels a side; mirrored at its edges. In strips of rows that stay in a processor's cache."""
    height, width = image.shape
    if min(height, width) <= HALF_BOX:
        return image - image.mean()
    box = 2 * HALF_BOX + 1
    rows = [*range(HALF_BOX, 0, -1), *range(height), *range(height - 2, height - HALF_BOX - 2, -1)]
    deviation = torch.empty_like(image)
    for start in range(0, height, STRIP_ROWS):
        count = min(STRIP_ROWS, height - start)
        source = image[rows[start : start + count + box - 1]]
        padded = torch.cat((source[:, 1 : HALF_BOX + 1].flip(1), source, source[:, -HALF_BOX - 1 : -1].flip(1)), dim=1)
        means = _sums_of_15(_sums_of_15(padded, 0), 1).div_(box**2)
        torch.sub(image[start : start + count], means, out=deviation[start : start + count])
    return deviation


def _sums_of_15(image: Float[Tensor, "y x"], axis: int) -> Float[Tensor, "h w"]:
    """Sums of 15 neighbours along an axis, 14 fewer of them, by doubling: 8 + 4 + 2 + 1."""
    size = image.shape[axis]
    two = image.narrow(axis, 0, size - 1) + image.narrow(axis, 1, size - 1)
    four = two.narrow(axis, 0, size - 3) + two.narrow(axis, 2, size - 3)
    eight = four.narrow(axis, 0, size - 7) + four.narrow(axis, 4, size - 7)
    count = size - 14
    total = eight.narrow(axis, 0, count) + four.narrow(axis, 8, count)
    return total.add_(two.narrow(axis, 12, count)).add_(image.narrow(axis, 14, count))
