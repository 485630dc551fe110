"""Detector pixels that tell nothing: found in the sum of a movie's frames, replaced frame by frame with a good neighbour's value.

Taking a neighbour's value, and not a mean, keeps the counting noise of the frame.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

HOT_SD, DEAD_SD = 7.0, 6.0
LEAST_COUNTS = 14.0
BLOCK, STRIP_ROWS = 5, 60
SAMPLED_PIXELS = 50_000
WORD = 8
REACHES_PX = (5, 5, 5, 5, 5, 5, 20, 20, 80, 80)


def find_defects(total: Float[Tensor, "y x"]) -> Bool[Tensor, "y x"]:
    """Pixels of the sum of all frames that are hot (7 sd above their surroundings) or dead (6 sd below, or nothing where 14 are due).

    Surroundings are the mean of three blocks of 5 x 5 pixels each way. The sd is robust (from the quartiles of the deviations), so
    that the defects themselves do not widen it.
    """
    around = _surroundings(total)
    sample = torch.arange(0, total.numel(), max(1, total.numel() // SAMPLED_PIXELS), device=total.device)
    deviations = total.view(-1)[sample] - around[sample // total.shape[1] // BLOCK, sample % total.shape[1]]
    lower, upper = (deviations.kthvalue(1 + int(share * (len(deviations) - 1))).values for share in (0.25, 0.75))
    sd = float((upper - lower).clamp(min=1e-6) / 1.349)
    defects = torch.empty(total.shape, dtype=torch.bool, device=total.device)
    for start in range(0, len(total), STRIP_ROWS):
        strip = total[start : start + STRIP_ROWS]
        local = around[start // BLOCK : (start + STRIP_ROWS) // BLOCK].repeat_interleave(BLOCK, dim=0)
        deviation = strip - local[: len(strip)]
        empty = (deviation < -LEAST_COUNTS).logical_and_(strip <= 0)
        torch.logical_or(empty, deviation > HOT_SD * sd, out=defects[start : start + STRIP_ROWS]).logical_or_(deviation < -DEAD_SD * sd)
    return defects


def places_of(rare: Bool[Tensor, "y x"]) -> Int[Tensor, "d"]:
    """Flat indices of the true pixels of an image that is false nearly everywhere: eight pixels are looked at as one word."""
    flat = rare.reshape(-1)
    whole = len(flat) // WORD * WORD
    words = torch.nonzero(flat[:whole].view(torch.int64))
    pixels = (words * WORD + torch.arange(WORD, device=flat.device)).flatten()
    return torch.cat((pixels[flat[pixels]], whole + torch.nonzero(flat[whole:])[:, 0]))


def choose_substitutes(
    defects: Bool[Tensor, "y x"], places: Int[Tensor, "d"], frames: int, generator: torch.Generator
) -> Int[Tensor, "frames d"]:
    """Flat index of a good pixel for each defect (whose flat indices are the places), drawn anew for each frame: within 5 pixels, further off in large
    defects, anywhere in the end (itself where no pixel is good)."""
    height, width = defects.shape
    rows, columns = places // width, places % width
    if not len(places) or len(places) == defects.numel():
        return places.repeat(frames, 1)
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


def _surroundings(image: Float[Tensor, "y x"]) -> Float[Tensor, "blocks x"]:
    """For each row of blocks, mean of 3 x 3 blocks about each column's; the outermost blocks have fewer neighbours."""
    blocks = torch.nn.functional.avg_pool2d(image[None], BLOCK, ceil_mode=True)
    means = torch.nn.functional.avg_pool2d(blocks, 3, stride=1, padding=1, count_include_pad=False)[0]
    return means.repeat_interleave(BLOCK, dim=1)[:, : image.shape[1]]
