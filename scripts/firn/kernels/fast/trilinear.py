"""Trilinear reading of half spectra and its adjoint, compiled for the CPU: no tensor of points, weights or neighbours is ever made.

Convention: as in kernels/spectrum, in units of one step of the spectrum's layout; points are frames `(b, 3, 3)` times zyx places
`(m, 3)`. A table is a half spectrum `(d, d, h, 2)` of real and imaginary parts, zero frequency at `(d // 2, d // 2, 0)`; sums are in
the rfft layout.
"""

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from firn.kernels.fast.compiled import compiled, in_parts

ZERO, ONE = np.float32(0), np.float32(1)
FIRST, SECOND, THIRD = np.uintp(1), np.uintp(2), np.uintp(3)


def read(table: Float[Tensor, "d d h 2"], frames: Float[Tensor, "b 3 3"], places: Float[Tensor, "m 3"]) -> Complex[Tensor, "b m"]:
    """Values at points; zero where a neighbour would lie beyond the table."""
    out, (d, _, h, _) = torch.empty(len(frames), 2 * len(places)), table.shape
    flat, turns, where = (_array(part) for part in (table.view(-1), frames, places))
    found = out.numpy()
    if len(frames) > 1:
        in_parts(lambda first, end: _read(flat, turns[first:end], where, found[first:end], d, h), len(frames))
    else:
        line = found.reshape(1, -1)
        in_parts(lambda first, end: _read(flat, turns, where[first:end], line[:, 2 * first : 2 * end], d, h), len(places))
    return torch.view_as_complex(out.unflatten(1, (-1, 2)))


def score(
    table: Float[Tensor, "d d h 2"],
    frames: Float[Tensor, "b c 3 3"],
    places: Float[Tensor, "m 3"],
    rows: Float[Tensor, "b t m2"],
    powers: Float[Tensor, "b m"],
    wanted: tuple[Bool[Tensor, "b c"], Bool[Tensor, "b t"]],
    slices_: Float[Tensor, "b k m2"],
) -> tuple[Float[Tensor, "b t c"], Float[Tensor, "b c"]]:
    """Products of slices with each row of their image, and sums of powers times their squares; zero where not wanted.

    slices_: gets the slices if k is c, as real and imaginary part of each point; else room for one per image will do.
    """
    cross, norms = torch.zeros(len(frames), rows.shape[1], frames.shape[1]), torch.zeros(frames.shape[:2])
    inputs = [_array(part) for part in (table.view(-1), frames, places, rows, powers)]
    outputs = *(part.contiguous().numpy() for part in wanted), slices_.numpy(), cross.numpy(), norms.numpy()
    in_parts(lambda first, end: _score(*inputs, *outputs, table.shape[0], table.shape[2], first, end), len(frames))
    return cross, norms


def symmetrise(
    sums: Float[Tensor, "d d h 2"], weights: Float[Tensor, "d d h"], operators: Float[Tensor, "g 3 3"]
) -> tuple[Float[Tensor, "d d h 2"], Float[Tensor, "d d h"]]:
    """Means over the operators of tables of sums and of weights, at the points of the ball that fits in both; zero elsewhere."""
    out, out_weights = torch.zeros_like(sums), torch.zeros_like(weights)
    inputs = [_array(part) for part in (sums.view(-1), weights.view(-1), operators)]
    outputs = out.numpy(), out_weights.numpy()
    in_parts(lambda first, end: _symmetrise(*inputs, *outputs, *weights.shape[1:], first, end), len(weights))
    return out, out_weights


def add_(
    sum_: Complex[Tensor, "d d h"],
    weight_: Float[Tensor, "d d h"],
    values: Complex[Tensor, "b m"],
    weights: Float[Tensor, "b m"],
    frames: Float[Tensor, "b 3 3"],
    places: Float[Tensor, "m 3"],
) -> None:
    """Add values and weights to the neighbours of points. Each thread fills planes of its own: sums do not depend on how many there are."""
    sums = torch.view_as_real(sum_).view(-1).numpy(), weight_.view(-1).numpy()
    parts = [_array(part) for part in (torch.view_as_real(values.resolve_conj()), weights, frames, places)]
    in_parts(lambda first, end: _add_(*sums, *parts, sum_.shape[0], sum_.shape[2], first, end), sum_.shape[0])


def _array(values: Tensor) -> np.ndarray:
    return values.float().contiguous().numpy()


@compiled
def _unpacked(frame):  # type: ignore[no-untyped-def]
    """The numbers of a frame, row by row, which no store of a result can change: they stay in registers."""
    return frame[0, 0], frame[0, 1], frame[0, 2], frame[1, 0], frame[1, 1], frame[1, 2], frame[2, 0], frame[2, 1], frame[2, 2]


@compiled
def _cell(turn, pz, py, px, centre):  # type: ignore[no-untyped-def]
    """(lowest neighbour zyx in the table, how far on from it zyx, whose mate it is: -1 or 1) of an unpacked frame times a place."""
    zz, zy, zx, yz, yy, yx, xz, xy, xx = turn
    x = xz * pz + xy * py + xx * px
    side = -ONE if x < 0 else ONE
    z, y, x = (zz * pz + zy * py + zx * px) * side + centre, (yz * pz + yy * py + yx * px) * side + centre, x * side
    k, j, i = np.int64(np.floor(z)), np.int64(np.floor(y)), np.int64(x)
    return k, j, i, z - np.float32(k), y - np.float32(j), x - np.float32(i), side


@compiled
def _slice(table, frame, places, out_, d, h):  # type: ignore[no-untyped-def]
    """Fill a row of `2 m` numbers."""
    turn, row, plane = _unpacked(frame), np.uintp(2 * h), np.uintp(2 * h * d)
    for m in range(places.shape[0]):
        k, j, i, z, y, x, side = _cell(turn, places[m, 0], places[m, 1], places[m, 2], np.float32(d // 2))
        if not (0 <= k < d - 1 and 0 <= j < d - 1 and i < h - 1):
            out_[2 * m] = out_[2 * m + 1] = ZERO
            continue
        ll, lh, hl, hh = (ONE - z) * (ONE - y), (ONE - z) * y, z * (ONE - y), z * y
        p = np.uintp(k) * plane + np.uintp(j) * row + np.uintp(2 * i)
        q, r, s = p + row, p + plane, p + plane + row
        real = ll * table[p] + lh * table[q] + hl * table[r] + hh * table[s]
        imaginary = ll * table[p + FIRST] + lh * table[q + FIRST] + hl * table[r + FIRST] + hh * table[s + FIRST]
        next_real = ll * table[p + SECOND] + lh * table[q + SECOND] + hl * table[r + SECOND] + hh * table[s + SECOND]
        next_imaginary = ll * table[p + THIRD] + lh * table[q + THIRD] + hl * table[r + THIRD] + hh * table[s + THIRD]
        out_[2 * m] = real * (ONE - x) + next_real * x
        out_[2 * m + 1] = (imaginary * (ONE - x) + next_imaginary * x) * side


@compiled
def _read(table, frames, places, out_, d, h):  # type: ignore[no-untyped-def]
    """Fill rows of `2 m` numbers, one for each frame."""
    for b in range(len(frames)):
        _slice(table, frames[b], places, out_[b], d, h)


@compiled
def _score(table, frames, places, rows, powers, frame_wanted, row_wanted, slices_, cross_, norms_, d, h, first, end):  # type: ignore[no-untyped-def]
    """Score the images first ... end - 1."""
    for b in range(first, end):
        for c in range(frames.shape[1]):
            if not frame_wanted[b, c]:
                continue
            found = slices_[b, c if c < slices_.shape[1] else 0]
            _slice(table, frames[b, c], places, found, d, h)
            norm = ZERO
            for m in range(places.shape[0]):
                norm += powers[b, m] * (found[2 * m] * found[2 * m] + found[2 * m + 1] * found[2 * m + 1])
            norms_[b, c] = norm
            for t in range(rows.shape[1]):
                if row_wanted[b, t]:
                    total, row = ZERO, rows[b, t]
                    for m in range(row.shape[0]):
                        total += row[m] * found[m]
                    cross_[b, t, c] = total


@compiled
def _symmetrise(sums, weights, operators, out_, out_weights_, d, h, first, end):  # type: ignore[no-untyped-def]
    """Fill the planes first ... end - 1."""
    half, centre, reach = d // 2, np.float32(d // 2), (d // 2 - 1) ** 2
    share = ONE / np.float32(operators.shape[0])
    for plane in range(first, end):
        for row in range(d):
            for column in range(h):
                pz, py, px = plane - half, row - half, column
                if pz * pz + py * py + px * px > reach:
                    continue
                pz, py, px = np.float32(pz), np.float32(py), np.float32(px)
                real, imaginary, weight = ZERO, ZERO, ZERO
                for g in range(operators.shape[0]):
                    x = operators[g, 2, 0] * pz + operators[g, 2, 1] * py + operators[g, 2, 2] * px
                    side = -ONE if x < 0 else ONE
                    z = (operators[g, 0, 0] * pz + operators[g, 0, 1] * py + operators[g, 0, 2] * px) * side + centre
                    y = (operators[g, 1, 0] * pz + operators[g, 1, 1] * py + operators[g, 1, 2] * px) * side + centre
                    x *= side
                    k, j, i = np.int64(np.floor(z)), np.int64(np.floor(y)), np.int64(x)
                    z, y, x = z - np.float32(k), y - np.float32(j), x - np.float32(i)
                    for corner in range(8):
                        part = (z if corner & 4 else ONE - z) * (y if corner & 2 else ONE - y) * (x if corner & 1 else ONE - x)
                        if part > 0:
                            p = (np.uintp(k + (corner >> 2)) * np.uintp(d) + np.uintp(j + ((corner >> 1) & 1))) * np.uintp(h)
                            p += np.uintp(i + (corner & 1))
                            real += part * sums[SECOND * p]
                            imaginary += part * sums[SECOND * p + FIRST] * side
                            weight += part * weights[p]
                out_[plane, row, column, 0], out_[plane, row, column, 1] = real * share, imaginary * share
                out_weights_[plane, row, column] = weight * share


@compiled
def _add_(sum_, weight_, values, weights, frames, places, d, h, first, end):  # type: ignore[no-untyped-def]
    """Fill the planes first ... end - 1, counted from the lowest frequency."""
    half, centre = d // 2, np.float32(d // 2)
    for b in range(frames.shape[0]):
        turn = _unpacked(frames[b])
        for m in range(places.shape[0]):
            k, j, i, z, y, x, side = _cell(turn, places[m, 0], places[m, 1], places[m, 2], centre)
            real, imaginary, weight = values[b, m, 0], values[b, m, 1] * side, weights[b, m]
            for corner in range(4):
                plane, row = k + (corner >> 1), j + (corner & 1)
                if not (first <= plane < end and 0 <= row < d and i < h):
                    continue
                share = (z if corner > 1 else ONE - z) * (y if corner & 1 else ONE - y)
                plane, row = plane - half if plane >= half else plane - half + d, row - half if row >= half else row - half + d
                p = (np.uintp(plane) * np.uintp(d) + np.uintp(row)) * np.uintp(h) + np.uintp(i)
                low, high = share * (ONE - x), share * x
                sum_[SECOND * p] += low * real
                sum_[SECOND * p + FIRST] += low * imaginary
                weight_[p] += low * weight
                if i + 1 < h:
                    sum_[SECOND * p + SECOND] += high * real
                    sum_[SECOND * p + THIRD] += high * imaginary
                    weight_[p + FIRST] += high * weight
