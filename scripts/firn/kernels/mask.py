"""Soft masks: 1 inside, 0 outside, a raised-cosine edge that lies outside the given radius or region.

Convention: the centre is index `n // 2`, distances are in pixels between pixel centres.
"""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor


def soft_sphere(n: int, radius_px: float, edge_px: float, device: torch.device | str = "cpu") -> Float[Tensor, "n n n"]:
    """Ball `(n, n, n)`: 1 up to radius_px, falling to 0 at radius_px + edge_px."""
    return _cosine_edge(centre_distance((n, n, n), device) - radius_px, edge_px)


def soft_disc(n: int, radius_px: float, edge_px: float, device: torch.device | str = "cpu") -> Float[Tensor, "n n"]:
    """Disc `(n, n)`: 1 up to radius_px, falling to 0 at radius_px + edge_px."""
    return _cosine_edge(centre_distance((n, n), device) - radius_px, edge_px)


def centre_distance(shape: tuple[int, ...], device: torch.device | str = "cpu") -> Float[Tensor, "..."]:
    """Distance in pixels of each pixel from index `n // 2`."""
    axes = [torch.arange(n, device=device, dtype=torch.float32) - n // 2 for n in shape]
    return torch.linalg.vector_norm(torch.stack(torch.meshgrid(*axes, indexing="ij")), dim=0)


def soften(binary: Bool[Tensor, "..."], edge_px: float, dilate_px: float = 0.0) -> Float[Tensor, "..."]:
    """The region, grown by dilate_px, with a cosine edge of edge_px beyond it; distances are Euclidean."""
    region = binary.cpu().numpy()
    soft = torch.zeros(region.shape)
    if region.any():
        part = _bounding_box(region, reach=math.ceil(dilate_px + edge_px) + 1)
        distance = ndimage.distance_transform_edt(~region[part]).astype(np.float32)
        soft[part] = _cosine_edge(torch.from_numpy(distance) - dilate_px, edge_px)
    return soft.to(binary.device)


def mask_from_map(
    volume: Float[Tensor, "z y x"], threshold: float, dilate_px: float, soft_px: float, components: int | None = 1
) -> Float[Tensor, "z y x"]:
    """Soft mask of what is denser than the threshold: the largest connected components, holes filled, grown, softened.

    components: how many connected regions to keep, None for all. A threshold that nothing exceeds gives an empty mask.
    """
    region = largest_components(volume > threshold, components)
    filled = torch.from_numpy(ndimage.binary_fill_holes(region.cpu().numpy())).to(volume.device)
    return soften(filled, soft_px, dilate_px)


def largest_components(binary: Bool[Tensor, "..."], components: int | None = 1) -> Bool[Tensor, "..."]:
    """The given number of largest face-connected regions; all of them when components is None."""
    if components is None:
        return binary
    labels, count = ndimage.label(binary.cpu().numpy())
    if count <= components:
        return binary
    sizes = np.bincount(labels.reshape(-1))[1:]
    kept = 1 + np.argsort(sizes, kind="stable")[::-1][:components]
    return torch.from_numpy(np.isin(labels, kept)).to(binary.device)


def solvent_threshold(volume: Float[Tensor, "n n n"]) -> float:
    """Density that parts molecule from solvent in a low-passed map, low enough to keep its weak parts.

    Half-way between the solvent's level and Otsu's threshold inside the inscribed sphere, and at least four standard
    deviations of the solvent (by quantiles, outside 0.9 of that sphere's radius) above its level.
    Source: Otsu, IEEE Trans. SMC 9, 62 (1979).
    """
    n = volume.shape[-1]
    radius = centre_distance(tuple(volume.shape), volume.device) / (n / 2)
    solvent = volume[(radius > 0.9) & (radius <= 1.0)].double().cpu().numpy()
    low, level, high = np.quantile(solvent, [0.1587, 0.5, 0.8413])
    inside = volume[radius <= 1.0].double().cpu().numpy()
    return float(max(level + 0.5 * (_otsu(inside) - level), level + 4 * (high - low) / 2))


def _otsu(values: np.ndarray, bins: int = 512) -> float:
    counts, edges = np.histogram(values, bins=bins)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1]
    above = below[-1] + counts[-1] - below
    sums = np.cumsum(counts * centres)
    means_below = sums[:-1] / np.maximum(below, 1)
    means_above = (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    return float(edges[1 + np.argmax(below * above * (means_above - means_below) ** 2)])


def _cosine_edge(beyond_px: Tensor, edge_px: float) -> Tensor:
    if edge_px <= 0:
        return (beyond_px <= 0).float()
    return 0.5 + 0.5 * torch.cos(torch.pi * (beyond_px / edge_px).clamp(0, 1))


def _bounding_box(region: np.ndarray, reach: int) -> tuple[slice, ...]:
    spans = []
    for axis, size in enumerate(region.shape):
        along = np.flatnonzero(region.any(axis=tuple(other for other in range(region.ndim) if other != axis)))
        spans.append(slice(max(int(along[0]) - reach, 0), min(int(along[-1]) + reach + 1, size)))
    return tuple(spans)
