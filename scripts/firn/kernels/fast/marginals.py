"""Scores and their marginals in one go on a GPU: the scores of all shifts and projections are never written to memory.

Each program takes some images with all their shifts, and a tile of projections. It multiplies them on tensor cores (half precision, single
precision sums), turns cross terms into tempered scores with the norms and the prior, and keeps sums of exponentials: over shifts for each
projection, over the tile's projections for each shift, relative to the largest score of the tile so far. What tiles found is then joined.
Definition: score_halves of kernels/score.py.
"""

import inspect
import math

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from firn.kernels.half_precision import MULTIPLE, HalfLines

ROWS, NODES = 128, 64
SHIFTS = (64, 32, 16)
STAGES, WARPS = 3, 4


def half_marginals(
    rows: HalfLines, columns: HalfLines, norms: Float[Tensor, "b g"], shift_prior: Float[Tensor, "b t"], temper: float, scaled: bool
) -> tuple[Float[Tensor, "b g"], Float[Tensor, "b t"], Float[Tensor, " b"]]:
    """(probabilities of projections, of shifts, log of the sum of all exponentials); see score_halves."""
    images, shifts, depth = rows.values.shape
    nodes, at_once = len(columns.values), shifts_at_once(shifts)
    tiles, steps = triton.cdiv(nodes, NODES), triton.cdiv(shifts, at_once)
    by_node, by_shift, tops = (norms.new_empty(images, *shape) for shape in ((nodes,), (shifts, tiles), (steps, tiles)))
    grid = tiles, triton.cdiv(images, ROWS // at_once)
    inputs = [part.contiguous() for part in (rows.values, rows.scales, columns.values, columns.scales, norms, shift_prior)]
    numbers = images, shifts, nodes, depth, temper / math.log(2)
    shape = {"SCALED": scaled, "IMAGES": ROWS // at_once, "SHIFTS": at_once, "NODES": NODES, "DEPTH": MULTIPLE}
    with torch.cuda.device_of(norms):  # Triton launches on torch's current device, whichever its tensors are on
        _marginals[grid](*inputs, by_node, by_shift, tops, *numbers, **shape, num_warps=WARPS, num_stages=STAGES)
    last, top = tops[:, -1], tops[:, -1].amax(dim=1, keepdim=True)
    share = torch.exp2(tops - top[:, None]).repeat_interleave(at_once, dim=1)[:, :shifts]
    shift_sums = (by_shift * share).sum(2)
    node_sums = by_node * torch.exp2(last - top).repeat_interleave(NODES, dim=1)[:, :nodes]
    total = node_sums.sum(1, keepdim=True)
    return node_sums / total, shift_sums / total, (top + torch.log2(total))[:, 0] * math.log(2)


def shifts_at_once(shifts: int) -> int:
    """Shifts of an image that one product takes: the power of two that wastes fewest rows, the larger of equals."""
    return min(SHIFTS, key=lambda count: triton.cdiv(shifts, count) * count)


def _tile(  # type: ignore[no-untyped-def]
    rows, row_scales, columns, column_scales, norms, prior, by_node, by_shift, tops,
    images, shifts, nodes, depth, temper,
    SCALED: tl.constexpr, IMAGES: tl.constexpr, SHIFTS: tl.constexpr, NODES: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """One tile of projections against IMAGES images; scores in units of log 2."""
    tile, tiles, steps = tl.program_id(0), tl.num_programs(0), tl.cdiv(shifts, SHIFTS)
    image = tl.program_id(1) * IMAGES + tl.arange(0, IMAGES)
    node = tile * NODES + tl.arange(0, NODES)
    row_image = tl.program_id(1) * IMAGES + tl.arange(0, IMAGES * SHIFTS) // SHIFTS
    row_shift = tl.arange(0, IMAGES * SHIFTS) % SHIFTS
    part = tl.arange(0, DEPTH)
    here = image < images
    both = here[:, None] & (node < nodes)[None, :]
    norm = tl.load(norms + image[:, None] * nodes + node[None, :], mask=both, other=0.0)
    column_scale = tl.load(column_scales + node, mask=node < nodes, other=0.0)
    row_scale = tl.load(row_scales + image, mask=here, other=0.0)
    scale = row_scale[:, None] * column_scale[None, :]
    right = columns + node[None, :] * depth + part[:, None]
    top = tl.full((IMAGES,), -1e30, tl.float32)
    total = tl.zeros((IMAGES, NODES), tl.float32)
    for step in range(steps):
        first = step * SHIFTS
        left = rows + (row_image * shifts + first + row_shift)[:, None] * depth + part[None, :]
        real = (row_image < images) & (first + row_shift < shifts)
        cross = tl.zeros((IMAGES * SHIFTS, NODES), tl.float32)
        for start in range(0, depth, DEPTH):
            a = tl.load(left + start, mask=real[:, None], other=0.0)
            b = tl.load(right + start, mask=(node < nodes)[None, :], other=0.0)
            cross = tl.dot(a, b, cross)
        score = tl.reshape(cross, (IMAGES, SHIFTS, NODES)) * scale[:, None, :]
        if SCALED:
            score = score - norm[:, None, :]
        else:
            score = tl.maximum(score, 0.0)
            score = score * score / tl.maximum(4.0 * norm, 2e-30)[:, None, :]
        shift = first + tl.arange(0, SHIFTS)
        known = here[:, None] & (shift < shifts)[None, :]
        likely = tl.load(prior + image[:, None] * shifts + shift[None, :], mask=known, other=0.0)
        score = (score + likely[:, :, None]) * temper
        score = tl.where(known[:, :, None] & (node < nodes)[None, None, :], score, -1e30)
        highest = tl.maximum(top, tl.max(tl.max(score, axis=1), axis=1))
        mass = tl.exp2(score - highest[:, None, None])
        total = total * tl.exp2(top - highest)[:, None] + tl.sum(mass, axis=1)
        top = highest
        tl.store(by_shift + (image[:, None] * shifts + shift[None, :]) * tiles + tile, tl.sum(mass, axis=2), mask=known)
        tl.store(tops + (image * steps + step) * tiles + tile, top, mask=here)
    tl.store(by_node + image[:, None] * nodes + node[None, :], total, mask=both)


_marginals = triton.jit(inspect.unwrap(_tile))
