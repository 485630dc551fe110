"""Changes of the box of maps and images that keep its origin at index `n // 2`."""

import torch
from jaxtyping import Float
from torch import Tensor


def crop_or_pad(volume: Float[Tensor, "n n n"], side: int) -> Float[Tensor, "m m m"]:
    """The map in a box of another side: cut, or surrounded by zeros; the origin moves from `n // 2` to `side // 2`."""
    n = volume.shape[-1]
    shared = min(n, side)
    source, target = (_span(length, shared) for length in (n, side))
    boxed = volume.new_zeros(side, side, side)
    boxed[target, target, target] = volume[source, source, source]
    return boxed


def crop_or_pad_images(images: Float[Tensor, "b n n"], side: int) -> Float[Tensor, "b m m"]:
    """Images in a box of another side: cut, or surrounded by zeros; the origin moves from `n // 2` to `side // 2`."""
    n = images.shape[-1]
    shared = min(n, side)
    source, target = (_span(length, shared) for length in (n, side))
    boxed = images.new_zeros(len(images), side, side)
    boxed[:, target, target] = images[:, source, source]
    return boxed


def mirror(volume: Float[Tensor, "n n n"]) -> Float[Tensor, "n n n"]:
    """The map of the other hand: z to -z about the origin; for even n the plane at -n/2, its own mirror, stays."""
    flipped = torch.flip(volume, dims=(0,))
    return torch.roll(flipped, 1, dims=0) if volume.shape[0] % 2 == 0 else flipped


def _span(length: int, shared: int) -> slice:
    start = length // 2 - shared // 2
    return slice(start, start + shared)
