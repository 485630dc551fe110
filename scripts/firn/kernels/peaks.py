"""Peaks of score maps: local maxima, separation, sub-pixel places.

Convention: points are yx in pixels, pixel centres are integers.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def local_maxima(scores: Float[Tensor, "y x"], allowed: Bool[Tensor, "y x"], floor: float) -> Int[Tensor, "p 2"]:
    """Pixels yx that are allowed, above the floor and not below any of their eight neighbours, best first."""
    around = torch.nn.functional.max_pool2d(scores[None], kernel_size=3, stride=1, padding=1)[0]
    points = torch.nonzero((scores >= around) & allowed & (scores > floor))
    order = torch.argsort(scores[points[:, 0], points[:, 1]], descending=True, stable=True)
    return points[order]


def separate(points: Float[Tensor, "p 2"], distance: float, limit: int) -> Int[Tensor, "k"]:
    """Indices of the points kept when, best first, each removes all others closer than distance; at most limit of them."""
    side, square = max(distance, 1e-9), distance**2
    cells: dict[tuple[int, int], list[list[float]]] = {}
    kept: list[int] = []
    for number, place in enumerate(points.tolist()):
        if len(kept) >= limit:
            break
        row, column = int(place[0] // side), int(place[1] // side)
        near = (cells.get((row + down, column + across), ()) for down in (-1, 0, 1) for across in (-1, 0, 1))
        if all((place[0] - y) ** 2 + (place[1] - x) ** 2 >= square for cell in near for y, x in cell):
            kept.append(number)
            cells.setdefault((row, column), []).append(place)
    return torch.tensor(kept, dtype=torch.long, device=points.device)


def refine_maxima(scores: Float[Tensor, "y x"], points: Int[Tensor, "p 2"]) -> Float[Tensor, "p 2"]:
    """Sub-pixel places of maxima, by a parabola along each axis; a point on the border stays where it is."""
    y, x = points.unbind(-1)
    height, width = scores.shape
    offsets = torch.stack(
        (
            _vertex(scores[(y - 1).clamp(min=0), x], scores[y, x], scores[(y + 1).clamp(max=height - 1), x]),
            _vertex(scores[y, (x - 1).clamp(min=0)], scores[y, x], scores[y, (x + 1).clamp(max=width - 1)]),
        ),
        dim=-1,
    )
    border = torch.stack(((y == 0) | (y == height - 1), (x == 0) | (x == width - 1)), dim=-1)
    return points.to(scores.dtype) + torch.where(border, 0.0, offsets)


def _vertex(before: Tensor, middle: Tensor, after: Tensor) -> Tensor:
    """Offset in [-1/2, 1/2] of the vertex of the parabola through three values at -1, 0, 1."""
    curvature = before - 2 * middle + after
    return torch.where(curvature < 0, 0.5 * (before - after) / curvature.clamp(max=-1e-12), 0.0).clamp(-0.5, 0.5)
